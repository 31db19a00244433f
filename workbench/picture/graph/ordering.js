// The order of nodes within their layers: few crossings, by sweeps that put every node near the middle of its
// neighbours.

const LARGE = 4000;

// total nodes in `layer`, joined by links [{from, to, a, b}] -> layers: their nodes from left to right.
// widths tell where on a node a link ends (its port).
export function orderLayers(total, layer, links, widths) {
  const graph = { total, layer, links, widths, ...adjacency(total, links) };
  let layers = firstOrder(graph);
  const at = positions(layers, total);
  let best = layers.map((nodes) => nodes.slice());
  let fewest = crossings(graph, layers, at);
  const sweeps = total > LARGE ? 4 : 14;
  for (let sweep = 0; sweep < sweeps && fewest; sweep++) {
    sweepOnce(graph, layers, at, sweep % 2 === 0);
    if (total <= LARGE) swapNeighbours(graph, layers, at);
    const count = crossings(graph, layers, at);
    if (count < fewest) {
      fewest = count;
      best = layers.map((nodes) => nodes.slice());
    }
  }
  return best;
}

function adjacency(total, links) {
  const above = Array.from({ length: total }, () => []);
  const below = Array.from({ length: total }, () => []);
  for (const link of links) {
    below[link.from].push(link);
    above[link.to].push(link);
  }
  return { above, below };
}

// Depth first from the top, nodes before points of long edges: neighbours start side by side, trunks to the right.
function firstOrder({ total, layer, above, below }) {
  const layers = Array.from({ length: 1 + layer.reduce((most, value) => Math.max(most, value), 0) }, () => []);
  const seen = new Uint8Array(total);
  const roots = [...Array(total).keys()].filter((node) => !above[node].length);
  for (const root of roots) {
    const open = [root];
    while (open.length) {
      const node = open.pop();
      if (seen[node]) continue;
      seen[node] = 1;
      layers[layer[node]].push(node);
      const targets = below[node].map((link) => link.to).sort((a, b) => b - a);
      for (const target of targets) if (!seen[target]) open.push(target);
    }
  }
  return layers;
}

function positions(layers, total) {
  const at = new Int32Array(total);
  for (const nodes of layers) nodes.forEach((node, place) => (at[node] = place));
  return at;
}

// Where a link leaves or reaches a node, in places: the middle of a point, the port of a wide box.
function portPlace({ widths }, at, node, offset) {
  return at[node] + (widths[node] ? offset / widths[node] : 0.5);
}

function middle(places) {
  const half = places.length >> 1;
  if (places.length % 2) return places[half];
  if (places.length === 2) return (places[0] + places[1]) / 2;
  const left = places[half - 1] - places[0];
  const right = places[places.length - 1] - places[half];
  return left + right ? (places[half - 1] * right + places[half] * left) / (left + right) : places[half];
}

function sweepOnce(graph, layers, at, down) {
  const wish = new Float64Array(graph.total);
  for (let step = 1; step < layers.length; step++) {
    const nodes = layers[down ? step : layers.length - 1 - step];
    for (const node of nodes) {
      const places = (down ? graph.above[node] : graph.below[node]).map((link) =>
        down ? portPlace(graph, at, link.from, link.a) : portPlace(graph, at, link.to, link.b));
      wish[node] = places.length ? middle(places.sort((a, b) => a - b)) : at[node] + 0.5;
    }
    nodes.sort((a, b) => wish[a] - wish[b] || at[a] - at[b]);
    nodes.forEach((node, place) => (at[node] = place));
  }
}

function swapNeighbours(graph, layers, at) {
  for (const nodes of layers) {
    for (let place = 1; place < nodes.length; place++) {
      const [left, right] = [nodes[place - 1], nodes[place]];
      const gain = pairCrossings(graph, at, left, right) - pairCrossings(graph, at, right, left);
      if (gain > 0) {
        [nodes[place - 1], nodes[place]] = [right, left];
        [at[left], at[right]] = [place, place - 1];
      }
    }
  }
}

function pairCrossings(graph, at, left, right) {
  let count = 0;
  for (const a of graph.above[left]) for (const b of graph.above[right]) {
    if (portPlace(graph, at, a.from, a.a) > portPlace(graph, at, b.from, b.a)) count++;
  }
  for (const a of graph.below[left]) for (const b of graph.below[right]) {
    if (portPlace(graph, at, a.to, a.b) > portPlace(graph, at, b.to, b.b)) count++;
  }
  return count;
}

// Inversions between neighbouring layers, counted with a tree of sums (Barth, Mutzel, Jünger 2004).
function crossings(graph, layers, at) {
  let count = 0;
  for (let index = 1; index < layers.length; index++) {
    const ends = [];
    for (const node of layers[index - 1]) {
      const end = ({ to, a, b }) => [portPlace(graph, at, node, a), portPlace(graph, at, to, b)];
      ends.push(...graph.below[node].map(end));
    }
    ends.sort((a, b) => a[0] - b[0] || a[1] - b[1]);
    count += inversions(ends.map((pair) => pair[1]));
  }
  return count;
}

function inversions(values) {
  const ranks = new Map([...new Set(values)].sort((a, b) => a - b).map((value, rank) => [value, rank + 1]));
  const tree = new Int32Array(ranks.size + 1);
  let count = 0;
  values.forEach((value, seen) => {
    let notLarger = 0;
    for (let node = ranks.get(value); node; node -= node & -node) notLarger += tree[node];
    count += seen - notLarger;
    for (let node = ranks.get(value); node <= ranks.size; node += node & -node) tree[node]++;
  });
  return count;
}
