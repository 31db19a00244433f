// All that is written on a canvas: titles of folders, labels and tags of boxes, shapes beside arrows.

import { FONT, FRAME_HEAD, shortened, textWidth } from "./scene.js";

const LEGIBLE = 6; // pixels of a font from which on words are drawn
const MOST_LABELS = 12;
const ARROW_ROOM = 220;

// Titles keep a legible size for as long as they fit, so that the folders can be told apart from far away.
export function drawTitles(context, frames, to, theme) {
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

// items: those in sight; alphaOf(item): how faint it is.
export function drawWords(context, items, to, theme, alphaOf) {
  if (FONT.label * to.scale < LEGIBLE) return;
  const write = (size, textOf, colorOf, below) => {
    context.font = `${size * to.scale}px ${theme.font}`;
    for (const item of items) {
      if (!textOf(item)) continue;
      context.globalAlpha = alphaOf(item);
      context.fillStyle = colorOf(item);
      context.fillText(textOf(item), to.x(middleOf(item)), to.y(item.y + below(item)));
    }
  };
  context.textAlign = "center";
  context.textBaseline = "middle";
  const labelY = (item) => (item.tag ? 13.5 : item.height / 2 + 0.5);
  write(FONT.label, (item) => item.label, (item) => item.paint.text, labelY);
  if (FONT.tag * to.scale >= LEGIBLE - 0.5) write(FONT.tag, (item) => item.tag, (item) => item.paint.tag, () => 26.5);
  drawBadges(context, items, to, theme, alphaOf);
  context.globalAlpha = 1;
}

// Words stand beside the + of what can be unfolded.
const middleOf = (item) => item.x + item.width / 2 - (item.kind === "box" ? 0 : 8);

// Where the + of a folded item is, in the world: {x, y, size}.
export function badgeOf(item) {
  return { x: item.x + item.width - 22, y: item.y + item.height / 2 - 7, size: 14 };
}

function drawBadges(context, items, to, theme, alphaOf) {
  context.font = `${FONT.label * to.scale}px ${theme.font}`;
  context.lineWidth = 1;
  for (const item of items) {
    if (item.kind === "box") continue;
    const { x, y, size } = badgeOf(item);
    context.globalAlpha = alphaOf(item);
    context.strokeStyle = context.fillStyle = item.paint.tag;
    context.beginPath();
    context.roundRect(to.x(x), to.y(y), size * to.scale, size * to.scale, 3 * to.scale);
    context.stroke();
    context.fillText("+", to.x(x + size / 2), to.y(y + size / 2 + 0.5));
  }
}

// Shapes and types beside the arrows of these items, as far as there is room.
export function drawArrowLabels(context, scene, lit, to, theme) {
  if (FONT.tag * to.scale < LEGIBLE) return;
  const size = Math.min(12, FONT.tag * to.scale);
  context.font = `${size}px ${theme.font}`;
  context.textAlign = "left";
  const written = [];
  const edges = lit.slice(0, MOST_LABELS).flatMap((index) => [...scene.into[index], ...scene.outOf[index]]);
  for (const edge of new Set(edges)) {
    const text = arrowText(scene, edge, theme);
    const [endX, endY, direction] = scene.ends[edge];
    const [x, y] = [to.x(endX) + 7, to.y(endY - 14 * direction)];
    const width = textWidth(text, FONT.tag, theme.font) * (size / FONT.tag);
    const overlaps = (other) => Math.abs(other.y - y) < size + 2 && x < other.x + other.width && other.x < x + width;
    if (!text || written.some(overlaps)) continue;
    written.push({ x, y, width });
    context.globalAlpha = 0.85;
    context.fillStyle = theme.back;
    context.fillRect(x - 2, y - size / 2 - 1, width + 4, size + 2);
    context.globalAlpha = 1;
    context.fillStyle = theme.text;
    context.fillText(text, x, y);
  }
}

function arrowText(scene, edge, theme) {
  const labels = [...new Set(scene.arrows[edge].map((arrow) => scene.pane.arrows[arrow][2]))].filter(Boolean);
  if (!labels.length) return "";
  const text = labels.length > 1 ? `${labels[0]} and ${labels.length - 1} more` : labels[0];
  return shortened(text, ARROW_ROOM, FONT.tag, theme.font);
}
