"use strict";
// Leaderboards: a click on a head sorts, words in the field filter.

const nothing = (value) => value === "nan" || value === "-" || value === "";

/** Compare two cells' values: numbers as numbers, text as text, what is unknown last. */
function compare(a, b, sign) {
  if (nothing(a) || nothing(b)) return nothing(a) - nothing(b);
  const [x, y] = [Number(a), Number(b)];
  const order = Number.isNaN(x) || Number.isNaN(y) ? a.localeCompare(b, "en", { numeric: true }) : x - y;
  return sign * order;
}

function sort(table, column) {
  const head = table.tHead.rows[0].cells[column];
  const sign = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
  for (const cell of table.tHead.rows[0].cells) cell.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
  const body = table.tBodies[0];
  const rows = Array.from(body.rows, (row) => [row.cells[column].dataset.value, row]);
  rows.sort((one, other) => compare(one[0], other[0], sign));
  body.append(...rows.map(([, row]) => row));
}

/** Return a test of rows: every word must stand in the row, or hold of it (width=64, rate<0.01). */
function condition(table, word) {
  const parts = /^([\w.]+)(<=|>=|=|<|>)(.+)$/.exec(word);
  const heads = Array.from(table.tHead.rows[0].cells, (cell) => cell.dataset.name);
  const column = parts ? heads.findIndex((name) => name === parts[1] || name.endsWith("." + parts[1]) || name.endsWith(parts[1])) : -1;
  if (column < 0) return (row) => row.textContent.toLowerCase().includes(word.toLowerCase());
  const [, , relation, wanted] = parts;
  return (row) => holds(row.cells[column].dataset.value, relation, wanted);
}

function holds(value, relation, wanted) {
  if (nothing(value)) return false;
  const order = compare(value, wanted, 1);
  if (relation === "=") return order === 0;
  return relation.startsWith("<") ? order < 0 || (relation === "<=" && order === 0) : order > 0 || (relation === ">=" && order === 0);
}

function filter(table, text, count) {
  const tests = text.trim().split(/\s+/).filter(Boolean).map((word) => condition(table, word));
  const rows = Array.from(table.tBodies[0].rows);
  let shown = 0;
  for (const row of rows) {
    row.hidden = !tests.every((test) => test(row));
    shown += !row.hidden;
  }
  const grouped = (number) => number.toLocaleString("en");
  count.textContent = `${grouped(shown)} of ${grouped(rows.length)} configurations`;
}

for (const family of document.querySelectorAll(".family")) {
  const table = family.querySelector("table.board");
  if (!table) continue;
  Array.from(table.tHead.rows[0].cells).forEach((head, column) => {
    head.querySelector("button").addEventListener("click", () => sort(table, column));
  });
  const field = family.querySelector("input");
  field?.addEventListener("input", () => filter(table, field.value, family.querySelector(".count")));
}

// What is folded away on the screen is printed.
addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((one) => { one.open = true; }));
