// The keyboard on a pane: arrow keys walk along arrows and along layers.

const ALIGNED = 30; // world units by which boxes of one layer may differ in height

// The box that an arrow key leads to from this one, or -1.
export function neighbour(scene, index, key) {
  const here = scene.items[index];
  const middle = (item) => item.x + item.width / 2;
  const sideways = (other) => middle(scene.items[other]) - middle(here);
  if (key === "ArrowUp" || key === "ArrowDown") {
    const [edges, end] = key === "ArrowUp" ? [scene.into[index], 0] : [scene.outOf[index], 1];
    const ends = edges.map((edge) => scene.edges[edge][end]);
    return nearest(ends, (other) => Math.abs(sideways(other)) + Math.abs(scene.items[other].y - here.y));
  }
  const side = key === "ArrowLeft" ? -1 : 1;
  const level = here.y + here.height / 2;
  const beside = [...scene.items.keys()].filter((other) => {
    const item = scene.items[other];
    return Math.abs(item.y + item.height / 2 - level) < ALIGNED && side * sideways(other) > 0;
  });
  return nearest(beside, (other) => Math.abs(sideways(other)));
}

function nearest(indices, distance) {
  return indices.reduce((best, index) => (best < 0 || distance(index) < distance(best) ? index : best), -1);
}

// The box nearest to the middle of what is in sight: where the keyboard starts.
export function middleItem(scene, camera, size) {
  const [x, y] = [camera.x + size.width / 2 / camera.scale, camera.y + size.height / 2 / camera.scale];
  return nearest([...scene.items.keys()], (index) => {
    const item = scene.items[index];
    return Math.hypot(item.x + item.width / 2 - x, item.y + item.height / 2 - y);
  });
}

// actions: {walk(key), choose(add), fold(), zoom(factor), fit(), search(), clear()}
export function listenToKeys(canvas, actions) {
  canvas.addEventListener("keydown", (event) => {
    if (event.altKey || event.metaKey || event.ctrlKey) return;
    const action = {
      ArrowUp: () => actions.walk("ArrowUp"), ArrowDown: () => actions.walk("ArrowDown"),
      ArrowLeft: () => actions.walk("ArrowLeft"), ArrowRight: () => actions.walk("ArrowRight"),
      Enter: () => actions.choose(event.shiftKey), " ": () => actions.choose(true), Backspace: actions.fold,
      "+": () => actions.zoom(1.25), "=": () => actions.zoom(1.25), "-": () => actions.zoom(0.8), 0: actions.fit,
      "/": actions.search, Escape: actions.clear,
    }[event.key];
    if (!action) return;
    event.preventDefault();
    event.stopPropagation();
    action();
  });
}
