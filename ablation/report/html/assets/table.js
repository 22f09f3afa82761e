// The table: columns to choose, rows in the order of any column, and a link from each number to its runs.

const PLAN_ORDER = "#";
const sorting = { title: PLAN_ORDER, descending: false };

function isShown(column) {
  return choices[`column-${column.title}`] ?? column.shown;
}

function compareCells([firstText, first], [secondText, second], isText, sign) {
  const isMissing = (text, value) => (isText ? text === "" : value === null);
  const missing = isMissing(firstText, first) - isMissing(secondText, second);
  if (missing || isMissing(firstText, first)) return missing; // missing values come last in both directions
  return sign * (isText ? firstText.localeCompare(secondText, "en", { numeric: true }) : first - second);
}

function sortedRows() {
  const order = data.table.rows.map((_, index) => index);
  const sign = sorting.descending ? -1 : 1;
  if (sorting.title === PLAN_ORDER) return sign < 0 ? order.reverse() : order;
  const column = data.table.columns.findIndex((one) => one.title === sorting.title);
  const { is_text: isText } = data.table.columns[column];
  const cell = (index) => data.table.rows[index][column];
  return order.sort((a, b) => compareCells(cell(a), cell(b), isText, sign) || a - b);
}

function sortBy(title, descendsFirst) {
  sorting.descending = sorting.title === title ? !sorting.descending : descendsFirst;
  sorting.title = title;
  keepFocus(renderTable);
  announce(`Sorted by ${title}, ${sorting.descending ? "descending" : "ascending"}`);
}

function heading(title, isText) {
  const isSorted = sorting.title === title;
  const order = sorting.descending ? "descending" : "ascending";
  const arrow = isSorted ? (sorting.descending ? " ▼" : " ▲") : "";
  const button = element("button", {
    type: "button", id: `sort-${title}`, onclick: () => sortBy(title, !isText),
  }, title, element("span", { "aria-hidden": "true" }, arrow));
  return element("th", { scope: "col", class: isText ? "left" : "", "aria-sort": isSorted ? order : null }, button);
}

function verdictClass(title, text) {
  if (title !== "verdict") return "";
  return text.startsWith("real") ? "good" : text.startsWith("worse") ? "bad" : "";
}

function cell(column, [text, value], row) {
  if (column.title === "step") return element("th", { scope: "row", class: "name" }, text);
  if (column.is_text || !text) return element("td", { class: `${column.is_text ? "left " : ""}${verdictClass(column.title, text)}` }, text);
  const isMain = column.title === "top-1 %"; // one link per row is enough for the keyboard
  const label = `${text}, ${column.title}: runs of row ${row + 1}`;
  return element("td", {}, element("a", { href: `#run-${row + 1}`, "aria-label": label, tabindex: isMain ? null : "-1" }, text));
}

function renderTable() {
  const columns = data.table.columns.map((column, index) => ({ ...column, index })).filter(isShown);
  const body = sortedRows().map((row) =>
    element("tr", {}, element("td", {}, String(row + 1)),
      ...columns.map((column) => cell(column, data.table.rows[row][column.index], row))));
  fill("rows",
    element("thead", {}, element("tr", {}, heading(PLAN_ORDER, true),
      ...columns.map((column) => heading(column.title, column.is_text)))),
    element("tbody", {}, ...body));
}

function renderColumnChoice() {
  const boxes = data.table.columns.filter((column) => column.title !== "step").map((column) => {
    const id = `column-${column.title}`;
    const change = (isChecked) => { choices[id] = isChecked; renderTable(); };
    return checkBox(id, column.title + (column.empty ? " (no data)" : ""), isShown(column), change);
  });
  const remember = (event) => { choices.columns = event.target.open; };
  fill("table-controls", element("details", { id: "columns", open: choices.columns === true, ontoggle: remember },
    element("summary", { id: "columns-summary" }, "Columns"),
    element("fieldset", {}, element("legend", {}, "Columns of the table"), element("div", { class: "checks" }, ...boxes)),
    ...paragraphs(data.table.notes)));
}

function renderNotes() {
  fill("notes", ...data.notes.map((note) => element("li", { class: "name" }, note)));
  document.getElementById("table-caption").textContent = data.caption;
}
