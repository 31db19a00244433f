// One pane: its canvas, where it looks, and what a user does on it. What that means is decided by the view around it.

import { centred, firstLook, fitted, held, revealing, zoomed } from "./camera.js";
import { drawScene, noMarks } from "./draw.js";
import { element } from "./elements.js";
import { listenToKeys, middleItem, neighbour } from "./keys.js";
import { Minimap } from "./minimap.js";
import { listenToPointer } from "./pointer.js";
import { boundsOf, frameHeadAt, itemAt } from "./scene.js";
import { badgeOf } from "./words.js";

const GLIDE_MS = 220;
const SIGN = 24; // the width of the − before a title, with some room

export class Pane {
  // view: {theme, alone, pick(pane, item, add), unfold(pane, item), foldFrame(pane, frame), hover(pane, item, event),
  // focus(pane, item), search(), clear(), drawn(pane)}; items by their place, -1 for none
  constructor(name, view) {
    Object.assign(this, { name, view, scene: null, camera: null, size: { width: 0, height: 0 }, drawnBoxes: 0 });
    this.marks = noMarks();
    this.canvas = element("canvas", { class: "wbg-canvas", tabindex: "0", role: "application" });
    this.map = new Minimap((x, y) => this.look(centred(x, y, this.camera.scale, this.size)));
    this.title = element("b");
    this.count = element("span", { class: "wbg-quiet" });
    this.hint = element("div", { class: "wbg-hint", "aria-hidden": "true" },
      "Click here first, or hold Ctrl, to zoom with the wheel");
    const button = (text, title, onclick) =>
      element("button", { title, "aria-label": `${text}: ${title}, ${name}`, onclick }, text);
    const buttons = [
      button("−", "Zoom out (-)", () => this.zoom(0.8)), button("+", "Zoom in (+)", () => this.zoom(1.25)),
      button("Fit", "Show all of it (0)", () => this.fit()),
    ];
    this.element = element("section", { class: "wbg-pane", "data-pane": name, hidden: true },
      element("div", { class: "wbg-head" }, this.title, this.count, element("span", { class: "wbg-zoom" }, ...buttons)),
      element("div", { class: "wbg-stage" }, this.canvas, this.map.canvas, this.hint));
    const nothingScrolls = () => view.alone && document.documentElement.scrollHeight <= window.innerHeight;
    listenToPointer(this, () => document.activeElement === this.canvas || nothingScrolls());
    listenToKeys(this.canvas, {
      walk: (key) => this.walk(key), choose: (add) => this.choose(add), fold: () => this.foldAround(),
      zoom: (factor) => this.zoom(factor), fit: () => this.fit(),
      search: () => view.search(), clear: () => view.clear(),
    });
    this.canvas.addEventListener("focus", () => this.draw());
    this.canvas.addEventListener("blur", () => this.draw());
    this.observer = new ResizeObserver(() => this.resize());
    this.observer.observe(this.canvas);
  }

  dispose() {
    this.observer.disconnect();
    cancelAnimationFrame(this.frame);
    cancelAnimationFrame(this.gliding);
    clearTimeout(this.hintTimer);
  }

  describe(title, count) {
    this.title.textContent = title;
    this.count.textContent = count;
    this.canvas.setAttribute("aria-label", `${title}: ${count}. Arrow keys walk along the arrows, ` +
      "Enter selects or unfolds, Backspace folds, plus and minus zoom, 0 shows all, slash searches.");
  }

  // anchor: {key, kind, x, y}: an item that shall stay at this point of the pane.
  show(scene, anchor) {
    const focused = this.scene?.items[this.marks.focus];
    this.marks.focus = focused ? scene.items.findIndex((item) => item.key === focused.key) : -1;
    this.marks.hover = -1;
    this.scene = scene;
    const kept = anchor && scene.items.find((item) => item.kind === anchor.kind && item.key === anchor.key);
    const frame = anchor && scene.frames.find((one) => one.key === anchor.key);
    if (!this.camera && this.size.width) this.camera = firstLook(scene, this.size);
    else if (this.camera && (kept || frame)) {
      const [x, y] = kept ? [kept.x + kept.width / 2, kept.y] : [frame.x + frame.width / 2, frame.y];
      this.camera = { ...this.camera, x: x - anchor.x / this.camera.scale, y: y - anchor.y / this.camera.scale };
    }
    if (this.camera) this.camera = held(this.camera, scene, this.size);
    this.redraw();
  }

  // What stands nearest to the middle, to be kept there when the picture changes.
  middleAnchor() {
    if (!this.scene?.items.length || !this.camera) return null;
    const { focus } = this.marks;
    const item = this.scene.items[focus >= 0 ? focus : middleItem(this.scene, this.camera, this.size)];
    return this.anchorAt(item.kind, item.key, item);
  }

  anchorAt(kind, key, { x, y, width }) {
    const { x: left, y: top, scale } = this.camera;
    return { kind, key, x: (x + width / 2 - left) * scale, y: (y - top) * scale };
  }

  resize() {
    const { clientWidth: width, clientHeight: height } = this.canvas;
    const isSame = width === this.size.width && height === this.size.height && this.ratio === window.devicePixelRatio;
    if (!width || !height || isSame) return;
    if (this.camera) this.camera.x += (this.size.width - width) / 2 / this.camera.scale; // the middle stays
    this.size = { width, height };
    this.ratio = window.devicePixelRatio || 1;
    [this.canvas.width, this.canvas.height] = [Math.round(width * this.ratio), Math.round(height * this.ratio)];
    if (!this.scene) return;
    this.camera = held(this.camera ?? firstLook(this.scene, this.size), this.scene, this.size);
    this.redraw(true);
  }

  // After a change of colours, marks or boxes; draw() is enough after a move.
  redraw(now = false) {
    this.mapIsOld = true;
    if (now) this.paint();
    else this.draw();
  }

  draw() {
    this.frame ??= requestAnimationFrame(() => this.paint());
  }

  paint() {
    cancelAnimationFrame(this.frame);
    this.frame = undefined;
    if (!this.scene || !this.camera) return;
    if (this.ratio !== window.devicePixelRatio) this.resize();
    const context = this.canvas.getContext("2d", { alpha: false });
    context.setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
    const focused = document.activeElement === this.canvas || this.isSearched;
    const marks = focused ? this.marks : { ...this.marks, focus: -1 };
    this.drawnBoxes = drawScene(context, this.scene, this.camera, this.size, this.view.theme, marks);
    if (this.mapIsOld) this.map.redraw(this.scene, this.size, this.view.theme, this.marks);
    this.mapIsOld = false;
    this.map.look(this.camera, this.size);
    this.view.drawn(this);
  }

  look(camera) {
    cancelAnimationFrame(this.gliding);
    this.camera = held(camera, this.scene, this.size);
    this.draw();
  }

  pan(dx, dy) {
    if (!this.scene) return;
    const { x, y, scale } = this.camera;
    this.look({ x: x - dx / scale, y: y - dy / scale, scale });
  }

  zoom(factor, x = this.size.width / 2, y = this.size.height / 2) {
    if (this.scene) this.look(zoomed(this.camera, factor, x, y, this.scene, this.size));
  }

  fit() {
    if (this.scene) this.glide(fitted(this.scene, this.size));
  }

  reveal(items) {
    if (!items.length || !this.scene || !this.camera) return;
    this.glide(revealing(this.camera, boundsOf(this.scene, items), this.size));
  }

  glide(target) {
    if (target === this.camera) return;
    const from = this.camera;
    const start = performance.now();
    const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
    const step = (now) => {
      const share = still ? 1 : Math.min(1, (now - start) / GLIDE_MS);
      const eased = share * (2 - share);
      const mixed = (key) => from[key] + (target[key] - from[key]) * eased;
      this.look(share < 1 ? { x: mixed("x"), y: mixed("y"), scale: mixed("scale") } : target);
      if (share < 1) this.gliding = requestAnimationFrame(step);
    };
    step(start);
  }

  world(x, y) {
    return [this.camera.x + x / this.camera.scale, this.camera.y + y / this.camera.scale];
  }

  click(x, y, event) {
    this.canvas.focus({ preventScroll: true });
    if (!this.scene) return;
    const place = this.world(x, y);
    const item = itemAt(this.scene, ...place, 3 / this.camera.scale);
    const head = item < 0 && frameHeadAt(this.scene, ...place);
    if (item >= 0 && this.onBadge(item, place)) this.view.unfold(this, item);
    else if (head) {
      if (place[0] < head.x + SIGN) this.view.foldFrame(this, head);
    } else this.view.pick(this, item, event.shiftKey || event.ctrlKey || event.metaKey);
  }

  onBadge(index, [x, y]) {
    const item = this.scene.items[index];
    const badge = badgeOf(item);
    return item.kind !== "box" && x >= badge.x - 4 && y >= badge.y - 4 && y <= badge.y + badge.size + 4;
  }

  doubleClick(x, y) {
    if (!this.scene) return;
    const place = this.world(x, y);
    const item = itemAt(this.scene, ...place);
    const head = item < 0 && frameHeadAt(this.scene, ...place);
    if (item >= 0 && this.scene.items[item].kind !== "box") {
      if (!this.onBadge(item, place)) this.view.unfold(this, item);
    } else if (head) this.view.foldFrame(this, head);
    else this.zoom(1.6, x, y);
  }

  hover(x, y, event) {
    if (!this.scene) return;
    const place = this.world(x, y);
    const item = itemAt(this.scene, ...place);
    const head = item < 0 && frameHeadAt(this.scene, ...place);
    this.canvas.classList.toggle("wbg-over", item >= 0 || Boolean(head));
    this.view.hover(this, item, event);
  }

  leave() {
    this.view.hover(this, -1);
  }

  wheelRefused() {
    this.hint.classList.add("wbg-on");
    clearTimeout(this.hintTimer);
    this.hintTimer = setTimeout(() => this.hint.classList.remove("wbg-on"), 1400);
  }

  walk(key) {
    if (!this.scene?.items.length) return;
    const start = this.marks.focus;
    const next = start < 0 ? middleItem(this.scene, this.camera, this.size) : neighbour(this.scene, start, key);
    if (next < 0) return;
    this.marks.focus = next;
    this.reveal([next]);
    this.redraw();
    this.view.focus(this, next);
  }

  choose(add) {
    const { focus } = this.marks;
    if (focus < 0) this.walk("ArrowDown");
    else if (this.scene.items[focus].kind === "box" || add) this.view.pick(this, focus, add);
    else this.view.unfold(this, focus);
  }

  foldAround() {
    const item = this.scene?.items[this.marks.focus];
    const folder = item && this.scene.tree.folders[item.folder];
    const frame = folder && this.scene.frames.find((one) => one.key === folder.key);
    if (folder) this.view.foldFrame(this, frame ?? { ...item, key: folder.key, title: folder.title });
  }
}
