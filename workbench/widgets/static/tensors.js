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
  const { box, head, body, draw } = rowTable(model, el, { id: "tensor", label: "tensors" });

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

  function showRows() {
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
  }

  model.on("change:rows", () => {
    draw(showRows);
    box.scrollTop = 0;
  });
  model.on("change:order", showOrder);
  draw(showRows);
  showOrder();
}

export default { render };
