const LONG = 20;  // rows, above which a table scrolls by itself and can be searched

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
        const text = row.cells[column].textContent.trim();
        const shown = (row.cells[column].dataset.v ?? text).replace(/[\s,%]/g, "");
        return { number: shown === "" ? NaN : Number(shown), text };
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

  const rows = [...table.tBodies[0].rows];
  if (rows.length <= LONG) return;
  table.parentElement.classList.add("tall");
  const label = document.createElement("label");
  label.className = "find";
  const input = document.createElement("input");
  input.type = "search";
  const count = document.createElement("span");
  count.setAttribute("role", "status");
  label.append(`Find in ${rows.length} rows`, input, count);
  table.parentElement.before(label);
  input.addEventListener("input", () => {
    const wanted = input.value.toLowerCase();
    rows.forEach((row) => { row.hidden = !row.textContent.toLowerCase().includes(wanted); });
    count.textContent = wanted ? `${rows.filter((row) => !row.hidden).length} found` : "";
  });
});

// A link to something in a closed part opens it.
const reveal = () => {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  for (let part = target?.closest("details"); part; part = part.parentElement.closest("details")) part.open = true;
  target?.scrollIntoView();
};
addEventListener("hashchange", reveal);
addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((part) => { part.open = true; }));
