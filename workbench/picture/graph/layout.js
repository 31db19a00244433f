// The layout of a whole pane: open folders are frames, each laid out by itself and then a box of the level around it.
// Arrows cross the border of a frame at ports. Pure: it also runs in a worker.

import { BOTTOM, TOP } from "./layering.js";
import { PAD, placeLevel } from "./placed.js";

const ROOT = -1;

// request: {width, height, parent: of every item (a frame or -1), frames: [{parent, width: of its title}],
//     edges: [[s, t]]}
// -> {x, y, frames: [{x, y, width, height} or null], lines: 6 numbers each, paths: [[first, count], ...] and
//     ends: [x, y, 1 down or -1 up] of every edge, width, height, ms}
export function layoutGraph(request) {
  const start = performance.now();
  const up = withoutCycles(request);
  const { levels, routes } = fillLevels(request, up);
  const shown = [...request.frames.keys()].filter((frame) => up.shown[frame]);
  const inner = shown.sort((a, b) => depth(up, b) - depth(up, a));
  for (const frame of [...inner, ROOT]) finishLevel(levels, frame, request);
  return { ...collect(request, levels, routes, inner), ms: performance.now() - start };
}

function depth(up, frame) {
  let steps = 0;
  for (; frame !== ROOT; frame = up.frame[frame]) steps++;
  return steps;
}

// A frame that arrows leave and enter again cannot stand between others from top to bottom: what it holds is laid out
// in the level around it, without a frame.
function withoutCycles({ parent, frames, edges }) {
  const count = parent.length;
  const up = { item: [...parent], frame: frames.map((frame) => frame.parent), shown: frames.map(() => true) };
  for (;;) {
    const bad = onCycles(count + frames.length, edges.map(([s, t]) => siblings(up, count, s, t)))
      .filter((node) => node >= count).map((node) => node - count);
    if (!bad.length) return up;
    for (const frame of bad) {
      up.shown[frame] = false;
      up.item = up.item.map((other) => (other === frame ? up.frame[frame] : other));
      up.frame = up.frame.map((other) => (other === frame ? up.frame[frame] : other));
    }
  }
}

function chain(up, item) {
  const frames = [];
  for (let frame = up.item[item]; frame !== ROOT; frame = up.frame[frame]) frames.push(frame);
  return frames;
}

// The frames around s alone, those around t alone, innermost first, and the innermost around both.
function apart(up, s, t) {
  const [a, b] = [chain(up, s), chain(up, t)];
  let common = ROOT;
  while (a.length && b.length && a[a.length - 1] === b[b.length - 1]) {
    common = a.pop();
    b.pop();
  }
  return [a, b, common];
}

// The two frames or items of one level through which an arrow passes.
function siblings(up, count, s, t) {
  const [a, b] = apart(up, s, t);
  return [a.length ? count + a[a.length - 1] : s, b.length ? count + b[b.length - 1] : t];
}

// What is left after taking away, again and again, whatever nothing leads to or nothing leaves.
function onCycles(count, pairs) {
  const left = new Set(Array(count).keys());
  for (const side of [0, 1]) {
    const degree = new Int32Array(count);
    const onward = Array.from({ length: count }, () => []);
    for (const pair of pairs) {
      if (!left.has(pair[0]) || !left.has(pair[1])) continue;
      degree[pair[1 - side]]++;
      onward[pair[side]].push(pair[1 - side]);
    }
    const free = [...left].filter((node) => !degree[node]);
    while (free.length) {
      const node = free.pop();
      left.delete(node);
      for (const target of onward[node]) if (!--degree[target]) free.push(target);
    }
  }
  return [...left];
}

class Level {
  constructor() {
    this.nodes = []; // {kind: "item", "frame", "in" or "out", id: of the item, frame or source}
    this.edges = [];
    this.places = new Map();
    this.known = new Map();
  }

  node(kind, id) {
    const key = `${kind} ${id}`;
    if (!this.places.has(key)) {
      this.places.set(key, this.nodes.length);
      this.nodes.push({ kind, id });
    }
    return this.places.get(key);
  }

  edge(net, from, to) {
    const [u, v] = [this.node(...from), this.node(...to)];
    const key = `${net} ${u} ${v}`;
    if (!this.known.has(key)) {
      this.known.set(key, this.edges.length);
      this.edges.push({ u, v, net });
    }
    return this.known.get(key);
  }
}

function fillLevels({ frames, edges }, up) {
  const levels = new Map([[ROOT, new Level()]]);
  frames.forEach((_, frame) => up.shown[frame] && levels.set(frame, new Level()));
  up.item.forEach((frame, item) => levels.get(frame).node("item", item));
  up.frame.forEach((around, frame) => up.shown[frame] && levels.get(around).node("frame", frame));
  const routes = edges.map(([s, t]) => route(levels, up, s, t));
  return { levels, routes };
}

// The arrow from s to t as edges of levels: [[frame, edge], ...], the last one reaching t.
function route(levels, up, s, t) {
  const [a, b, common] = apart(up, s, t);
  const steps = [];
  let from = ["item", s];
  for (const frame of a) {
    steps.push([frame, levels.get(frame).edge(s, from, ["out", s])]);
    from = ["frame", frame];
  }
  let around = common;
  for (const frame of b.reverse()) {
    steps.push([around, levels.get(around).edge(s, from, ["frame", frame])]);
    [from, around] = [["in", s], frame];
  }
  steps.push([around, levels.get(around).edge(s, from, ["item", t])]);
  return steps;
}

function finishLevel(levels, frame, { width, height, frames }) {
  const level = levels.get(frame);
  const size = ({ kind, id }) => {
    if (kind === "item") return [width[id], height[id]];
    return kind === "frame" ? [levels.get(id).width, levels.get(id).height] : [0, 0];
  };
  const sizes = level.nodes.map(size);
  const port = (node, net, side) => {
    const { kind, id } = level.nodes[node];
    return kind === "frame" ? levels.get(id).ports.get(`${side} ${net}`) : sizes[node][0] / 2;
  };
  const placed = placeLevel({
    widths: sizes.map((pair) => pair[0]),
    heights: sizes.map((pair) => pair[1]),
    pins: level.nodes.map(({ kind }) => ({ in: TOP, out: BOTTOM })[kind] ?? 0),
    edges: level.edges.map((edge) => ({ ...edge, a: port(edge.u, edge.net, "out"), b: port(edge.v, edge.net, "in") })),
  });
  const title = frame === ROOT ? 0 : frames[frame].width;
  const left = PAD.side + Math.max(0, title - placed.width) / 2;
  Object.assign(level, {
    placed, left, width: Math.max(placed.width, title) + 2 * PAD.side, height: placed.height + PAD.top + PAD.bottom,
    ports: new Map(level.nodes.map(({ kind, id }, node) => [`${kind} ${id}`, left + placed.x[node]])),
  });
}

function collect({ width, height, frames, edges }, levels, routes, inner) {
  const count = width.length;
  const done = { x: new Float64Array(count), y: new Float64Array(count), frames: frames.map(() => null) };
  const root = levels.get(ROOT);
  const corner = new Map([[ROOT, [-root.left, -PAD.top]]]);
  const base = new Map();
  const lines = [];
  for (const frame of [ROOT, ...inner.slice().reverse()]) {
    const level = levels.get(frame);
    const { placed, nodes, left } = level;
    const [x, y] = [corner.get(frame)[0] + left, corner.get(frame)[1] + PAD.top];
    nodes.forEach(({ kind, id }, node) => {
      const spot = [x + placed.x[node], y + placed.y[node]];
      if (kind === "item") [done.x[id], done.y[id]] = spot;
      if (kind === "frame") {
        corner.set(id, spot);
        done.frames[id] = { x: spot[0], y: spot[1], width: levels.get(id).width, height: levels.get(id).height };
      }
    });
    base.set(frame, lines.length / 6);
    for (const [x0, y0, y1, x1, y2, y3] of placed.lines) lines.push(x0 + x, y0 + y, y1 + y, x1 + x, y2 + y, y3 + y);
  }
  const { width: wide, height: high } = root.placed;
  const paths = routes.map((steps) => pathOf(levels, base, steps));
  const ends = routes.map((steps, index) => endOf(levels, steps, paths[index], lines, edges[index][1], done.y, height));
  return { ...done, lines: Float64Array.from(lines), paths, ends, width: wide, height: high };
}

function pathOf(levels, base, steps) {
  return steps.flatMap(([frame, edge]) => {
    const ranges = levels.get(frame).placed.ranges[edge].filter((range) => range[1]);
    return ranges.map(([start, size]) => [base.get(frame) + start, size]);
  });
}

// Where the head of an arrow is. One that had to be turned begins at its target; it never passes a border.
function endOf(levels, steps, path, lines, target, y, height) {
  const [frame, edge] = steps[steps.length - 1];
  if (levels.get(frame).placed.backward[edge]) return [lines[6 * path[0][0]], y[target] + height[target], -1];
  const [start, size] = path[path.length - 1];
  return [lines[6 * (start + size - 1) + 3], y[target], 1];
}
