// Draws a scene on a canvas: what is in sight, and of it what can be made out at this scale.

import { RADIUS, bandsBetween } from "./scene.js";
import { drawArrowLabels, drawTitles, drawWords } from "./words.js";

const FAINT = 0.25; // of boxes that a search did not find
const DOT = 0.18; // below this scale boxes are plain dots
const HEADS = 0.25; // from this scale on arrows have heads
const MOST_LIT = 300; // items whose arrows are drawn in the accent

export const noMarks = () => ({ picked: new Set(), linked: new Set(), matched: null, focus: -1, hover: -1 });

// camera: {x, y, scale}: the world's point in the upper left corner. size: {width, height} in CSS pixels.
// marks: {picked, linked, matched (or null), focus, hover}: sets of items, and single ones or -1.
// -> how many boxes were drawn
export function drawScene(context, scene, camera, size, theme, marks) {
  const { x: left, y: top, scale } = camera;
  const sight = { left, top, right: left + size.width / scale, bottom: top + size.height / scale };
  const to = { x: (x) => (x - left) * scale, y: (y) => (y - top) * scale, scale };
  const isSeen = ({ x, y, width, height }) =>
    x <= sight.right && y <= sight.bottom && x + width >= sight.left && y + height >= sight.top;
  const bands = bandsBetween(scene, sight.top, sight.bottom);
  const frames = scene.frames.filter(isSeen);
  const seen = bands.flatMap((band) => band.items.filter((index) => isSeen(scene.items[index])));
  const items = seen.map((index) => scene.items[index]);
  const lit = [...marks.picked, ...marks.linked, ...(marks.hover < 0 ? [] : [marks.hover])].slice(0, MOST_LIT);
  const faint = marks.matched ? faintItems(scene, seen, marks) : new Set();
  const alphaOf = (item) => (faint.has(item) ? FAINT : 1);

  context.fillStyle = theme.back;
  context.fillRect(0, 0, size.width, size.height);
  drawFrames(context, frames, to, theme);
  drawLines(context, scene, bands, to, theme, marks.matched || marks.picked.size || marks.linked.size ? 0.45 : 1);
  drawLitLines(context, scene, lit, to, theme);
  drawTitles(context, frames, to, theme);
  if (scale < DOT) drawDots(context, items, to, alphaOf);
  else drawItems(context, items, to, theme, alphaOf);
  drawWords(context, items, to, theme, alphaOf);
  drawOutlines(context, scene, seen, to, theme, marks);
  drawArrowLabels(context, scene, lit, to, theme);
  return items.length;
}

function faintItems(scene, indices, { matched, picked, linked }) {
  const found = indices.filter((index) => !matched.has(index) && !picked.has(index) && !linked.has(index));
  return new Set(found.map((index) => scene.items[index]));
}

function drawFrames(context, frames, to, theme) {
  context.fillStyle = theme.frame;
  context.strokeStyle = theme.frameLine;
  context.lineWidth = 1;
  for (const { x, y, width, height } of frames) {
    roundedPath(context, to.x(x), to.y(y), width * to.scale, height * to.scale, 8 * to.scale);
    context.fill();
    if (height * to.scale > 6) context.stroke();
  }
}

function drawLines(context, scene, bands, to, theme, alpha) {
  context.lineWidth = Math.min(1.4, Math.max(0.6, to.scale * 1.2));
  context.strokeStyle = context.fillStyle = theme.line;
  context.globalAlpha = alpha;
  context.beginPath();
  for (const line of new Set(bands.flatMap((band) => band.lines))) traceLine(context, scene.lines, 6 * line, to);
  context.stroke();
  if (to.scale > HEADS) drawHeads(context, scene, bands.flatMap((band) => band.ends), to, 1);
  context.globalAlpha = 1;
}

// The arrows into and out of what is picked, linked or under the pointer.
function drawLitLines(context, scene, lit, to, theme) {
  const edges = [...new Set(lit.flatMap((index) => [...scene.into[index], ...scene.outOf[index]]))];
  context.strokeStyle = context.fillStyle = theme.accent;
  context.lineWidth = Math.max(1.2, Math.min(2.2, to.scale * 2));
  context.beginPath();
  for (const edge of edges) {
    for (const [start, count] of scene.paths[edge]) {
      for (let line = start; line < start + count; line++) traceLine(context, scene.lines, 6 * line, to);
    }
  }
  context.stroke();
  if (to.scale > HEADS) drawHeads(context, scene, edges, to, 1.2);
}

function traceLine(context, lines, at, to) {
  const [x0, x1] = [to.x(lines[at]), to.x(lines[at + 3])];
  const [y0, y1, y2, y3] = [to.y(lines[at + 1]), to.y(lines[at + 2]), to.y(lines[at + 4]), to.y(lines[at + 5])];
  context.moveTo(x0, y0);
  if (Math.abs(x0 - x1) < 0.5 || to.scale < DOT) {
    context.lineTo(x1, y3);
    return;
  }
  const half = (y1 + y2) / 2;
  context.lineTo(x0, y1);
  context.bezierCurveTo(x0, half, x1, half, x1, y2);
  context.lineTo(x1, y3);
}

function drawHeads(context, scene, edges, to, size) {
  context.beginPath();
  for (const edge of edges) {
    const [x, y, direction] = scene.ends[edge];
    const [middle, tip, half] = [to.x(x), to.y(y), 3.4 * size * to.scale];
    const base = tip - direction * 6.5 * size * to.scale;
    context.moveTo(middle, tip);
    context.lineTo(middle - half, base);
    context.lineTo(middle + half, base);
    context.closePath();
  }
  context.fill();
}

function drawDots(context, items, to, alphaOf) {
  for (const item of items) {
    context.globalAlpha = alphaOf(item);
    context.fillStyle = item.paint.far;
    const [width, height] = [Math.max(1, item.width * to.scale), Math.max(0.75, item.height * to.scale)];
    context.fillRect(to.x(item.x), to.y(item.y), width, height);
  }
  context.globalAlpha = 1;
}

function drawItems(context, items, to, theme, alphaOf) {
  context.lineWidth = Math.max(0.75, Math.min(1.25, to.scale * 1.25));
  for (const item of items) {
    const alpha = alphaOf(item);
    const trace = (off) => {
      const [x, y] = [to.x(item.x + off), to.y(item.y + off)];
      roundedPath(context, x, y, item.width * to.scale, item.height * to.scale, RADIUS[item.side] * to.scale);
    };
    context.globalAlpha = alpha;
    context.strokeStyle = item.paint.stroke;
    if (item.kind !== "box") { // a second sheet shows behind whatever can be unfolded
      trace(3);
      fill(context, theme.back, 1);
      context.stroke();
    }
    trace(0);
    if (alpha < 1) fill(context, theme.back, 1); // hides the arrows that pass behind
    fill(context, item.paint.fill, alpha);
    context.stroke();
    if (item.strip) drawStrip(context, item, to);
  }
  context.globalAlpha = 1;
}

function fill(context, color, alpha) {
  const before = context.globalAlpha;
  context.globalAlpha = alpha;
  context.fillStyle = color;
  context.fill();
  context.globalAlpha = before;
}

// The colours of what is folded in, by their share.
function drawStrip(context, item, to) {
  let x = item.x + 3;
  for (const { color, share } of item.strip) {
    const width = (item.width - 6) * share;
    context.fillStyle = color;
    context.fillRect(to.x(x), to.y(item.y + item.height - 4), width * to.scale + 0.3, 3 * to.scale);
    x += width;
  }
}

function drawOutlines(context, scene, seen, to, theme, marks) {
  const outline = (index, color, width, apart = 1) => {
    const item = scene.items[index];
    const [wide, high] = [Math.max(4, item.width * to.scale), Math.max(4, item.height * to.scale)];
    const grow = width / 2 + apart;
    const radius = RADIUS[item.side] * to.scale + grow;
    context.strokeStyle = color;
    context.lineWidth = width;
    roundedPath(context, to.x(item.x) - grow, to.y(item.y) - grow, wide + 2 * grow, high + 2 * grow, radius);
    context.stroke();
  };
  for (const index of seen) {
    if (marks.matched?.has(index)) outline(index, theme.match, 2.5);
    if (marks.picked.has(index) || marks.linked.has(index)) outline(index, theme.accent, 3);
  }
  if (marks.focus < 0) return;
  context.setLineDash([4, 3]);
  outline(marks.focus, theme.text, 1.5, 5);
  context.setLineDash([]);
}

function roundedPath(context, x, y, width, height, radius) {
  context.beginPath();
  if (radius < 1) context.rect(x, y, width, height);
  else context.roundRect(x, y, width, height, Math.min(radius, height / 2, width / 2));
}
