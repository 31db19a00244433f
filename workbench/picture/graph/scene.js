// What a pane shows: boxes with their words, sizes and places, and a fast way to find those in sight.

const BAND = 400; // items are found by horizontal bands of this height
const LABEL_WIDTH = 200;
const PAD_X = 12;
export const FONT = { label: 12, tag: 10, title: 11 };
export const FRAME_HEAD = 22;
export const RADIUS = { engine: 5, native: 0, variable: 18 }; // of corners: who runs a box is told by its shape

let pencil;
const widths = new Map();

export function textWidth(text, size, family, weight = "") {
  const font = `${weight} ${size}px ${family}`.trim();
  const key = `${font} ${text}`;
  if (!widths.has(key)) {
    pencil ??= document.createElement("canvas").getContext("2d");
    pencil.font = font;
    widths.set(key, pencil.measureText(text).width);
  }
  return widths.get(key);
}

// Names lose their middle, as their ends tell them apart; several words lose the last ones.
export function shortened(text, room, size, family) {
  if (textWidth(text, size, family) <= room) return text;
  const cut = (kept) => {
    const head = text.includes(" ") ? kept : kept >> 1;
    return `${text.slice(0, head)}…${text.slice(text.length - (kept - head))}`;
  };
  let [low, high] = [0, text.length];
  while (low < high) {
    const half = (low + high + 1) >> 1;
    if (textWidth(cut(half), size, family) <= room) low = half;
    else high = half - 1;
  }
  return cut(low);
}

// Gives every item its label, the note that stands under it, and its size. tags(boxes): all tags they may carry.
export function nameItems(pane, tree, visible, { noun, tags, family }) {
  for (const item of visible.items) {
    const boxes = item.boxes.map((box) => pane.boxes[box]);
    item.full = item.kind === "folder" ? item.title : joinedLabel(boxes);
    item.label = shortened(item.full, LABEL_WIDTH, FONT.label, family);
    item.note = item.kind === "box" ? "" : noteOf(tree, item, noun);
    item.side = sideOf(boxes);
    const below = tags(boxes).map((tag) => [item.note, tag].filter(Boolean).join(" · "));
    const widest = below.reduce((most, text) => Math.max(most, textWidth(text, FONT.tag, family)), 0);
    const badge = item.kind === "box" ? 0 : 18;
    item.width = Math.ceil(Math.max(44, textWidth(item.label, FONT.label, family) + badge, widest + badge) + 2 * PAD_X);
    item.height = below.some((text) => text) ? 36 : 28;
  }
  return visible.frames.map(({ folder, parent }) => {
    const title = tree.folders[folder].title;
    return { folder, parent, title, width: Math.ceil(textWidth(title, FONT.title, family)) + 20 };
  });
}

function joinedLabel(boxes) {
  const labels = boxes.map((box) => box.label);
  return labels.length > 5 ? `${labels.slice(0, 4).join(" + ")} + …` : labels.join(" + ");
}

function noteOf(tree, item, noun) {
  const alike = item.kind === "folder" ? tree.folders[item.index].alike : 1;
  return `${item.boxes.length.toLocaleString("en")} ${noun}${alike > 1 ? ` · ×${alike} alike` : ""}`;
}

function sideOf(boxes) {
  const sides = new Set(boxes.map((box) => box.side ?? "engine"));
  return sides.size === 1 ? [...sides][0] : "engine";
}

export function layoutRequest(visible, frames) {
  return {
    width: visible.items.map((item) => item.width),
    height: visible.items.map((item) => item.height),
    parent: visible.items.map((item) => item.frame),
    frames: frames.map(({ parent, width }) => ({ parent, width })),
    edges: visible.edges,
  };
}

export function makeScene(pane, tree, visible, frames, layout) {
  const items = visible.items.map((item, index) => ({ ...item, x: layout.x[index], y: layout.y[index] }));
  const place = (frame, index) => ({ ...frame, key: tree.folders[frame.folder].key, ...layout.frames[index] });
  const scene = {
    pane, tree, items, itemOf: visible.itemOf, edges: visible.edges, arrows: visible.arrows,
    frames: frames.map(place).filter((_, index) => layout.frames[index]),
    lines: layout.lines, paths: layout.paths, ends: layout.ends,
    width: layout.width, height: layout.height, into: items.map(() => []), outOf: items.map(() => []),
  };
  scene.edges.forEach(([s, t], index) => {
    scene.outOf[s].push(index);
    scene.into[t].push(index);
  });
  scene.bands = makeBands(scene);
  return scene;
}

function makeBands({ items, lines, ends, height }) {
  const bands = Array.from({ length: Math.floor(height / BAND) + 2 }, () => ({ items: [], lines: [], ends: [] }));
  const at = (y) => bands[Math.min(bands.length - 1, Math.max(0, Math.floor(y / BAND)))];
  items.forEach((item, index) => at(item.y).items.push(index));
  ends.forEach(([, y], index) => at(y).ends.push(index));
  for (let line = 0; line < lines.length / 6; line++) {
    const last = Math.floor(Math.max(lines[6 * line + 1], lines[6 * line + 5]) / BAND);
    for (let band = Math.floor(Math.min(lines[6 * line + 1], lines[6 * line + 5]) / BAND); band <= last; band++) {
      bands[Math.max(0, Math.min(band, bands.length - 1))].lines.push(line);
    }
  }
  return bands;
}

// The bands that reach into these heights; one more above, for boxes that begin there.
export function bandsBetween(scene, top, bottom) {
  return scene.bands.slice(Math.max(0, Math.floor(top / BAND) - 1), Math.max(0, Math.floor(bottom / BAND) + 1));
}

export function itemAt(scene, x, y, slack = 0) {
  for (const band of bandsBetween(scene, y - slack, y + slack)) {
    for (const index of band.items) {
      const item = scene.items[index];
      const [right, down] = [x - item.x, y - item.y];
      const isInside = Math.min(right, down) >= -slack && right <= item.width + slack && down <= item.height + slack;
      if (isInside) return index;
    }
  }
  return -1;
}

// The innermost open folder whose title is there.
export function frameHeadAt(scene, x, y) {
  const inside = (frame) => x >= frame.x && x <= frame.x + frame.width && y >= frame.y && y <= frame.y + FRAME_HEAD;
  return scene.frames.reduce((found, frame) => (inside(frame) ? frame : found), null);
}

export function boundsOf(scene, indices) {
  const items = indices.map((index) => scene.items[index]);
  const x = items.reduce((least, item) => Math.min(least, item.x), Infinity);
  const y = items.reduce((least, item) => Math.min(least, item.y), Infinity);
  const right = items.reduce((most, item) => Math.max(most, item.x + item.width), -Infinity);
  const bottom = items.reduce((most, item) => Math.max(most, item.y + item.height), -Infinity);
  return { x, y, width: right - x, height: bottom - y };
}
