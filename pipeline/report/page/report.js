document.querySelectorAll("table[data-sortable]").forEach((table) => {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const falling = head.getAttribute("aria-sort") === "ascending";
      const value = (row) => {
        const cell = row.cells[column];
        const number = parseFloat(cell.dataset.v ?? cell.textContent);
        return { number, text: cell.textContent.trim() };
      };
      const order = (a, b) => {
        const x = value(a), y = value(b);
        if (Number.isNaN(x.number) !== Number.isNaN(y.number)) return Number.isNaN(x.number) ? 1 : -1;
        const difference = Number.isNaN(x.number) ? x.text.localeCompare(y.text) : x.number - y.number;
        return falling ? -difference : difference;
      };
      table.tBodies[0].append(...[...table.tBodies[0].rows].sort(order));
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", falling ? "descending" : "ascending");
    });
  });
});
addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((part) => { part.open = true; }));
