// The plot of PointPlot (tuner_points.py): a picture with a button on each mark; click or arrow keys select.
function render({ model, el }) {
  const box = document.createElement("div");
  box.className = "wb-points";
  box.setAttribute("role", "group");
  box.setAttribute("aria-label", "trials, from the left");
  const picture = document.createElement("div");
  const marks = document.createElement("div");
  box.append(picture, marks);
  el.append(box);

  function showSelected() {
    for (const button of marks.children) {
      const on = button.dataset.trial === model.get("selected");
      button.setAttribute("aria-pressed", String(on));
      button.tabIndex = on ? 0 : -1;
    }
    if (marks.children.length && !marks.querySelector("[tabindex='0']")) marks.children[0].tabIndex = 0;
  }

  function show() {
    const had = marks.contains(document.activeElement) ? document.activeElement.dataset.trial : "";
    picture.innerHTML = model.get("svg");
    const known = new Map([...marks.children].map((button) => [button.dataset.trial, button]));
    const buttons = model.get("spots").map((spot) => {
      const button = known.get(spot.id) ?? document.createElement("button");
      button.className = "wb-spot";
      button.dataset.trial = spot.id;
      button.dataset.lmSuppressShortcuts = "true";
      button.title = spot.label;
      button.setAttribute("aria-label", spot.label);
      button.style.left = `${100 * spot.left}%`;
      button.style.top = `${100 * spot.top}%`;
      return button;
    });
    marks.replaceChildren(...buttons);
    showSelected();
    if (had) marks.querySelector(`[data-trial='${had}']`)?.focus({ preventScroll: true });
  }

  function select(button) {
    model.set("selected", button.dataset.trial);
    model.save_changes();
    button.focus({ preventScroll: true });
  }

  marks.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (button) select(button);
  });
  marks.addEventListener("keydown", (event) => {
    const button = event.target.closest("button");
    const next = {
      ArrowRight: button?.nextElementSibling, ArrowLeft: button?.previousElementSibling,
      Home: marks.firstElementChild, End: marks.lastElementChild,
    }[event.key];
    if (!["ArrowRight", "ArrowLeft", "Home", "End"].includes(event.key)) return;
    event.preventDefault();
    event.stopPropagation();
    if (next) select(next);
  });
  model.on("change:svg", show);
  model.on("change:selected", showSelected);
  show();
}

export default { render };
