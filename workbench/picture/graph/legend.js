// What the colours mean, in one line.

import { COLOR_WORDS, HEAT, heat, milliseconds, mix, paint } from "./colors.js";
import { element, numbered } from "./elements.js";

const MOST = 12;
const WITHOUT = { fusion: "a fusion", time: "a time" };

// -> elements; none where all boxes say nothing.
export function legendOf(coloring, by, theme) {
  const entries = { fusion: groups, time: ramp }[by]?.(coloring, theme) ?? values(coloring, theme);
  if (!entries.length || !coloring.plain) return entries;
  const plain = { color: null, label: `without ${WITHOUT[by] ?? COLOR_WORDS[by]}`, count: coloring.plain };
  return [...entries, entry(theme, plain)];
}

function entry(theme, { color, label, count, side = "engine" }) {
  const number = element("b", {}, count.toLocaleString("en"));
  return element("span", { class: "wbg-entry" }, swatch(theme, color, side), ` ${label} `, number);
}

function swatch(theme, color, side) {
  const { fill, stroke } = paint(theme, color);
  return element("i", { class: `wbg-swatch wbg-${side}`, style: `background:${fill};border-color:${stroke}` });
}

function values({ legend }, theme) {
  const shown = legend.slice(0, MOST).map((one) => entry(theme, one));
  const more = legend.length - MOST;
  return more > 0 ? [...shown, element("span", { class: "wbg-entry" }, `and ${more} more`)] : shown;
}

function groups({ legend }, theme) {
  if (!legend.length) return [];
  const swatches = legend.slice(0, 6).map(({ color }) => swatch(theme, color, "engine"));
  const words = ` ${numbered(legend.length, "group", "groups")}: same number and colour, same kernel`;
  return [element("span", { class: "wbg-entry" }, ...swatches, words)];
}

function ramp({ most }, theme) {
  if (!most) return [];
  const stops = [0, 0.5, 1].map((share) => paint(theme, HEAT, heat(share)).fill);
  const border = mix(theme.text, theme.back, 0.4);
  const style = `background:linear-gradient(90deg,${stops.join(",")});border-color:${border}`;
  const bar = element("i", { class: "wbg-ramp", style });
  return [element("span", { class: "wbg-entry" }, "0 ", bar, ` ${milliseconds(most)}`)];
}
