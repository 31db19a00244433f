// Colours of boxes by what they tell, the same in both panes, and the legend. Never by colour alone: boxes also carry
// the value as a tag, and the side (engine, native, variable) as their shape.

// Okabe and Ito's palette for all eyes, without its yellow and black, and more of Tol's.
const PALETTE = [
  "#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#8479d0", "#999933", "#aa4499", "#882255", "#44aa99",
  "#666666",
];
const PARTS = PALETTE.filter((color) => color !== "#e69f00"); // which is too near to native's yellow
const SIDES = { engine: "#2e9e57", native: "#e3b505", variable: "#d1495b" };
const SIDE_WORDS = { engine: "TensorRT", native: "native", variable: "variable" };
export const HEAT = "#d55e00";
const KINDS = [
  "vertical", "horizontal", "region", "single", "reformat", "constant", "sync", "other", "folded", "removed",
  "absorbed", "variable",
];
const PRECISIONS = ["fp32", "fp16", "int8", "bf16", "tf32", "fp8", "int32", "int64", "bool"];

export const COLOR_WORDS = {
  fusion: "fusion", kind: "kind", precision: "precision", time: "time", side: "who runs it", part: "subgraph",
};

const VALUE = {
  fusion: (box) => box.group,
  kind: (box) => box.kind,
  precision: (box) => box.precision,
  side: (box) => box.side ?? "engine",
  part: (box) => (box.side === "native" ? "native" : box.part),
};
const ORDER = { kind: KINDS, precision: PRECISIONS, side: Object.keys(SIDES) };

// -> {colorOf(box): "#rrggbb" or null, strengthOf(boxes): 0 to 1 or null, tagOf(boxes): text,
//     legend: [{label, color, count, side}], most: ms or 0, plain: how many boxes say nothing}; counts are
//     those of the network before, where it is known
export function coloring(picture, by) {
  const boxes = [...picture.before.boxes, ...picture.after.boxes];
  const counted = picture.before.boxes.length ? picture.before.boxes : boxes;
  return by === "time" ? byTime(boxes, counted) : byValue(boxes, counted, by);
}

function byTime(boxes, counted) {
  const timed = boxes.filter((box) => box.time_ms !== undefined);
  const most = timed.reduce((top, box) => Math.max(top, box.time_ms), 0);
  return {
    most,
    colorOf: (box) => (box.time_ms === undefined || !most ? null : HEAT),
    strengthOf: (some) => heat(totalTime(some) / most),
    tagOf: (some) => (some.some((box) => box.time_ms !== undefined) ? milliseconds(totalTime(some)) : ""),
    legend: [],
    plain: counted.filter((box) => box.time_ms === undefined).length,
  };
}

export const heat = (share) => 0.06 + 0.8 * Math.min(1, share);

// Nodes of one group share one kernel, and with it its time.
function totalTime(boxes) {
  const kernels = new Map(boxes.map((box) => [box.group ?? box, box.time_ms ?? 0]));
  return [...kernels.values()].reduce((sum, time) => sum + time, 0);
}

export function milliseconds(value) {
  if (value >= 0.1) return `${value.toFixed(value >= 10 ? 1 : 2)} ms`;
  return `${(1000 * value).toFixed(value >= 0.01 ? 0 : 1)} µs`;
}

function byValue(boxes, counted, by) {
  const counts = new Map(boxes.map((box) => [VALUE[by](box), 0]));
  for (const box of counted) counts.set(VALUE[by](box), counts.get(VALUE[by](box)) + 1);
  const plain = counts.get(undefined) ?? 0;
  counts.delete(undefined);
  const known = ORDER[by] ?? [];
  const rank = (value) => (known.includes(value) ? known.indexOf(value) : known.length);
  const values = [...counts.keys()];
  if (known.length) values.sort((a, b) => rank(a) - rank(b));
  const colors = new Map(values.map((value, place) => [value, colorFor(by, value, place, known)]));
  const numbers = new Map(values.map((value, place) => [value, place + 1]));
  const tag = (value) => {
    if (by === "fusion") return `#${numbers.get(value)}`;
    if (by === "side") return value === "variable" ? "" : SIDE_WORDS[value]; // the shape of variables says it
    return value;
  };
  return {
    most: 0,
    colorOf: (box) => colors.get(VALUE[by](box)) ?? null,
    strengthOf: () => null,
    tagOf: (some) => {
      const value = VALUE[by](some[0]);
      return value === undefined || some.some((box) => VALUE[by](box) !== value) ? "" : tag(value);
    },
    legend: values.map((value) => {
      const [label, side] = by === "side" ? [SIDE_WORDS[value], value] : [value, "engine"];
      return { label, side, color: colors.get(value), count: counts.get(value) };
    }),
    plain,
  };
}

// A known value keeps its colour from picture to picture; unknown ones follow in the order they come.
function colorFor(by, value, place, known) {
  if (by === "side") return SIDES[value];
  if (by === "part") return value === "native" ? SIDES.native : PARTS[place % PARTS.length];
  return PALETTE[(known.includes(value) ? known.indexOf(value) : place) % PALETTE.length];
}

// How a box of this colour is painted: {fill, stroke, far: as a dot, text, tag}.
export function paint(theme, color, strength = null) {
  if (!color) {
    const stroke = mix(theme.text, theme.back, 0.4);
    return { fill: theme.plain, stroke, far: stroke, text: theme.text, tag: theme.quiet };
  }
  const fill = mix(color, theme.back, strength ?? (theme.isDark ? 0.42 : 0.26));
  const light = luminance(fill) > 0.32;
  const text = light ? "#1b1b1b" : "#fafafa";
  const stroke = mix(color, theme.text, theme.isDark ? 0.85 : 0.9);
  return { fill, stroke, far: strength === null ? stroke : fill, text, tag: mix(text, fill, 0.78) };
}

export function mix(color, other, share) {
  const [a, b] = [channels(color), channels(other)];
  return `rgb(${a.map((value, index) => Math.round(value * share + b[index] * (1 - share))).join(",")})`;
}

function channels(color) {
  const numbers = color.match(/^rgba?\(([^)]*)\)/)?.[1].split(/[ ,/]+/).map(Number);
  if (numbers) return numbers.slice(0, 3);
  const hex = color.replace("#", "");
  const long = hex.length < 6 ? [...hex].map((digit) => digit + digit).join("") : hex;
  const value = parseInt(long.slice(0, 6), 16);
  return Number.isNaN(value) ? [128, 128, 128] : [value >> 16, (value >> 8) & 255, value & 255];
}

export function luminance(color) {
  const [r, g, b] = channels(color).map((value) => (value / 255) ** 2.2);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}
