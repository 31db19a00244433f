// Where the program begins: as a widget, or in a page of its own.

import { element } from "./elements.js";
import { View } from "./view.js";

// For anywidget.
export function render({ model, el }) {
  const view = new View(model, el, { alone: false });
  return () => view.dispose();
}

// For a page of its own: the state lives in the page. state: {picture, selected, color_by, search}
export function open(body, state) {
  const values = { selected: [], color_by: "", search: "", height: 0, ...state };
  const get = (name) => values[name];
  const set = (name, value) => (values[name] = value);
  const model = { get, set, save_changes() {}, on() {}, off() {} };
  const root = element("main");
  body.style.margin = 0;
  body.append(root);
  return new View(model, root, { alone: true });
}
