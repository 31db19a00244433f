// Draws a scene on a canvas: what is in sight, and of it what can be made out at this scale.

import { FONT, FRAME_HEAD, bandsBetween, shortened, textWidth } from "./scene.js";

const LEGIBLE = 6; // pixels of a font from which on words are drawn
const FAINT = 0.25;
const RADIUS = { engine: 5, native: 0, variable: 18 };

// camera: {x, y, scale}: the world's point in the upper left corner. size: {width, height} in CSS pixels.
// marks: {picked, linked, matched (or null), focus, hover}: sets of items, and single ones or -1.
// -> how many boxes were drawn
export function drawScene(context, scene, camera, size, theme, marks) {
  const sight = { left: camera.x, top: camera.y, right: camera.x + size.width / camera.scale, bottom: camera.y + size.height / camera.scale };
  const to = { x: (x) => (x - camera.x) * camera.scale, y: (y) => (y - camera.y) * camera.scale, scale: camera.scale };
  const bands = bandsBetween(scene, sight.top, sight.bottom);
  context.fillStyle = theme.back;
  context.fillRect(0, 0, size.width, size.height);
  const frames = framesInSight(scene, sight);
  drawFrames(context, frames, to, theme);
  drawLines(context, scene, bands, to, theme, marks);
  drawTitles(context, frames, to, theme);
  const visible = itemsInSight(scene, bands, sight);
  drawItems(context, scene, visible, to, theme, marks);
  drawWords(context, scene, visible, to, theme, marks);
  drawOutlines(context, scene, visible, to, theme, marks);
  drawArrowLabels(context, scene, to, theme, marks);
  return visible.length;
}

function itemsInSight(scene, bands, { left, top, right, bottom }) {
  const found = [];
  for (const band of bands) {
    for (const index of band.items) {
      const item = scene.items[index];
      if (item.x <= right && item.x + item.width >= left && item.y <= bottom && item.y + item.height >= top) found.push(index);
    }
  }
  return found;
}

function framesInSight(scene, sight) {
  return scene.frames.filter(({ x, y, width, height }) => x <= sight.right && y <= sight.bottom && x + width >= sight.left && y + height >= sight.top);
}

function drawFrames(context, frames, to, theme) {
  for (const frame of frames) {
    const [x, y, width, height] = [to.x(frame.x), to.y(frame.y), frame.width * to.scale, frame.height * to.scale];
    context.fillStyle = theme.frame;
    context.strokeStyle = theme.frameLine;
    context.lineWidth = 1;
    roundedPath(context, x, y, width, height, 8 * to.scale);
    context.fill();
    if (height > 6) context.stroke();
  }
}

// Titles keep a legible size for as long as they fit, so that the folders can be told apart from far away.
function drawTitles(context, frames, to, theme) {
  context.textAlign = "left";
  context.textBaseline = "middle";
  for (const frame of frames) {
    const size = Math.max(FONT.title * to.scale, Math.min(10, (frame.height * to.scale) / 4));
    const text = `− ${frame.title}`;
    const near = Math.min(1, to.scale);
    const width = textWidth(text, FONT.title, theme.font) * (size / FONT.title);
    if (size < LEGIBLE || width > frame.width * to.scale - 14 * near) continue;
    const [x, y] = [to.x(frame.x) + 8 * near, to.y(frame.y) + Math.max(size * 0.75, (FRAME_HEAD / 2) * to.scale)];
    context.fillStyle = theme.frame; // over the arrows that pass
    context.fillRect(x - 2, y - size / 2, width + 4, size);
    context.font = `${size}px ${theme.font}`;
    context.fillStyle = theme.quiet;
    context.fillText(text, x, y);
  }
}

function drawLines(context, scene, bands, to, theme, marks) {
  const calm = marks.matched || marks.picked.size || marks.linked.size;
  context.lineWidth = Math.min(1.4, Math.max(0.6, to.scale * 1.2));
  context.strokeStyle = theme.line;
  context.globalAlpha = calm ? 0.45 : 1;
  const seen = new Set();
  context.beginPath();
  for (const band of bands) {
    for (const line of band.lines) {
      if (seen.has(line)) continue;
      seen.add(line);
      traceLine(context, scene.lines, 6 * line, to);
    }
  }
  context.stroke();
  if (to.scale > 0.25) {
    context.fillStyle = theme.line;
    context.beginPath();
    for (const band of bands) for (const edge of band.ends) traceHead(context, scene.ends[edge], to, 1);
    context.fill();
  }
  context.globalAlpha = 1;
  drawLitLines(context, scene, to, theme, marks);
}

// The arrows into and out of what is picked, linked or under the pointer.
function drawLitLines(context, scene, to, theme, marks) {
  const lit = [...marks.picked, ...marks.linked, marks.hover].filter((index) => index >= 0).slice(0, 300);
  if (!lit.length) return;
  context.strokeStyle = context.fillStyle = theme.accent;
  context.lineWidth = Math.max(1.2, Math.min(2.2, to.scale * 2));
  context.beginPath();
  const edges = new Set(lit.flatMap((index) => [...scene.into[index], ...scene.outOf[index]]));
  for (const edge of edges) {
    for (const [start, count] of scene.paths[edge]) {
      for (let line = start; line < start + count; line++) traceLine(context, scene.lines, 6 * line, to);
    }
  }
  context.stroke();
  if (to.scale <= 0.25) return;
  context.beginPath();
  for (const edge of edges) traceHead(context, scene.ends[edge], to, 1.2);
  context.fill();
}

export function traceLine(context, lines, at, to) {
  const [x0, x1] = [to.x(lines[at]), to.x(lines[at + 3])];
  const [y0, y1, y2, y3] = [to.y(lines[at + 1]), to.y(lines[at + 2]), to.y(lines[at + 4]), to.y(lines[at + 5])];
  context.moveTo(x0, y0);
  if (Math.abs(x0 - x1) < 0.5 || to.scale < 0.15) {
    context.lineTo(x1, y3);
    return;
  }
  const half = (y1 + y2) / 2;
  context.lineTo(x0, y1);
  context.bezierCurveTo(x0, half, x1, half, x1, y2);
  context.lineTo(x1, y3);
}

function traceHead(context, [x, y, direction], to, size) {
  const [tip, half] = [to.y(y), 3.4 * size * to.scale];
  const base = tip - direction * 6.5 * size * to.scale;
  context.moveTo(to.x(x), tip);
  context.lineTo(to.x(x) - half, base);
  context.lineTo(to.x(x) + half, base);
  context.closePath();
}

const isFaint = (marks, index) => marks.matched !== null && !marks.matched.has(index) && !marks.picked.has(index) && !marks.linked.has(index);

function drawItems(context, scene, visible, to, theme, marks) {
  const far = 28 * to.scale < 5;
  context.lineWidth = Math.max(0.75, Math.min(1.25, to.scale * 1.25));
  for (const index of visible) {
    const item = scene.items[index];
    const { fill, stroke, far: dot } = item.paint;
    const [x, y, width, height] = [to.x(item.x), to.y(item.y), item.width * to.scale, item.height * to.scale];
    const faint = isFaint(marks, index);
    context.globalAlpha = faint ? FAINT : 1;
    if (far) {
      context.fillStyle = dot;
      context.fillRect(x, y, Math.max(1, width), Math.max(0.75, height));
      continue;
    }
    context.strokeStyle = stroke;
    if (item.kind !== "box") drawCard(context, item, x, y, width, height, to, theme);
    roundedPath(context, x, y, width, height, RADIUS[item.side] * to.scale);
    if (faint) fillOver(context, theme.back);
    context.fillStyle = fill;
    context.fill();
    if (item.strip) drawStrip(context, item, x, y, width, height, to);
    context.stroke();
  }
  context.globalAlpha = 1;
}

// A second sheet shows behind whatever can be unfolded.
function drawCard(context, item, x, y, width, height, to, theme) {
  const off = 3 * to.scale;
  roundedPath(context, x + off, y + off, width, height, RADIUS[item.side] * to.scale);
  fillOver(context, theme.back);
  context.stroke();
}

// Hides the arrows that pass behind, however faint the box.
function fillOver(context, color) {
  const { globalAlpha } = context;
  context.globalAlpha = 1;
  context.fillStyle = color;
  context.fill();
  context.globalAlpha = globalAlpha;
}

// The colours of what is folded in, by their share.
function drawStrip(context, item, x, y, width, height, to) {
  const high = 4 * to.scale;
  let left = x;
  context.save();
  roundedPath(context, x, y, width, height, RADIUS[item.side] * to.scale);
  context.clip();
  for (const { color, share } of item.strip) {
    context.fillStyle = color;
    context.fillRect(left, y + height - high, width * share + 0.5, high);
    left += width * share;
  }
  context.restore();
}

function roundedPath(context, x, y, width, height, radius) {
  context.beginPath();
  if (radius < 1) context.rect(x, y, width, height);
  else context.roundRect(x, y, width, height, Math.min(radius, height / 2, width / 2));
}

function drawWords(context, scene, visible, to, theme, marks) {
  const [label, tag] = [FONT.label * to.scale, FONT.tag * to.scale];
  if (label < LEGIBLE) return;
  context.textAlign = "center";
  context.textBaseline = "middle";
  context.font = `${label}px ${theme.font}`;
  for (const index of visible) {
    const item = scene.items[index];
    context.globalAlpha = isFaint(marks, index) ? FAINT : 1;
    context.fillStyle = item.paint.text;
    context.fillText(item.label, wordsMiddle(item, to), to.y(item.y + (item.tag ? 13.5 : item.height / 2 + 0.5)));
  }
  if (tag >= LEGIBLE - 0.5) {
    context.font = `${tag}px ${theme.font}`;
    for (const index of visible) {
      const item = scene.items[index];
      context.globalAlpha = isFaint(marks, index) ? FAINT : 1;
      context.fillStyle = item.paint.tag;
      if (item.tag) context.fillText(item.tag, wordsMiddle(item, to), to.y(item.y + 26.5));
    }
  }
  drawBadges(context, scene, visible, to, marks, theme);
  context.globalAlpha = 1;
}

const wordsMiddle = (item, to) => to.x(item.x + item.width / 2 - (item.kind === "box" ? 0 : 8));

// Where the + of a folded item is, in the world: {x, y, size}.
export function badgeOf(item) {
  return { x: item.x + item.width - 22, y: item.y + item.height / 2 - 7, size: 14 };
}

function drawBadges(context, scene, visible, to, marks, theme) {
  context.font = `${12 * to.scale}px ${theme.font}`;
  context.lineWidth = 1;
  for (const index of visible) {
    const item = scene.items[index];
    if (item.kind === "box") continue;
    const { x, y, size } = badgeOf(item);
    context.globalAlpha = isFaint(marks, index) ? FAINT : 1;
    context.strokeStyle = context.fillStyle = item.paint.tag;
    roundedPath(context, to.x(x), to.y(y), size * to.scale, size * to.scale, 3 * to.scale);
    context.stroke();
    context.fillText("+", to.x(x + size / 2), to.y(y + size / 2 + 0.5));
  }
}

function drawOutlines(context, scene, visible, to, theme, marks) {
  const outline = (index, color, width, dash = []) => {
    const item = scene.items[index];
    const grow = width / 2 + 1;
    const [high, wide] = [Math.max(4, item.height * to.scale), Math.max(4, item.width * to.scale)];
    context.strokeStyle = color;
    context.lineWidth = width;
    context.setLineDash(dash);
    roundedPath(context, to.x(item.x) - grow, to.y(item.y) - grow, wide + 2 * grow, high + 2 * grow, RADIUS[item.side] * to.scale + grow);
    context.stroke();
    context.setLineDash([]);
  };
  for (const index of visible) {
    if (marks.matched?.has(index)) outline(index, theme.match, 2.5);
    if (marks.picked.has(index) || marks.linked.has(index)) outline(index, theme.accent, 3);
  }
  if (marks.focus >= 0) outline(marks.focus, theme.text, 1.5, [4, 3]);
}

// Shapes and types beside those arrows.
function drawArrowLabels(context, scene, to, theme, marks) {
  if (FONT.tag * to.scale < LEGIBLE) return;
  const lit = [...marks.picked, ...marks.linked, marks.hover].filter((index) => index >= 0).slice(0, 12);
  const size = Math.min(12, FONT.tag * to.scale);
  context.font = `${size}px ${theme.font}`;
  context.textAlign = "left";
  const written = [];
  for (const edge of new Set(lit.flatMap((index) => [...scene.into[index], ...scene.outOf[index]]))) {
    const labels = [...new Set(scene.arrows[edge].map((arrow) => scene.pane.arrows[arrow][2]).filter(Boolean))];
    if (!labels.length) continue;
    const text = shortened(labels.length > 1 ? `${labels[0]} and ${labels.length - 1} more` : labels[0], 220, FONT.tag, theme.font);
    const [x, y] = [to.x(scene.ends[edge][0]) + 7, to.y(scene.ends[edge][1] - 14 * scene.ends[edge][2])];
    const width = textWidth(text, FONT.tag, theme.font) * (size / FONT.tag);
    if (written.some((other) => Math.abs(other.y - y) < size + 2 && x < other.x + other.width && other.x < x + width)) continue;
    written.push({ x, y, width });
    context.fillStyle = theme.back;
    context.globalAlpha = 0.85;
    context.fillRect(x - 2, y - size / 2 - 1, width + 4, size + 2);
    context.globalAlpha = 1;
    context.fillStyle = theme.text;
    context.fillText(text, x, y);
  }
}
