// The table of RowTable (tuner_points.py): click or arrow keys select a row, a click on a head sorts.
function render({ model, el }) {
  const { head, body, draw } = rowTable(model, el, { id: "trial", label: "trials", name: "wb-trials" });
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
      button.textContent = item.title + (at === by ? (falling ? " ▾" : " ▴") : "");
      button.title = `sort by ${item.title || "state"}`;
      button.dataset.lmSuppressShortcuts = "true";
      button.addEventListener("click", () => {
        falling = at === by && !falling;
        by = at;
        showHeads();
        draw(showRows);
        head.cells[at].firstElementChild.focus();
      });
      cell.append(button);
      head.append(cell);
    });
  }

  // Rows stay the same elements, so that none is exchanged under the pointer.
  function showRows() {
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
  }

  model.on("change:heads", showHeads);
  model.on("change:rows", () => draw(showRows));
  showHeads();
  draw(showRows);
}

export default { render };
