// Makes elements of the page: element("button", {class: "x", onclick: f}, "text", child).
export function element(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value !== undefined && value !== false) made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children);
  return made;
}

// "1 node", "1,200 nodes"
export const numbered = (count, one, many) => `${count.toLocaleString("en")} ${count === 1 ? one : many}`;

// Calls once the element stands in the page with a size, before which its styles tell nothing; -> a function that ends
// the waiting.
export function whenShown(shown, callback) {
  const observer = new ResizeObserver(() => {
    if (!shown.clientWidth) return;
    observer.disconnect();
    callback();
  });
  observer.observe(shown);
  return () => observer.disconnect();
}

export function save(name, content, type) {
  const url = URL.createObjectURL(content instanceof Blob ? content : new Blob([content], { type }));
  element("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10000);
}
