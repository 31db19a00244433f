// The line above the panes: colours, search, folding, saving; and the legend below it.

import { COLOR_WORDS, HEAT, heat, milliseconds, mix, paint } from "./colors.js";
import { element } from "./elements.js";

const LEGEND_MOST = 12;

export class Toolbar {
  // actions: {color(by), search(text), step(direction), fold(what), save(format)}
  constructor(actions, formats) {
    this.actions = actions;
    this.colors = element("span", { class: "wbg-choice", role: "group", "aria-label": "Colour by" });
    this.words = element("input", { type: "search", placeholder: "Search boxes", "aria-label": "Search names, labels and facts", spellcheck: "false",
      oninput: () => actions.search(this.words.value),
      onkeydown: (event) => this.searchKey(event) });
    this.found = element("span", { class: "wbg-found", role: "status" });
    this.steps = [["‹", "Previous match", -1], ["›", "Next match (Enter)", 1]].map(([text, title, direction]) =>
      element("button", { title, "aria-label": title, onclick: () => actions.step(direction) }, text));
    const folds = [["groups", "Fused groups", "Fold the nodes that one kernel does the work of into one box, or unfold them"],
      ["alike", "Repeats", "Fold the blocks that repeat"], ["all", "All", "Fold all folders and groups"], ["none", "None", "Unfold everything"]];
    this.folds = new Map(folds.map(([what, text, title]) => [what, element("button", { title, onclick: () => this.fold(what) }, text)]));
    const saves = formats.map((format) => element("button", { title: SAVE_WORDS[format], onclick: () => actions.save(format) }, format));
    this.element = element("div", { class: "wbg-bar" },
      this.labelled("Colour", this.colors),
      element("span", { class: "wbg-search" }, this.words, this.found, ...this.steps),
      this.folding = this.labelled("Fold", element("span", { class: "wbg-choice", role: "group", "aria-label": "Fold" }, ...this.folds.values())),
      this.labelled("Save", element("span", { class: "wbg-choice", role: "group", "aria-label": "Save as" }, ...saves)));
    this.legend = element("div", { class: "wbg-legend" });
  }

  fold(what) {
    const isFolded = what === "groups" && this.folds.get(what).getAttribute("aria-pressed") === "true";
    this.actions.fold(isFolded ? "no groups" : what);
  }

  labelled(label, content) {
    return element("span", { class: "wbg-tools" }, element("span", { class: "wbg-quiet" }, label), content);
  }

  searchKey(event) {
    event.stopPropagation();
    if (event.key === "Enter") this.actions.step(event.shiftKey ? -1 : 1);
    if (event.key === "Escape") {
      this.words.value = "";
      this.actions.search("");
    }
  }

  showColors(colors, by) {
    this.colors.parentElement.hidden = colors.length < 2;
    this.colors.replaceChildren(...colors.map((name) =>
      element("button", { "aria-pressed": String(name === by), onclick: () => this.actions.color(name) }, COLOR_WORDS[name])));
  }

  // folds: {groups: null where there are none, else whether all are folded, alike: whether there are any, folders: ...}
  showFolds({ groups, alike, folders }) {
    this.folds.get("groups").hidden = groups === null;
    this.folds.get("groups").setAttribute("aria-pressed", String(Boolean(groups)));
    this.folds.get("alike").hidden = !alike;
    this.folding.hidden = groups === null && !folders;
  }

  showFound(query, count, place) {
    if (this.words.value !== query) this.words.value = query;
    this.found.textContent = !query ? "" : !count ? "none" : place < 0 ? count.toLocaleString("en") : `${place + 1} of ${count.toLocaleString("en")}`;
    for (const button of this.steps) button.hidden = !count;
  }

  showLegend(coloring, by, theme) {
    const entries = by === "fusion" ? fusionLegend(coloring, theme) : by === "time" ? timeLegend(coloring, theme) : valueLegend(coloring, theme);
    if (coloring.plain && entries.length) entries.push(entry(theme, null, `without ${{ fusion: "a fusion", time: "a time" }[by] ?? COLOR_WORDS[by]}`, coloring.plain));
    this.legend.replaceChildren(...entries);
  }
}

const SAVE_WORDS = {
  SVG: "Save both graphs as an SVG drawing with real text", PNG: "Save both graphs as a PNG picture",
  HTML: "Save this view as one HTML file that works by itself",
};

function swatch(theme, color, side = "engine") {
  const { fill, stroke } = paint(theme, color);
  return element("i", { class: `wbg-swatch wbg-${side}`, style: `background:${fill};border-color:${stroke}` });
}

function entry(theme, color, label, count, side) {
  return element("span", { class: "wbg-entry" }, swatch(theme, color, side), ` ${label} `, element("b", {}, count.toLocaleString("en")));
}

function valueLegend({ legend }, theme) {
  const shown = legend.slice(0, LEGEND_MOST).map(({ color, label, count, side }) => entry(theme, color, label, count, side));
  if (legend.length > LEGEND_MOST) shown.push(element("span", { class: "wbg-entry wbg-quiet" }, `and ${legend.length - LEGEND_MOST} more`));
  return shown;
}

function fusionLegend({ legend }, theme) {
  if (!legend.length) return [];
  return [element("span", { class: "wbg-entry" },
    ...legend.slice(0, 6).map(({ color }) => swatch(theme, color)), ` ${legend.length === 1 ? "1 group" : `${legend.length.toLocaleString("en")} groups`}: same number and colour, same kernel`)];
}

function timeLegend({ most }, theme) {
  if (!most) return [];
  const stops = [0, 0.5, 1].map((share) => paint(theme, HEAT, heat(share)).fill);
  return [element("span", { class: "wbg-entry" }, "0 ",
    element("i", { class: "wbg-ramp", style: `background:linear-gradient(90deg,${stops.join(",")});border-color:${mix(theme.text, theme.back, 0.4)}` }),
    ` ${milliseconds(most)}`)];
}
