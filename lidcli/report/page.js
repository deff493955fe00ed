"use strict";
// Sorts a table by the column whose head is pressed, and copies commands; the page reads without it.
const number = (cell) => {
  const found = cell.textContent.replace(/−/g, "-").match(/^\s*[-+]?\d[\d.,]*(e[-+]?\d+)?/i);
  return found ? parseFloat(found[0].replace(/,/g, "")) : null;
};
const compare = (column, sign) => (a, b) => {
  const [one, other] = [a.cells[column], b.cells[column]];
  const [x, y] = [number(one), number(other)];
  if (x === null && y === null) return sign * one.textContent.localeCompare(other.textContent);
  if (x === null || y === null) return x === null ? 1 : -1;
  return sign * (x - y);
};
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  table.querySelectorAll("thead th").forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.title = "Sort by this column";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      table.querySelectorAll("th").forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const rows = [...body.rows];
      const [last, moved] = [true, false].map((quiet) =>
        rows.filter((row) => row.classList.contains("quiet") === quiet));
      body.append(...moved.sort(compare(column, down ? -1 : 1)), ...last);
    });
  });
}
document.querySelector("nav details").open = matchMedia("(min-width: 84rem)").matches;
const copied = async (code) => {
  try {
    await navigator.clipboard.writeText(code.textContent);
    return true;
  } catch {
    getSelection().selectAllChildren(code);
    return document.execCommand("copy");
  }
};
for (const code of document.querySelectorAll(".command code")) {
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = "Copy";
  button.setAttribute("aria-live", "polite");
  button.addEventListener("click", async () => {
    button.textContent = (await copied(code)) ? "Copied" : "Press Ctrl+C";
    setTimeout(() => { button.textContent = "Copy"; }, 2000);
  });
  code.parentElement.append(button);
}
