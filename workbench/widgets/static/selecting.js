// Parts that stand before the scripts of TensorTable, RowTable and PointPlot: one of several is selected.

// By click, arrow keys, Home and End: `selected` of the model. id: the data attribute that tells the children of `box`
// apart. mark: the attribute that says which one it is. [back, on]: the arrow keys. Returns what shows it anew.
function selecting(model, box, { id, mark, keys: [back, on], shown = () => {} }) {
  function show() {
    for (const item of box.children) {
      const chosen = item.dataset[id] === model.get("selected");
      item.setAttribute(mark, String(chosen));
      item.tabIndex = chosen ? 0 : -1;
    }
    if (box.children.length && !box.querySelector("[tabindex='0']")) box.children[0].tabIndex = 0;
  }

  function select(item) {
    model.set("selected", item.dataset[id]);
    model.save_changes();
    item.focus({ preventScroll: true });
    shown(item);
  }

  box.addEventListener("click", (event) => {
    const item = event.target.closest(`[data-${id}]`);
    if (item) select(item);
  });
  box.addEventListener("keydown", (event) => {
    const item = event.target.closest(`[data-${id}]`);
    const next = {
      [back]: item?.previousElementSibling, [on]: item?.nextElementSibling,
      Home: box.firstElementChild, End: box.lastElementChild, Enter: item, " ": item,
    };
    if (!(event.key in next)) return;
    event.preventDefault();
    event.stopPropagation();
    if (next[event.key]) select(next[event.key]);
  });
  model.on("change:selected", show);
  return show;
}

// An empty table in a box that scrolls, whose rows are selected. `draw` is handed what fills its body; the focus stays.
function rowTable(model, el, { id, label, name = "" }) {
  const box = document.createElement("div");
  box.className = `wb-layers wb-tensorlist ${name}`;
  box.dataset.lmSuppressShortcuts = "true";
  const table = document.createElement("table");
  table.className = "wb-table wb-numbers";
  table.setAttribute("aria-label", label);
  const head = table.createTHead().insertRow();
  const body = table.createTBody();
  box.append(table);
  el.append(box);

  function shown(row) {
    const [top, bottom] = [row.offsetTop - head.offsetHeight, row.offsetTop + row.offsetHeight];
    if (top < box.scrollTop) box.scrollTop = top;
    else if (bottom > box.scrollTop + box.clientHeight) box.scrollTop = bottom - box.clientHeight;
  }

  const showSelected = selecting(model, body, { id, mark: "aria-selected", keys: ["ArrowUp", "ArrowDown"], shown });
  function draw(fill) {
    const hadFocus = body.contains(document.activeElement);
    fill();
    showSelected();
    if (hadFocus) body.querySelector("[tabindex='0']")?.focus({ preventScroll: true });
  }
  return { box, head, body, draw };
}

