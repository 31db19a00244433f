// One level of a picture put into its place: layers, order, columns, then heights and the lines between.

import { BOTTOM, TOP, layerGraph } from "./layering.js";
import { orderLayers } from "./ordering.js";
import { placeNodes } from "./placing.js";

export const PAD = { top: 28, side: 14, bottom: 14 };
const GAP = 24; // between layers, and less beside the border of a frame; more where lines run far sideways
const PORT_GAP = 10;
const SLOPE = 0.1;
const HEAD = 7; // the last bit of a line is straight, for the arrow's head
const MOST_GAP = 72;
const APART = 48; // between what is not connected

// level: {widths, heights, pins, edges: [{u, v, net, a, b}]}
// -> {x, y, width, height, lines, ranges, backward}: lines are six numbers for each link: down at x0 from y0 to y1,
// over to x1 at y2, down to y3; ranges: [[first line, count], ...] for every edge.
export function placeLevel(level) {
  const pieces = findPieces(level).map((piece) => placePiece(level, piece));
  const spots = shelve(pieces);
  const count = level.widths.length;
  const done = {
    x: new Float64Array(count), y: new Float64Array(count), width: 0, height: 0, lines: [],
    ranges: new Array(level.edges.length), backward: new Uint8Array(level.edges.length),
  };
  pieces.forEach((piece, index) => merge(done, piece, spots[index]));
  return done;
}

// The connected pieces, {nodes, edges}; all that reaches the border of a frame is one.
function findPieces({ widths, pins, edges }) {
  const leader = Int32Array.from(widths.keys());
  const find = (node) => {
    while (leader[node] !== node) node = leader[node] = leader[leader[node]];
    return node;
  };
  const join = (a, b) => {
    const [p, q] = [find(a), find(b)];
    leader[Math.max(p, q)] = Math.min(p, q);
  };
  const pinned = [...pins.keys()].filter((node) => pins[node]);
  for (const node of pinned) join(pinned[0], node);
  for (const { u, v } of edges) join(u, v);
  const pieces = new Map();
  for (let node = 0; node < widths.length; node++) {
    if (find(node) === node) pieces.set(node, { nodes: [], edges: [] });
    pieces.get(find(node)).nodes.push(node);
  }
  edges.forEach(({ u }, edge) => pieces.get(find(u)).edges.push(edge));
  return [...pieces.values()];
}

function placePiece(level, { nodes, edges: edgeIds }) {
  const local = new Map(nodes.map((node, index) => [node, index]));
  const edges = edgeIds.map((index) => {
    const edge = level.edges[index];
    return { ...edge, u: local.get(edge.u), v: local.get(edge.v) };
  });
  const pins = Uint8Array.from(nodes, (node) => level.pins[node]);
  const { layer, links, ranges, backward } = layerGraph({ count: nodes.length, pins, edges });
  const total = layer.length;
  const sizes = (of) => Float64Array.from({ length: total }, (_, node) => (node < nodes.length ? of[nodes[node]] : 0));
  const [widths, heights] = [sizes(level.widths), sizes(level.heights)];
  const isPoint = Uint8Array.from({ length: total }, (_, node) => (node >= nodes.length ? 1 : 0));
  const layers = orderLayers(total, layer, links, widths);
  const x = placeNodes(layers, links, widths, isPoint);
  const rows = stack(layers, layer, links, x, heights, pins);
  const share = shareAbove(total, links);
  const y = Float64Array.from({ length: total }, (_, node) =>
    rows.top[layer[node]] + (rows.high[layer[node]] - heights[node]) * share[node]);
  pins.forEach((pin, node) => (y[node] += { [TOP]: -PAD.top, [BOTTOM]: PAD.bottom }[pin] ?? 0));
  const lines = links.map((link) => lineOf(link, { x, y, heights, isPoint, layer, rows }));
  const width = x.reduce((most, value, node) => Math.max(most, value + widths[node]), 0);
  return { nodes, edgeIds, x, y, lines, ranges, backward, width, height: rows.height };
}

function lineOf({ from, to, a, b }, { x, y, heights, isPoint, layer, rows }) {
  const [p, q] = [layer[from], layer[to]];
  const start = isPoint[from] ? rows.top[p] : y[from] + heights[from];
  const end = isPoint[to] ? rows.top[q] : y[to];
  return [x[from] + a, start, rows.top[p] + rows.high[p], x[to] + b, rows.top[q] - (heights[to] ? HEAD : 0), end];
}

// How much of the free height of its layer stands above a node: beside a tall frame it keeps to what it is linked to.
function shareAbove(total, links) {
  const [into, outOf] = [new Uint8Array(total), new Uint8Array(total)];
  for (const { from, to } of links) into[to] = outOf[from] = 1;
  return Float64Array.from(into, (has, node) => (1 + outOf[node] - has) / 2);
}

// The top and the height of every layer.
function stack(layers, layer, links, x, heights, pins) {
  const high = layers.map((nodes) => nodes.reduce((most, node) => Math.max(most, heights[node]), 0));
  const sideways = new Float64Array(layers.length);
  for (const { from, to, a, b } of links) {
    const before = layer[to] - 1;
    sideways[before] = Math.max(sideways[before], Math.abs(x[from] + a - x[to] - b));
  }
  const ports = layers.map((nodes) => nodes.some((node) => pins[node]));
  const top = [];
  let y = 0;
  layers.forEach((_, index) => {
    const least = ports[index] || ports[index + 1] ? PORT_GAP : GAP;
    top.push(y);
    y += high[index] + (index < layers.length - 1 ? Math.min(MOST_GAP, least + SLOPE * sideways[index]) : 0);
  });
  return { top, high, height: y };
}

// Pieces in rows, single boxes last, in about the shape of a pane.
function shelve(pieces) {
  const area = pieces.reduce((sum, piece) => sum + (piece.width + APART) * (piece.height + APART), 0);
  const widest = pieces.reduce((most, piece) => Math.max(most, piece.width), 0);
  const room = Math.max(widest, 1.3 * Math.sqrt(area));
  const spots = new Array(pieces.length);
  let [x, y, high] = [0, 0, 0];
  const isSingle = (index) => Number(pieces[index].nodes.length === 1);
  const order = [...pieces.keys()].sort((a, b) => isSingle(a) - isSingle(b) || a - b);
  for (const index of order) {
    const piece = pieces[index];
    if (x && x + piece.width > room) [x, y, high] = [0, y + high + APART, 0];
    spots[index] = { x, y };
    x += piece.width + APART;
    high = Math.max(high, piece.height);
  }
  return spots;
}

function merge(done, piece, spot) {
  const base = done.lines.length;
  done.width = Math.max(done.width, spot.x + piece.width);
  done.height = Math.max(done.height, spot.y + piece.height);
  piece.nodes.forEach((node, index) => {
    done.x[node] = piece.x[index] + spot.x;
    done.y[node] = piece.y[index] + spot.y;
  });
  for (const [x0, y0, y1, x1, y2, y3] of piece.lines) {
    done.lines.push([x0 + spot.x, y0 + spot.y, y1 + spot.y, x1 + spot.x, y2 + spot.y, y3 + spot.y]);
  }
  piece.edgeIds.forEach((edge, index) => {
    done.ranges[edge] = piece.ranges[index].map(([start, count]) => [base + start, count]);
    done.backward[edge] = piece.backward[index];
  });
}
