// The mouse and fingers on a pane: drag to pan, wheel and pinch to zoom, click, double click, hover.

const CLICK = 4; // pixels a press may move and still be a click

// pane: {canvas, pan(dx, dy), zoom(factor, x, y), click(x, y, event), doubleClick(x, y), hover(x, y, event), leave(),
// wheelRefused()}.
// takesWheel(): whether the wheel alone zooms; with Ctrl it always does.
export function listenToPointer(pane, takesWheel) {
  const { canvas } = pane;
  const fingers = new Map();
  let travelled = 0;
  const spot = (event) => {
    const box = canvas.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  };

  canvas.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    canvas.setPointerCapture(event.pointerId);
    fingers.set(event.pointerId, spot(event));
    if (fingers.size === 1) travelled = 0;
  });
  canvas.addEventListener("pointermove", (event) => {
    const here = spot(event);
    const before = fingers.get(event.pointerId);
    if (!before) {
      pane.hover(...here, event);
      return;
    }
    if (fingers.size === 2) pinch(event.pointerId, here);
    else {
      travelled += Math.hypot(here[0] - before[0], here[1] - before[1]);
      if (travelled <= CLICK) return;
      pane.leave();
      canvas.classList.add("wbg-dragged");
      pane.pan(here[0] - before[0], here[1] - before[1]);
    }
    fingers.set(event.pointerId, here);
  });
  const release = (event) => {
    if (!fingers.delete(event.pointerId)) return;
    canvas.classList.remove("wbg-dragged");
    if (event.type === "pointerup" && !fingers.size && travelled <= CLICK) pane.click(...spot(event), event);
  };
  canvas.addEventListener("pointerup", release);
  canvas.addEventListener("pointercancel", release);
  canvas.addEventListener("pointerleave", () => pane.leave());
  canvas.addEventListener("dblclick", (event) => pane.doubleClick(...spot(event)));
  canvas.addEventListener("wheel", (event) => {
    if (!takesWheel() && !event.ctrlKey && !event.metaKey) {
      pane.wheelRefused();
      return;
    }
    event.preventDefault();
    const pixels = event.deltaY * [1, 16, 400][event.deltaMode];
    const speed = event.ctrlKey && Math.abs(pixels) < 50 ? 0.01 : 0.0018; // a pinch on a touchpad comes in small steps
    pane.zoom(Math.exp(-Math.max(-300, Math.min(300, pixels)) * speed), ...spot(event));
  }, { passive: false });

  function pinch(moving, here) {
    travelled = Infinity;
    const [other] = [...fingers].filter(([id]) => id !== moving).map(([, place]) => place);
    const before = fingers.get(moving);
    const middle = [(here[0] + other[0]) / 2, (here[1] + other[1]) / 2];
    const distance = (place) => Math.max(1, Math.hypot(place[0] - other[0], place[1] - other[1]));
    pane.pan((here[0] - before[0]) / 2, (here[1] - before[1]) / 2);
    pane.zoom(distance(here) / distance(before), ...middle);
  }
}
