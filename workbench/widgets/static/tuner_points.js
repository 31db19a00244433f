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

  const showSelected = selecting(model, marks, { id: "trial", mark: "aria-pressed", keys: ["ArrowLeft", "ArrowRight"] });

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

  model.on("change:svg", show);
  show();
}

export default { render };
