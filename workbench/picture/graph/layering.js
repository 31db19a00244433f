// Layers of a directed graph from top to bottom. Edges over several layers get a point in every layer between; those of
// one source and port share their points, so that a tensor read in many places is drawn as one trunk with branches.

const POINT_BUDGET = 60000; // in all; the longest edges are drawn straight through once it is spent
export const TOP = 1;
export const BOTTOM = 2;

// graph: {count, pins: 0, TOP or BOTTOM of each node, edges: [{u, v, net, a, b}]}
//   a, b: where the edge leaves u and reaches v, from their left sides; edges of one net may share a trunk
// -> {layer: of every node, links: [{from, to, a, b}] from layer to layer, ranges: [[first link, count], ...] of every
//     edge, backward: of every edge, whether it had to be turned}. Nodes from graph.count on are points of long edges.
export function layerGraph(graph) {
  const backward = findBackward(graph);
  const forward = graph.edges.map((edge, index) => (backward[index] ? turned(edge) : edge));
  const layer = rank(graph, forward);
  return { ...splitLongEdges(graph.count, forward, backward, layer), backward };
}

const turned = (edge) => ({ u: edge.v, v: edge.u, net: `back ${edge.u}`, a: edge.b, b: edge.a });

function neighbours(count, edges, from, to) {
  const found = Array.from({ length: count }, () => []);
  edges.forEach((edge, index) => found[edge[from]].push([edge[to], index]));
  return found;
}

// The edges that lead back to a node on the way down to it (depth first, without recursion: 10,000 nodes are deep).
function findBackward({ count, edges }) {
  const below = neighbours(count, edges, "u", "v");
  const backward = new Uint8Array(edges.length);
  const state = new Uint8Array(count); // 1: on the way, 2: done
  const next = new Int32Array(count);
  const hasAbove = new Uint8Array(count);
  for (const { v } of edges) hasAbove[v] = 1;
  const roots = [...Array(count).keys()].sort((a, b) => hasAbove[a] - hasAbove[b] || a - b);
  for (const root of roots) {
    if (state[root]) continue;
    const way = [root];
    state[root] = 1;
    while (way.length) {
      const node = way[way.length - 1];
      if (next[node] === below[node].length) {
        state[node] = 2;
        way.pop();
        continue;
      }
      const [target, edge] = below[node][next[node]++];
      if (state[target] === 1) backward[edge] = 1;
      else if (!state[target]) {
        state[target] = 1;
        way.push(target);
      }
    }
  }
  return backward;
}

function topological(count, above, below) {
  const waiting = above.map((list) => list.length);
  const sorted = [];
  for (let node = 0; node < count; node++) if (!waiting[node]) sorted.push(node);
  for (let place = 0; place < sorted.length; place++) {
    for (const [target] of below[sorted[place]]) if (!--waiting[target]) sorted.push(target);
  }
  return sorted;
}

// The longest path from the top; what only starts far down (a constant, a shape) is moved to just above its reader.
function rank({ count, pins }, edges) {
  const below = neighbours(count, edges, "u", "v");
  const above = neighbours(count, edges, "v", "u");
  const sorted = topological(count, above, below);
  const layer = new Int32Array(count);
  const first = pins.includes(TOP) ? 1 : 0;
  const loose = new Uint8Array(count);
  for (const node of sorted) {
    const sources = above[node];
    layer[node] = sources.reduce((most, [source]) => Math.max(most, layer[source] + 1), pins[node] === TOP ? 0 : first);
    loose[node] = !pins[node] && (!sources.length || (sources.length === 1 && loose[sources[0][0]])) ? 1 : 0;
  }
  const isLeaf = (node) => !pins[node] && !below[node].length && above[node].length === 1;
  for (const node of sorted.reverse()) {
    const targets = below[node].map(([target]) => target);
    const readers = targets.filter((target) => pins[target] !== BOTTOM && !isLeaf(target));
    if (!loose[node] || !readers.length) continue;
    const next = readers.reduce((least, target) => Math.min(least, layer[target]), Infinity);
    layer[node] = Math.max(layer[node], next - 1);
    for (const target of targets) if (isLeaf(target)) layer[target] = layer[node] + 1;
  }
  const last = layer.reduce((most, value) => Math.max(most, value), 0);
  const inner = sorted.some((node) => pins[node] !== BOTTOM && layer[node] === last);
  for (const node of sorted) if (pins[node] === BOTTOM) layer[node] = last + (inner ? 1 : 0);
  return layer;
}

function splitLongEdges(count, edges, backward, nodeLayer) {
  const trunks = new Map(); // source, port and direction -> its edges, shortest first
  edges.forEach((edge, index) => {
    const key = `${edge.u} ${edge.net} ${backward[index]}`;
    if (!trunks.has(key)) trunks.set(key, []);
    trunks.get(key).push(index);
  });
  const span = (index) => nodeLayer[edges[index].v] - nodeLayer[edges[index].u];
  const bundles = [...trunks.values()];
  for (const bundle of bundles) bundle.sort((a, b) => span(a) - span(b));
  bundles.sort((a, b) => span(a[a.length - 1]) - span(b[b.length - 1]));

  const layer = [...nodeLayer];
  const links = [];
  const ranges = new Array(edges.length);
  for (const bundle of bundles) {
    const { u, a } = edges[bundle[0]];
    const start = links.length;
    const points = [u];
    for (const index of bundle) {
      const wanted = span(index) - 1;
      if (layer.length - count + wanted - points.length > POINT_BUDGET) continue;
      for (let step = points.length; step <= wanted; step++) {
        links.push({ from: points[step - 1], to: layer.length, a: step === 1 ? a : 0, b: 0 });
        points.push(layer.length);
        layer.push(nodeLayer[u] + step);
      }
    }
    for (const index of bundle) {
      const steps = Math.min(span(index), points.length) - 1;
      ranges[index] = [[start, steps], [links.length, 1]];
      links.push({ from: points[steps], to: edges[index].v, a: steps ? 0 : a, b: edges[index].b });
    }
  }
  return { layer: Int32Array.from(layer), links, ranges };
}
