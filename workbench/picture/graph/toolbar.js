// The lines above the panes: colours, search, folding, saving, and the legend.

import { COLOR_WORDS } from "./colors.js";
import { element } from "./elements.js";
import { legendOf } from "./legend.js";

const FOLDS = {
  groups: ["Fused groups", "Fold the nodes that one kernel does the work of into one box, or unfold them"],
  alike: ["Repeats", "Fold the blocks that repeat"],
  all: ["All", "Fold all folders and groups"],
  none: ["None", "Unfold everything"],
};
const SAVES = {
  SVG: "Save both graphs as an SVG drawing with real text",
  PNG: "Save both graphs as a PNG picture",
  HTML: "Save this view as one HTML file that works by itself",
};

export class Toolbar {
  // actions: {color(by), search(text), step(direction), fold(wish), save(format)}; formats: of SAVES
  constructor(actions, formats) {
    this.actions = actions;
    this.colors = new Map();
    this.words = element("input", {
      type: "search", placeholder: "Search boxes", "aria-label": "Search names, labels and facts", spellcheck: "false",
      oninput: () => actions.search(this.words.value), onkeydown: (event) => this.searchKey(event),
    });
    this.found = element("span", { class: "wbg-found", role: "status" });
    const step = (text, title, direction) =>
      element("button", { title, "aria-label": title, onclick: () => actions.step(direction) }, text);
    this.steps = [step("‹", "Previous match", -1), step("›", "Next match (Enter)", 1)];
    this.folds = new Map(Object.entries(FOLDS).map(([wish, [text, title]]) =>
      [wish, element("button", { title, onclick: () => this.fold(wish) }, text)]));
    const saves = formats.map((format) =>
      element("button", { title: SAVES[format], onclick: () => actions.save(format) }, format));
    this.coloring = tools("Colour", []);
    this.folding = tools("Fold", this.folds.values());
    const search = element("span", { class: "wbg-search" }, this.words, this.found, ...this.steps);
    this.element = element("div", { class: "wbg-bar" }, this.coloring, search, this.folding, tools("Save", saves));
    this.legend = element("div", { class: "wbg-legend" });
  }

  fold(wish) {
    this.actions.fold(wish === "groups" && isPressed(this.folds.get(wish)) ? "no groups" : wish);
  }

  searchKey(event) {
    event.stopPropagation();
    if (event.key === "Enter") this.actions.step(event.shiftKey ? -1 : 1);
    if (event.key === "Escape") {
      this.words.value = "";
      this.actions.search("");
    }
  }

  // Buttons that stay are kept, and with them the focus.
  showColors(colors, by) {
    if (colors.join() !== [...this.colors.keys()].join()) {
      this.colors = new Map(colors.map((name) =>
        [name, element("button", { onclick: () => this.actions.color(name) }, COLOR_WORDS[name])]));
      this.coloring.lastChild.replaceChildren(...this.colors.values());
    }
    for (const [name, button] of this.colors) press(button, name === by);
    this.coloring.hidden = colors.length < 2;
  }

  // groups: null where there are none, else whether all are folded; alike, folders: whether there are any.
  showFolds({ groups, alike, folders }) {
    this.folds.get("groups").hidden = groups === null;
    press(this.folds.get("groups"), Boolean(groups));
    this.folds.get("alike").hidden = !alike;
    this.folding.hidden = groups === null && !folders;
  }

  // place: of the match on show, or -1.
  showFound(query, count, place) {
    if (this.words.value !== query) this.words.value = query;
    const total = count ? count.toLocaleString("en") : "none";
    this.found.textContent = !query ? "" : place < 0 ? total : `${place + 1} of ${total}`;
    for (const button of this.steps) button.hidden = !count;
  }

  showLegend(coloring, by, theme) {
    this.legend.replaceChildren(...legendOf(coloring, by, theme));
  }
}

function tools(label, buttons) {
  const choice = element("span", { class: "wbg-choice", role: "group", "aria-label": label }, ...buttons);
  return element("span", { class: "wbg-tools" }, element("span", { class: "wbg-quiet" }, label), choice);
}

const isPressed = (button) => button.getAttribute("aria-pressed") === "true";
const press = (button, on) => button.setAttribute("aria-pressed", String(on));
