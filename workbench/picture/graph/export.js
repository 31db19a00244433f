// Pictures to keep: SVG with real text, PNG, and one HTML file with this same view.

import { drawScene, noMarks } from "./draw.js";
import { FONT, FRAME_HEAD, RADIUS } from "./scene.js";

const MARGIN = 24;
const HEAD = 30;
const MOST_PIXELS = 8000; // a side of a PNG; browsers refuse canvases much larger

const SIGNS = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" };
// Control characters, which NVIDIA puts between the names of fused nodes, may not stand in XML.
const escaped = (text) => text.replace(/[&<>"]/g, (sign) => SIGNS[sign]).replace(/[\u0000-\u001f]/g, " ");
const round = (value) => Math.round(value * 10) / 10;

// panes: [{title, scene}] -> the text of an SVG file, the panes side by side.
export function toSvg(title, panes, theme) {
  const [width, height] = extent(panes);
  let left = MARGIN;
  const parts = panes.map(({ title: heading, scene }) => {
    const part = `<g transform="translate(${left} ${MARGIN})"><text class="head" y="12">${escaped(heading)}</text>` +
      `<g transform="translate(0 ${HEAD})">${sceneSvg(scene, theme)}</g></g>`;
    left += scene.width + 2 * MARGIN;
    return part;
  });
  const style = [
    `text{font-family:${theme.font}}`, `.label{font-size:${FONT.label}px;text-anchor:middle}`,
    `.tag{font-size:${FONT.tag}px;text-anchor:middle}`, `.title{font-size:${FONT.title}px;fill:${theme.quiet}}`,
    `.frame{fill:${theme.frame};stroke:${theme.frameLine}}`,
    `.head{font-size:14px;font-weight:600;fill:${theme.text}}`,
    `.line{fill:none;stroke:${theme.line};stroke-width:1.2}`,
  ].join("");
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}">`,
    `<title>${escaped(title)}</title><style>${escaped(style)}</style>`,
    `<rect width="100%" height="100%" fill="${theme.back}"/>`, ...parts, "</svg>",
  ].join("\n");
}

function extent(panes) {
  const width = panes.reduce((sum, { scene }) => sum + scene.width + 2 * MARGIN, 0);
  const height = panes.reduce((most, { scene }) => Math.max(most, scene.height), 0) + 2 * MARGIN + HEAD;
  return [Math.ceil(width), Math.ceil(height)];
}

function sceneSvg(scene, theme) {
  const frames = scene.frames.map((frame) => {
    const [x, y, width, height] = [frame.x, frame.y, frame.width, frame.height].map(round);
    return `<rect class="frame" x="${x}" y="${y}" width="${width}" height="${height}" rx="8"/>`;
  });
  const titles = scene.frames.map(({ x, y, title }) =>
    `<text class="title" x="${round(x + 8)}" y="${round(y + FRAME_HEAD / 2)}" dy="0.35em">${escaped(title)}</text>`);
  const lines = [];
  for (let at = 0; at < scene.lines.length; at += 6) lines.push(linePath(scene.lines, at));
  const heads = scene.ends.map(([x, y, direction]) => `M${round(x)} ${round(y)}l-3.4 ${-6.5 * direction}h6.8z`);
  return [...frames, `<path class="line" d="${lines.join("")}"/>`, `<path fill="${theme.line}" d="${heads.join("")}"/>`,
    ...titles, ...scene.items.map((item) => itemSvg(scene, item))].join("\n");
}

function linePath(lines, at) {
  const [x0, y0, y1, x1, y2, y3] = Array.from(lines.subarray(at, at + 6), round);
  if (Math.abs(x0 - x1) < 0.5) return `M${x0} ${y0}V${y3}`;
  const half = round((y1 + y2) / 2);
  return `M${x0} ${y0}V${y1}C${x0} ${half} ${x1} ${half} ${x1} ${y2}V${y3}`;
}

function itemSvg(scene, item) {
  const { fill, stroke, text, tag } = item.paint;
  const { width, height } = item;
  const [x, y] = [round(item.x), round(item.y)];
  const middle = round(x + width / 2);
  const radius = Math.min(RADIUS[item.side], height / 2);
  const name = item.boxes.length === 1 ? scene.pane.boxes[item.boxes[0]].name : item.full;
  const size = `width="${width}" height="${height}" rx="${radius}" fill="${fill}" stroke="${stroke}"`;
  const sheet = (off) => `<rect x="${x + off}" y="${y + off}" ${size}/>`;
  const line = (kind, below, words, color) =>
    `<text class="${kind}" x="${middle}" y="${round(y + below)}" dy="0.35em" fill="${color}">${escaped(words)}</text>`;
  return [
    `<g><title>${escaped(name)}</title>`, item.kind === "box" ? "" : sheet(3), sheet(0), ...stripSvg(item, x, y),
    line("label", item.tag ? 13.5 : height / 2, item.label, text), item.tag && line("tag", 26.5, item.tag, tag), "</g>",
  ].join("");
}

function stripSvg(item, x, y) {
  let left = x + 3;
  return (item.strip || []).map(({ color, share }) => {
    const width = (item.width - 6) * share;
    left += width;
    const size = `width="${round(width)}" height="3"`;
    return `<rect x="${round(left - width)}" y="${y + item.height - 4}" ${size} fill="${color}"/>`;
  });
}

// -> a promise of the PNG as a Blob, at twice the size of the picture where that is possible.
export function toPng(panes, theme) {
  const [width, height] = extent(panes);
  const scale = Math.min(2, MOST_PIXELS / width, MOST_PIXELS / height);
  const canvas = new OffscreenCanvas(Math.ceil(width * scale), Math.ceil(height * scale));
  const context = canvas.getContext("2d");
  context.fillStyle = theme.back;
  context.fillRect(0, 0, canvas.width, canvas.height);
  let left = MARGIN;
  for (const { title, scene } of panes) {
    context.setTransform(1, 0, 0, 1, left * scale, (MARGIN + HEAD) * scale);
    const size = { width: (scene.width + 8) * scale, height: (scene.height + 8) * scale };
    drawScene(context, scene, { x: -2, y: -2, scale }, size, theme, noMarks());
    context.setTransform(1, 0, 0, 1, left * scale, MARGIN * scale);
    context.font = `600 ${14 * scale}px ${theme.font}`;
    context.fillStyle = theme.text;
    context.textAlign = "left";
    context.fillText(title, 0, 12 * scale);
    left += scene.width + 2 * MARGIN;
  }
  return canvas.convertToBlob({ type: "image/png" }); // `toBlob` of a canvas waits for an idle page
}

// The page of page.html with what it shows; `graphView` is the function all modules stand in.
export function toPage(title, state) {
  const json = JSON.stringify(state).replaceAll("<", "\\u003c");
  const fill = { TITLE: escaped(title), STATE: json, PROGRAM: String(graphView) };
  return PAGE.replace(/\{\{(TITLE|STATE|PROGRAM)\}\}/g, (_, name) => fill[name]);
}
