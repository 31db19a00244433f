// The whole picture, small, in a corner of its pane: where one is, and a way to get elsewhere.

import { element } from "./elements.js";

const ROOM = { width: 80, height: 0.7 }; // pixels, and share of the pane's height
const LEAST = 26;
const MOST_SCALE = 0.12;

export class Minimap {
  // move(x, y): look at this point of the world.
  constructor(move) {
    this.canvas = element("canvas", { class: "wbg-map", "aria-hidden": "true" });
    this.still = document.createElement("canvas"); // all but the frame that tells where one is
    const go = (event) => {
      const box = this.canvas.getBoundingClientRect();
      move((event.clientX - box.left) / this.scale.x, (event.clientY - box.top) / this.scale.y);
    };
    this.canvas.addEventListener("pointerdown", (event) => {
      this.canvas.setPointerCapture(event.pointerId);
      go(event);
    });
    this.canvas.addEventListener("pointermove", (event) => event.buttons && go(event));
  }

  // Long pictures are drawn wider than they are, so that they can still be hit.
  redraw(scene, size, theme, marks) {
    const most = size.height * ROOM.height;
    const scale = Math.min(MOST_SCALE, ROOM.width / scene.width, most / scene.height);
    const width = Math.round(Math.max(LEAST, scene.width * scale));
    const height = Math.round(Math.max(LEAST, scene.height * scale));
    this.scale = { x: width / scene.width, y: height / scene.height };
    const ratio = window.devicePixelRatio || 1;
    for (const canvas of [this.canvas, this.still]) [canvas.width, canvas.height] = [width * ratio, height * ratio];
    Object.assign(this.canvas.style, { width: `${width}px`, height: `${height}px` });
    const context = this.still.getContext("2d");
    context.scale(ratio, ratio);
    context.fillStyle = theme.back;
    context.fillRect(0, 0, width, height);
    const dot = (item, color, least) => {
      context.fillStyle = color;
      const [wide, high] = [Math.max(least, item.width * this.scale.x), Math.max(least, item.height * this.scale.y)];
      context.fillRect(item.x * this.scale.x, item.y * this.scale.y, wide, high);
    };
    for (const item of scene.items) dot(item, item.paint.far, 0.7);
    for (const index of marks.matched ?? []) dot(scene.items[index], theme.match, 3);
    for (const index of [...marks.picked, ...marks.linked]) dot(scene.items[index], theme.accent, 4);
    this.theme = theme;
  }

  look(camera, size) {
    const context = this.canvas.getContext("2d");
    const ratio = window.devicePixelRatio || 1;
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, this.canvas.width, this.canvas.height);
    context.drawImage(this.still, 0, 0);
    context.scale(ratio, ratio);
    const [wide, high] = [this.canvas.width / ratio, this.canvas.height / ratio];
    const left = Math.max(0.5, camera.x * this.scale.x);
    const top = Math.max(0.5, camera.y * this.scale.y);
    const right = Math.min(wide - 0.5, (camera.x + size.width / camera.scale) * this.scale.x);
    const bottom = Math.min(high - 0.5, (camera.y + size.height / camera.scale) * this.scale.y);
    this.canvas.hidden = right - left >= wide - 1.5 && bottom - top >= high - 1.5; // all of it is in sight anyway
    context.strokeStyle = this.theme.accent;
    context.lineWidth = 1.5;
    context.strokeRect(left, top, Math.max(2, right - left), Math.max(2, bottom - top));
  }
}
