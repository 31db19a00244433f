// Accessibility of the widget this element stands in (.wb):
// - keys pressed in it are not taken for JupyterLab's notebook commands ("b" would insert a cell),
// - toggle buttons say whether they are pressed, and fields have the names that their tooltips tell.
function improve(root) {
  for (const control of root.querySelectorAll("button, select, input")) control.dataset.lmSuppressShortcuts = "true";
  for (const button of root.querySelectorAll("button.widget-toggle-button")) {
    const pressed = String(button.classList.contains("mod-active"));
    if (button.getAttribute("aria-pressed") !== pressed) button.setAttribute("aria-pressed", pressed);
  }
  for (const field of root.querySelectorAll("input, select")) {
    const box = field.closest("[title]");
    const name = field.title || box?.title || field.placeholder;
    if (name && field.getAttribute("aria-label") !== name) field.setAttribute("aria-label", name);
  }
}

function render({ el }) {
  let observer;
  let frame = requestAnimationFrame(function attach() {
    const root = el.closest(".wb");
    if (!root) {
      frame = requestAnimationFrame(attach);
      return;
    }
    observer = new MutationObserver(() => improve(root));
    observer.observe(root, { subtree: true, childList: true, attributes: true, attributeFilter: ["class"] });
    improve(root);
  });
  return () => {
    cancelAnimationFrame(frame);
    observer?.disconnect();
  };
}

export default { render };
