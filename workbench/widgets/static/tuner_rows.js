// The table of RowTable (tuner_points.py): click or arrow keys select a row, a click on a head sorts.
function render({ model, el }) {
  const box = document.createElement("div");
  box.className = "wb-layers wb-tensorlist wb-trials";
  box.dataset.lmSuppressShortcuts = "true";
  const table = document.createElement("table");
  table.className = "wb-table wb-numbers";
  table.setAttribute("aria-label", "trials");
  const head = table.createTHead().insertRow();
  const body = table.createTBody();
  box.append(table);
  el.append(box);
  let by = 0;
  let falling = false;

  function compare(one, other) {
    const [a, b] = [one.sort[by], other.sort[by]];
    if (a === null || b === null) return (a === null) - (b === null);
    const order = typeof a === "string" ? a.localeCompare(b) : a - b;
    return falling ? -order : order;
  }

  function showHeads() {
    head.replaceChildren();
    model.get("heads").forEach((item, at) => {
      const cell = document.createElement("th");
      const button = document.createElement("button");
      if (item.right) cell.className = "wb-right";
      cell.setAttribute("aria-sort", at !== by ? "none" : falling ? "descending" : "ascending");
      button.textContent = item.title + (at === by ? (falling ? " ▴" : " ▾") : "");
      button.title = `sort by ${item.title || "state"}`;
      button.dataset.lmSuppressShortcuts = "true";
      button.addEventListener("click", () => {
        falling = at === by && !falling;
        by = at;
        showHeads();
        showRows();
      });
      cell.append(button);
      head.append(cell);
    });
  }

  function showSelected() {
    for (const row of body.rows) {
      const on = row.dataset.trial === model.get("selected");
      row.setAttribute("aria-selected", String(on));
      row.tabIndex = on ? 0 : -1;
    }
    if (body.rows.length && !body.querySelector("[aria-selected='true']")) body.rows[0].tabIndex = 0;
  }

  // Rows stay the same elements, so that none is exchanged under the pointer.
  function showRows() {
    const hadFocus = body.contains(document.activeElement);
    const known = new Map([...body.rows].map((row) => [row.dataset.trial, row]));
    const rows = [...model.get("rows")].sort(compare).map((item) => {
      const row = known.get(item.id) ?? document.createElement("tr");
      row.dataset.trial = item.id;
      row.dataset.mark = item.mark;
      item.cells.forEach((text, at) => {
        const cell = row.cells[at] ?? row.insertCell();
        cell.textContent = text;
        cell.className = model.get("heads")[at].right ? "wb-right" : "";
      });
      return row;
    });
    if (rows.length !== body.rows.length || rows.some((row, at) => row !== body.rows[at])) body.replaceChildren(...rows);
    showSelected();
    if (hadFocus) body.querySelector("[tabindex='0']")?.focus({ preventScroll: true });
  }

  function select(row) {
    model.set("selected", row.dataset.trial);
    model.save_changes();
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
    if (!["ArrowDown", "ArrowUp", "Home", "End", "Enter", " "].includes(event.key)) return;
    event.preventDefault();
    event.stopPropagation();
    if (next) select(next);
  });
  model.on("change:heads", showHeads);
  model.on("change:rows", showRows);
  model.on("change:selected", showSelected);
  showHeads();
  showRows();
}

export default { render };
