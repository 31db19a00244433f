// GraphView: two panes and what joins them: one picture, one selection, one search, one way of colouring.

import { coloring } from "./colors.js";
import { element, numbered, save, whenShown } from "./elements.js";
import { toPage, toPng, toSvg } from "./export.js";
import { refolded, toggled } from "./folding.js";
import { Pane } from "./pane.js";
import { afterPick, linksOf, matchingBoxes, pickedBoxes } from "./selection.js";
import { layOutSide, paintSide, prepareSide } from "./side.js";
import { readTheme, watchTheme } from "./theme.js";
import { Toolbar } from "./toolbar.js";
import { Tooltip, describe, spoken } from "./tooltip.js";
import { LayoutWorker } from "./worker.js";

const SIDES = ["before", "after"];
const other = (name) => (name === "before" ? "after" : "before");

export class View {
  // model: get(name), set(name, value), save_changes(), on(event, callback), off(event, callback) for the traits
  // picture, selected, color_by, search and height. alone: in a page of its own.
  constructor(model, root, { alone }) {
    Object.assign(this, { model, root, alone, start: performance.now(), frames: 0, cursor: -1 });
    root.classList.add("wbg");
    root.classList.toggle("wbg-alone", alone);
    root.dataset.lmSuppressShortcuts = "true";
    root.graph = this; // for tests and scripts
    root.append(element("style", {}, STYLE));
    this.worker = new LayoutWorker();
    this.toolbar = new Toolbar({
      color: (by) => this.set("color_by", by), search: (text) => this.set("search", text),
      step: (direction) => this.step(direction), fold: (wish) => this.foldMany(wish),
      save: (format) => this.save(format),
    }, alone ? ["SVG", "PNG"] : ["SVG", "PNG", "HTML"]);
    this.panes = Object.fromEntries(SIDES.map((name) => [name, new Pane(name, this)]));
    this.sides = null; // until the first picture is laid out
    this.empty = element("p", { class: "wbg-empty", hidden: true }, "Nothing to draw yet: this picture has no boxes.");
    this.said = element("div", { class: "wbg-said", "aria-live": "polite" });
    this.area = element("div", { class: "wbg-panes" }, ...SIDES.map((name) => this.panes[name].element));
    root.append(this.toolbar.element, this.toolbar.legend, this.area, this.empty, this.said);
    this.tooltip = new Tooltip(root);
    this.onChange = () => this.theme && this.update();
    model.on("change", this.onChange);
    this.endWait = whenShown(root, () => {
      this.theme = readTheme(root);
      this.update();
    });
    this.endWatch = watchTheme(() => {
      this.theme &&= readTheme(root);
      if (this.sides) this.recolor();
    });
  }

  dispose() {
    this.model.off("change", this.onChange);
    this.endWait();
    this.endWatch();
    this.worker.dispose();
    for (const name of SIDES) this.panes[name].dispose();
  }

  set(name, value) {
    this.model.set(name, value);
    this.model.save_changes();
    this.update();
  }

  // ---- what the model says

  update() {
    const picture = this.model.get("picture");
    const [query, selected, height] = ["search", "selected", "height"].map((name) => this.model.get(name));
    const was = this.shown ?? {};
    const now = (this.shown = { picture, query, selected, height, by: this.colorBy(picture) });
    if (height !== was.height) this.root.style.setProperty("--wbg-height", `${height}px`);
    if (now.picture !== was.picture) this.take(picture);
    else if (this.sides) {
      if (now.by !== was.by) this.recolor();
      if (query !== was.query) this.find();
      if (JSON.stringify(selected) !== JSON.stringify(was.selected)) this.mark(SIDES);
    }
  }

  colorBy(picture) {
    const by = this.model.get("color_by");
    return picture.colors.includes(by) ? by : picture.colors[0] ?? "fusion";
  }

  // What is on show stays until all of the new picture is laid out.
  async take(picture) {
    const tints = Object.fromEntries([this.shown.by, ...picture.colors].map((by) => [by, coloring(picture, by)]));
    const token = (this.token = {});
    const prepare = (name) => prepareSide(picture[name], this.sides?.[name], this.tools(tints));
    const fresh = await Promise.all(SIDES.map(prepare));
    if (token !== this.token) return; // another picture came in the meantime
    const old = this.sides;
    this.tints = tints;
    this.links = linksOf(picture);
    this.sides = Object.fromEntries(SIDES.map((name, index) => [name, fresh[index]]));
    const any = SIDES.some((name) => picture[name].boxes.length);
    this.empty.hidden = any;
    for (const part of [this.toolbar.element, this.toolbar.legend, this.area]) part.hidden = !any;
    this.recolor();
    for (const name of SIDES) this.showSide(name, old?.[name]);
    this.find();
  }

  tools(tints) {
    return { family: this.theme.font, tints: Object.values(tints), worker: this.worker };
  }

  // anchor: what shall stay at its place; without, what is in the middle.
  showSide(name, old, anchor) {
    const { pane, scene } = this.sides[name];
    const shown = this.panes[name];
    const [total, drawn] = [pane.boxes.length, scene.items.length];
    const count = numbered(pane.boxes.filter((box) => box.side !== "variable").length, pane.noun, `${pane.noun}s`);
    const more = pane.left_out ? ` +${pane.left_out.toLocaleString("en")} on constants` : "";
    shown.element.hidden = !total;
    shown.describe(pane.title, (drawn < total ? `${count} in ${drawn.toLocaleString("en")} boxes` : count) + more);
    this.root.dataset[name === "before" ? "boxesBefore" : "boxesAfter"] = drawn;
    this.root.dataset.layoutMs = SIDES.reduce((sum, one) => sum + this.sides[one].layout.ms, 0).toFixed(1);
    if (!total) shown.scene = null;
    else if (scene !== old?.scene) shown.show(scene, anchor ?? shown.middleAnchor());
  }

  // ---- colours

  recolor() {
    const { by, picture } = this.shown;
    this.toolbar.showColors(picture.colors, by);
    this.toolbar.showLegend(this.tints[by], by, this.theme);
    this.root.dataset.color = by;
    this.root.dataset.theme = this.theme.isDark ? "dark" : "light";
    for (const name of SIDES) paintSide(this.sides[name], this.tints[by], this.theme);
    this.showFolds();
    this.mark([]);
  }

  // ---- selection, links, search

  // reveal: the sides in which what is lit shall be brought in sight.
  mark(reveal) {
    const picked = (name) => pickedBoxes(this.shown.selected, name, this.sides[name].pane);
    for (const name of SIDES) {
      const pane = this.panes[name];
      const itemsOf = (boxes) => new Set(boxes.map((box) => this.sides[name].scene.itemOf[box]));
      pane.marks.picked = itemsOf(picked(name));
      pane.marks.linked = itemsOf(picked(other(name)).flatMap((box) => this.links[other(name)][box]));
      pane.marks.matched = this.found && itemsOf(this.found.filter((one) => one.name === name).map((one) => one.box));
      if (reveal.includes(name)) pane.reveal([...pane.marks.picked, ...pane.marks.linked]);
      pane.redraw();
    }
    this.root.dataset.selected = SIDES.reduce((sum, name) => sum + picked(name).length, 0);
  }

  find() {
    const { query } = this.shown;
    this.cursor = -1;
    for (const name of SIDES) this.panes[name].isSearched = false;
    const found = (name) => matchingBoxes(this.sides[name].pane, query).map((box) => ({ name, box }));
    this.found = query.trim() ? SIDES.flatMap(found) : null;
    this.root.dataset.matches = this.found?.length ?? 0;
    this.toolbar.showFound(query, this.found?.length ?? 0, -1);
    this.mark([]);
  }

  step(direction) {
    if (!this.found?.length) return;
    const count = this.found.length;
    this.cursor = this.cursor < 0 && direction < 0 ? count - 1 : (this.cursor + direction + count) % count;
    const { name, box } = this.found[this.cursor];
    const pane = this.panes[name];
    for (const one of SIDES) this.panes[one].isSearched = one === name;
    pane.marks.focus = pane.scene.itemOf[box];
    pane.reveal([pane.marks.focus]);
    for (const one of SIDES) this.panes[one].redraw();
    this.focus(pane, pane.marks.focus, box);
    this.toolbar.showFound(this.shown.query, count, this.cursor);
  }

  search() {
    this.toolbar.words.focus();
  }

  clear() {
    this.model.set("search", "");
    this.set("selected", []);
  }

  // ---- what panes ask for

  pick(pane, index, add) {
    if (index < 0 && add) return;
    const { pane: { boxes }, scene } = this.sides[pane.name];
    const names = index < 0 ? [] : scene.items[index].boxes.map((box) => boxes[box].name);
    const selected = afterPick(this.shown.selected, pane.name, names, add);
    pane.marks.focus = index;
    this.shown = { ...this.shown, selected }; // so that only the other pane moves
    this.set("selected", selected);
    this.mark([other(pane.name)]);
    if (index >= 0) this.focus(pane, index);
  }

  unfold(pane, index) {
    const item = pane.scene.items[index];
    const { folded } = this.sides[pane.name];
    this.refold(pane.name, toggled(folded, item.kind, item.key, false), pane.anchorAt("frame", item.key, item));
    this.say(`${item.full} is unfolded.`);
  }

  foldFrame(pane, frame) {
    const { folded } = this.sides[pane.name];
    this.refold(pane.name, toggled(folded, "folder", frame.key, true), pane.anchorAt("folder", frame.key, frame));
    this.say(`${frame.title} is folded.`);
  }

  foldMany(wish) {
    for (const name of SIDES) {
      const { tree, folded } = this.sides[name];
      this.refold(name, refolded(wish, tree, folded), this.panes[name].middleAnchor());
    }
  }

  async refold(name, folded, anchor) {
    const old = this.sides[name];
    const token = (old.token = {});
    const side = await layOutSide({ ...old, folded }, old, this.tools(this.tints));
    if (this.sides[name].token !== token) return; // folded otherwise, or another picture, in the meantime
    this.sides[name] = side;
    paintSide(side, this.tints[this.shown.by], this.theme);
    this.showSide(name, old, anchor);
    this.showFolds();
    this.mark([]);
  }

  showFolds() {
    const sides = SIDES.map((name) => this.sides[name]);
    const groups = sides.filter(({ tree }) => tree.groups.size);
    this.toolbar.showFolds({
      groups: groups.length ? groups.every(({ tree, folded }) => folded.groups.size === tree.groups.size) : null,
      alike: sides.some(({ tree }) => tree.folders.some((folder) => folder.alike > 1)),
      folders: sides.some(({ tree }) => tree.folders.length),
    });
  }

  hover(pane, index, event) {
    if (pane.marks.hover !== index) {
      pane.marks.hover = index;
      pane.draw();
    }
    if (index < 0) {
      this.tooltip.hide();
      return;
    }
    const side = this.sides[pane.name];
    const far = this.sides[other(pane.name)];
    const item = side.scene.items[index];
    const linked = new Set(item.boxes.flatMap((box) => this.links[pane.name][box]));
    this.tooltip.show(describe(side.pane, item, far.pane, [...linked]), event);
  }

  // box: the one that was looked for, where it is folded in.
  focus(pane, index, box) {
    this.tooltip.hide(); // it tells of the box under the pointer, which is another one now
    this.say(spoken(pane.scene, index, pane.marks.picked.has(index), box));
  }

  say(sentence) {
    this.said.textContent = sentence;
  }

  drawn(pane) {
    this.frames++;
    const { dataset } = this.root;
    dataset.frames = this.frames;
    dataset[pane.name === "before" ? "drawnBefore" : "drawnAfter"] = pane.drawnBoxes;
    pane.element.dataset.scale = pane.camera.scale.toFixed(4);
    const waiting = SIDES.some((name) => this.sides[name].pane.boxes.length && !this.panes[name].camera);
    if (!dataset.firstPictureMs && !waiting) dataset.firstPictureMs = (performance.now() - this.start).toFixed(1);
  }

  async save(format) {
    const { picture } = this.shown;
    const name = (picture.title || "graph").replace(/[^\w.-]+/g, "_");
    const panes = SIDES.map((side) => this.sides[side]).filter(({ pane }) => pane.boxes.length)
      .map(({ pane, scene }) => ({ title: pane.title, scene }));
    if (format === "SVG") save(`${name}.svg`, toSvg(picture.title, panes, this.theme), "image/svg+xml");
    if (format === "PNG") save(`${name}.png`, await toPng(panes, this.theme), "image/png");
    if (format === "HTML") {
      const state = { picture, selected: this.shown.selected, color_by: this.shown.by, search: this.shown.query };
      save(`${name}.html`, toPage(picture.title, state), "text/html");
    }
  }
}
