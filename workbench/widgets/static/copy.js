// The button CopyButton of browser.py: puts the trait `text` on the clipboard and says so for a moment.
async function copy(text) {
  try {
    return await navigator.clipboard.writeText(text);
  } catch {
    // no https, or the browser refuses: the old way
  }
  const area = Object.assign(document.createElement("textarea"), { value: text });
  document.body.append(area);
  area.select();
  document.execCommand("copy");
  area.remove();
}

function render({ model, el }) {
  const button = document.createElement("button");
  button.className = "jupyter-button wb-button";
  const show = () => {
    button.textContent = model.get("label");
    button.disabled = !model.get("text");
  };
  button.addEventListener("click", async () => {
    await copy(model.get("text"));
    button.textContent = "Copied";
    setTimeout(show, 1200);
  });
  model.on("change", show);
  show();
  el.append(button);
}

export default { render };
