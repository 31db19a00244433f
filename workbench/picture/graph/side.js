// One side of a picture, before or after, on its way from boxes and arrows to a scene:
// {pane, text, tree, folded, visible, key, layout, scene}. `text` and `key` tell whether anything changed.

import { paint } from "./colors.js";
import { firstFolding, readFolders, visibleGraph } from "./folding.js";
import { layoutRequest, makeScene, nameItems } from "./scene.js";

const MOST_SHARES = 8;

// tools: {family: of the font, tints: every way of colouring, worker}. old: the side that this one replaces.
export function prepareSide(pane, old, tools) {
  const text = JSON.stringify(pane);
  if (old?.text === text) return old;
  const tree = readFolders(pane);
  const folded = old?.pane.boxes.length ? keepFolded(old, tree) : firstFolding(pane, tree);
  return layOutSide({ pane, text, tree, folded }, old, tools);
}

export async function layOutSide({ pane, text, tree, folded }, old, { family, tints, worker }) {
  const visible = visibleGraph(pane, tree, folded);
  const tags = (boxes) => tints.map((tint) => tint.tagOf(boxes));
  const frames = nameItems(pane, tree, visible, { noun: `${pane.noun}s`, family, tags });
  const request = layoutRequest(visible, frames);
  const key = JSON.stringify(request);
  const layout = old?.key === key ? old.layout : await worker.layOut(request);
  return { pane, text, tree, folded, key, layout, scene: makeScene(pane, tree, visible, frames, layout) };
}

function keepFolded(old, tree) {
  const keys = new Set(tree.folders.map((folder) => folder.key));
  const all = old.tree.groups.size > 0 && old.folded.groups.size === old.tree.groups.size;
  return {
    folders: new Set([...old.folded.folders].filter((key) => keys.has(key))),
    groups: new Set(all ? tree.groups.keys() : [...old.folded.groups].filter((key) => tree.groups.has(key))),
  };
}

// Gives every item its colours and the words under its label.
export function paintSide({ scene, pane }, tint, theme) {
  for (const item of scene.items) {
    const boxes = item.boxes.map((index) => pane.boxes[index]);
    const shares = sharesOf(boxes, tint);
    const color = shares.length === 1 ? shares[0].color : null;
    item.paint = paint(theme, color, color && tint.strengthOf(boxes));
    item.strip = shares.length > 1 && shares.slice(0, MOST_SHARES).map(({ color: one, count }) =>
      ({ color: paint(theme, one).stroke, share: count / boxes.length }));
    item.tag = [item.note, tint.tagOf(boxes)].filter(Boolean).join(" · ");
  }
}

// The colours of these boxes with their counts, in the order they come.
function sharesOf(boxes, tint) {
  const counts = new Map();
  for (const box of boxes) counts.set(tint.colorOf(box), (counts.get(tint.colorOf(box)) ?? 0) + 1);
  return [...counts].map(([color, count]) => ({ color, count }));
}
