// Horizontal places. Nodes that follow each other are lined up into columns: first the points of long edges, then the
// longest chains of nodes, which makes a straight spine. Columns are then packed and drawn towards their neighbours.

const GAP = 26; // between boxes
const POINT_GAP = 14; // beside a long edge
const ROUNDS = 12;

// -> x: the left side of every node; points of long edges have no width, nor have the ports of a frame.
export function placeNodes(layers, links, widths, isPoint) {
  const total = widths.length;
  const at = new Int32Array(total);
  for (const nodes of layers) nodes.forEach((node, place) => (at[node] = place));
  const columns = lineUp(layers, links, at, isPoint);
  const gap = (left, right) => (widths[left] && widths[right] ? GAP : POINT_GAP);
  const walls = findWalls(layers, widths, columns, gap);
  const place = pack(columns, walls);
  settle(columns, walls, links, isPoint, place);
  const x = Float64Array.from({ length: total }, (_, node) => place[columns.of[node]] + columns.shift[node]);
  const left = x.reduce((least, value) => Math.min(least, value), Infinity);
  return x.map((value) => value - left);
}

// Partners above and below of every node, chosen so that no two lines between the same layers cross.
function lineUp(layers, links, at, isPoint) {
  const total = at.length;
  const up = new Int32Array(total).fill(-1);
  const down = new Int32Array(total).fill(-1);
  const layerOf = new Int32Array(total);
  layers.forEach((nodes, index) => nodes.forEach((node) => (layerOf[node] = index)));
  const taken = layers.map(() => []); // per layer: [place above, place here], both ascending
  const strength = chainLengths(layers, links, isPoint, layerOf);
  const wished = [...links.keys()].sort((a, b) => (strength[a] === strength[b] ? a - b : strength[b] - strength[a]));
  const shiftTo = new Float64Array(total); // of a node against its partner above
  for (const index of wished) {
    const { from, to, a, b } = links[index];
    if (down[from] >= 0 || up[to] >= 0 || layerOf[to] !== layerOf[from] + 1) continue;
    if (!insertUncrossed(taken[layerOf[to]], at[from], at[to])) continue;
    down[from] = to;
    up[to] = from;
    shiftTo[to] = a - b;
  }
  return collect(layers, up, down, shiftTo);
}

function insertUncrossed(pairs, above, here) {
  let low = 0;
  let high = pairs.length;
  while (low < high) {
    const half = (low + high) >> 1;
    if (pairs[half][0] < above) low = half + 1;
    else high = half;
  }
  if ((low > 0 && pairs[low - 1][1] >= here) || (low < pairs.length && pairs[low][1] <= here)) return false;
  pairs.splice(low, 0, [above, here]);
  return true;
}

// How much a link wants to be straight: inside long edges most, then by the length of the chain of nodes through it; of
// two as long the one from the node that is read more often, which is rather an activation than a weight.
function chainLengths(layers, links, isPoint, layerOf) {
  const before = new Int32Array(isPoint.length);
  const after = new Int32Array(isPoint.length);
  const real = (link) => !isPoint[link.from] && !isPoint[link.to] && layerOf[link.to] === layerOf[link.from] + 1;
  const byLayer = [...links.keys()].filter((index) => real(links[index]))
    .sort((p, q) => layerOf[links[p].from] - layerOf[links[q].from]);
  for (const index of byLayer) {
    const { from, to } = links[index];
    before[to] = Math.max(before[to], before[from] + 1);
  }
  for (const index of byLayer.reverse()) {
    const { from, to } = links[index];
    after[from] = Math.max(after[from], after[to] + 1);
  }
  const readers = new Int32Array(isPoint.length);
  for (const { from } of links) readers[from]++;
  return links.map((link) => {
    if (isPoint[link.from] && isPoint[link.to]) return Infinity;
    return real(link) ? before[link.from] + 1 + after[link.to] + Math.min(9, readers[link.from]) / 10 : 0;
  });
}

function collect(layers, up, down, shiftTo) {
  const of = new Int32Array(up.length);
  const shift = new Float64Array(up.length);
  let count = 0;
  for (const nodes of layers) {
    for (const node of nodes) {
      if (up[node] >= 0) continue;
      for (let member = node, sum = 0; member >= 0; member = down[member]) {
        if (member !== node) sum += shiftTo[member];
        of[member] = count;
        shift[member] = sum;
      }
      count++;
    }
  }
  return { count, of, shift };
}

// For every pair of neighbouring columns the least distance: [left, right, distance], and a left-to-right order.
function findWalls(layers, widths, { count, of, shift }, gap) {
  const right = Array.from({ length: count }, () => new Map());
  const waiting = new Int32Array(count);
  for (const nodes of layers) {
    for (let place = 1; place < nodes.length; place++) {
      const [a, b] = [nodes[place - 1], nodes[place]];
      const distance = shift[a] + widths[a] + gap(a, b) - shift[b];
      const known = right[of[a]].get(of[b]);
      if (known === undefined) waiting[of[b]]++;
      right[of[a]].set(of[b], Math.max(known ?? -Infinity, distance));
    }
  }
  const order = [];
  for (let column = 0; column < count; column++) if (!waiting[column]) order.push(column);
  for (let step = 0; step < order.length; step++) {
    for (const target of right[order[step]].keys()) if (!--waiting[target]) order.push(target);
  }
  const left = Array.from({ length: count }, () => []);
  right.forEach((targets, column) => targets.forEach((distance, target) => left[target].push([column, distance])));
  return { order, left, right: right.map((targets) => [...targets]) };
}

function pack({ count }, { order, left }) {
  const place = new Float64Array(count);
  for (const column of order) {
    place[column] = left[column].reduce((most, [other, distance]) => Math.max(most, place[other] + distance), 0);
  }
  return place;
}

// Every column moves towards the weighted median of what it is linked to, as far as its neighbours let it.
function settle(columns, walls, links, isPoint, place) {
  const pulls = Array.from({ length: columns.count }, () => []);
  for (const { from, to, a, b } of links) {
    const [p, q] = [columns.of[from], columns.of[to]];
    if (p === q) continue;
    const weight = isPoint[from] || isPoint[to] ? 1 : 4;
    const offset = columns.shift[from] + a - columns.shift[to] - b;
    pulls[q].push([p, offset, weight]);
    pulls[p].push([q, -offset, weight]);
  }
  for (let round = 0; round < ROUNDS; round++) {
    const order = round % 2 ? walls.order : walls.order.slice().reverse();
    for (const column of order) {
      if (!pulls[column].length) continue;
      const wish = weightedMedian(pulls[column].map(([other, offset, weight]) => [place[other] + offset, weight]));
      const clear = walls.left[column].reduce((x, [other, distance]) => Math.max(x, place[other] + distance), wish);
      place[column] = walls.right[column].reduce((x, [other, distance]) => Math.min(x, place[other] - distance), clear);
    }
  }
}

function weightedMedian(pairs) {
  pairs.sort((a, b) => a[0] - b[0]);
  const half = pairs.reduce((sum, pair) => sum + pair[1], 0) / 2;
  let sum = 0;
  for (let index = 0; index < pairs.length; index++) {
    sum += pairs[index][1];
    if (sum > half) return pairs[index][0];
    if (sum === half) return (pairs[index][0] + pairs[index + 1][0]) / 2;
  }
  return 0;
}
