// What is known of the box under the pointer. Stays inside the widget.

import { milliseconds } from "./colors.js";
import { element, numbered } from "./elements.js";

const MOST_FACTS = 14;
const AWAY = 14; // pixels from the pointer

export class Tooltip {
  constructor(root) {
    this.root = root;
    this.element = element("div", { class: "wbg-tip", role: "tooltip", hidden: true });
    root.append(this.element);
  }

  hide() {
    this.element.hidden = true;
  }

  show({ title, name, facts, note }, event) {
    const shown = facts.slice(0, MOST_FACTS);
    const more = facts.length - shown.length;
    this.element.replaceChildren(
      element("b", {}, title),
      ...(name && name !== title ? [element("div", { class: "wbg-name" }, name)] : []),
      element("dl", {}, ...shown.flatMap(([key, value]) => [element("dt", {}, key), element("dd", {}, value)])),
      ...(more > 0 ? [element("div", { class: "wbg-quiet" }, `and ${more} more`)] : []),
      ...(note ? [element("div", { class: "wbg-quiet" }, note)] : []));
    this.element.hidden = false;
    this.place(event);
  }

  place(event) {
    const room = this.root.getBoundingClientRect();
    const { offsetWidth: width, offsetHeight: height } = this.element;
    const [x, y] = [event.clientX - room.left, event.clientY - room.top];
    const left = x + AWAY + width <= room.width ? x + AWAY : Math.max(0, x - AWAY - width);
    const below = y + AWAY + height <= room.height;
    const top = below ? y + AWAY : Math.max(0, Math.min(y - AWAY - height, room.height - height));
    Object.assign(this.element.style, { left: `${left}px`, top: `${top}px` });
  }
}

// What the tooltip says of an item. linked: the boxes of the other pane that belong to it.
export function describe(pane, item, other, linked) {
  const facts = item.boxes.length === 1 ? factsOf(pane.boxes[item.boxes[0]]) : summary(pane, item);
  if (linked.length) facts.push([other.title, linkedWords(other, linked)]);
  const box = pane.boxes[item.boxes[0]];
  const name = { box: box.name, folder: item.key.split("\u0001").slice(1).join("/"), group: "" }[item.kind];
  return { title: item.full, name, facts, note: item.kind === "box" ? "" : "Double click unfolds it." };
}

function factsOf(box) {
  const facts = [...(box.facts ?? [])].map(([key, value]) => [key, value]);
  const known = new Set(facts.map(([key]) => key.toLowerCase()));
  const add = (key, value) => value !== undefined && !known.has(key) && facts.push([key, value]);
  add("kind", box.kind);
  add("precision", box.precision);
  add("time", box.time_ms === undefined ? undefined : milliseconds(box.time_ms));
  add("subgraph", box.part);
  return facts;
}

function summary(pane, item) {
  const counts = new Map();
  for (const box of item.boxes) counts.set(pane.boxes[box].label, (counts.get(pane.boxes[box].label) ?? 0) + 1);
  const sorted = [...counts].sort((a, b) => b[1] - a[1]);
  const facts = sorted.slice(0, 8).map(([label, count]) => [label, `× ${count}`]);
  const rest = item.boxes.length - sorted.slice(0, 8).reduce((sum, pair) => sum + pair[1], 0);
  return rest ? [...facts, ["others", `× ${rest}`]] : facts;
}

function linkedWords(pane, boxes) {
  const labels = boxes.slice(0, 3).map((box) => pane.boxes[box].label);
  return boxes.length > 3 ? `${labels.join(", ")} and ${boxes.length - 3} more` : labels.join(", ");
}

// The same in one sentence, for the ear.
export function spoken(scene, index, isPicked, box) {
  const item = scene.items[index];
  const searched = box !== undefined && item.kind !== "box" ? `${scene.pane.boxes[box].name} in ` : "";
  const words = [searched + item.full, item.kind === "box" ? item.key : "", item.tag, isPicked ? "selected" : ""];
  const arrows = `${numbered(scene.into[index].length, "arrow", "arrows")} in, ${scene.outOf[index].length} out`;
  return `${words.filter(Boolean).join(", ")}; ${arrows}.`;
}
