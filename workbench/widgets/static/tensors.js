// The table of TensorTable (tensor_table.py): one page of tensors; click or arrow keys select, three heads sort.
const COLUMNS = [
  ["model", "tensor", "in the model's order"], ["", "values", "their magnitudes, counts on a log scale"],
  ["", "min", ""], ["", "max", ""], ["", "range", "the largest magnitude that int8 keeps"],
  ["clipped", "clipped", "most clipped first"], ["error", "error", "largest error first"],
];

function cell(row, text, name = "", title = "") {
  const item = row.insertCell();
  item.textContent = text;
  item.className = name;
  if (title) item.title = title;
  return item;
}

function spark(heights) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", `0 0 ${2 * heights.length} 16`);
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  const bars = heights.map((height, at) => `M${2 * at + 1} 16v-${(16 * height) / 100}`);
  path.setAttribute("d", bars.join(""));
  svg.append(path);
  return svg;
}

function render({ model, el }) {
  const box = document.createElement("div");
  box.className = "wb-layers wb-tensorlist";
  box.dataset.lmSuppressShortcuts = "true";
  const table = document.createElement("table");
  table.className = "wb-table wb-numbers";
  table.setAttribute("aria-label", "tensors");
  const head = table.createTHead().insertRow();
  const body = table.createTBody();
  box.append(table);
  el.append(box);

  function send(name, value) {
    model.set(name, value);
    model.save_changes();
  }

  for (const [order, title, hint] of COLUMNS) {
    const item = document.createElement("th");
    if (title !== "tensor" && title !== "values") item.className = "wb-right";
    item.title = hint;
    if (!order) item.textContent = title;
    else {
      const button = document.createElement("button");
      button.textContent = title;
      button.title = hint;
      button.addEventListener("click", () => send("order", order));
      button.dataset.order = order;
      item.append(button);
    }
    head.append(item);
  }

  function showOrder() {
    for (const button of head.querySelectorAll("button")) {
      const on = button.dataset.order === model.get("order");
      button.setAttribute("aria-pressed", String(on));
      button.textContent = button.textContent.replace(/ [▾·]$/, "") + (on ? " ▾" : "");
    }
  }

  function showSelected() {
    for (const row of body.rows) {
      const on = row.dataset.tensor === model.get("selected");
      row.setAttribute("aria-selected", String(on));
      row.tabIndex = on ? 0 : -1;
    }
    if (body.rows.length && !body.querySelector("[aria-selected='true']")) body.rows[0].tabIndex = 0;
  }

  function showRows() {
    const hadFocus = body.contains(document.activeElement);
    body.replaceChildren();
    for (const item of model.get("rows")) {
      const row = body.insertRow();
      row.dataset.tensor = item.tensor;
      const name = cell(row, item.tensor, "wb-name", item.tensor);
      const maker = document.createElement("div");
      maker.className = "wb-quiet";
      maker.textContent = item.made_by;
      name.append(maker);
      cell(row, "", "wb-spark").append(spark(item.spark));
      cell(row, item.minimum, "wb-right");
      cell(row, item.maximum, "wb-right");
      const range = cell(row, item.amax, "wb-right");
      if (item.own) {
        const own = document.createElement("div");
        own.className = "wb-own";
        own.textContent = item.own;
        range.append(own);
      }
      cell(row, item.clipped, "wb-right");
      cell(row, item.error, "wb-right");
    }
    showSelected();
    if (hadFocus) body.querySelector("[tabindex='0']")?.focus({ preventScroll: true });
  }

  function select(row) {
    send("selected", row.dataset.tensor);
    row.focus({ preventScroll: true });
    const [top, bottom] = [row.offsetTop - head.offsetHeight, row.offsetTop + row.offsetHeight];
    if (top < box.scrollTop) box.scrollTop = top;
    else if (bottom > box.scrollTop + box.clientHeight) box.scrollTop = bottom - box.clientHeight;
  }

  body.addEventListener("click", (event) => {
    const row = event.target.closest("tr");
    if (row) select(row);
  });
  body.addEventListener("keydown", (event) => {
    const row = event.target.closest("tr");
    const next = {
      ArrowDown: row?.nextElementSibling, ArrowUp: row?.previousElementSibling,
      Home: body.rows[0], End: body.rows[body.rows.length - 1], Enter: row, " ": row,
    }[event.key];
    if (!(event.key in { ArrowDown: 1, ArrowUp: 1, Home: 1, End: 1, Enter: 1, " ": 1 })) return;
    event.preventDefault();
    event.stopPropagation();
    if (next) select(next);
  });
  model.on("change:rows", () => {
    showRows();
    box.scrollTop = 0;
  });
  model.on("change:selected", showSelected);
  model.on("change:order", showOrder);
  showRows();
  showOrder();
}

export default { render };
