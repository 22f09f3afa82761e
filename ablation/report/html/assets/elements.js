"use strict";
// Elements of the page. Every text becomes a text node, so that no name can become markup.

let data = JSON.parse(document.getElementById("page-data").textContent);
const choices = {}; // what the reader has chosen, by the id of the control

function element(tag, properties = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value === true) node.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

function fill(id, ...children) {
  document.getElementById(id).replaceChildren(...children.filter((child) => child !== null));
}

function announce(text) {
  document.getElementById("announcement").textContent = text;
}

/** Change the page; then focus the same control and show the same part of each table, although they are new elements. */
function keepFocus(change) {
  const regions = () => [...document.querySelectorAll(".scroll[aria-label]")];
  const positions = new Map(regions().map((one) => [one.getAttribute("aria-label"), [one.scrollLeft, one.scrollTop]]));
  const id = document.activeElement?.id;
  change();
  for (const region of regions()) region.scrollTo(...(positions.get(region.getAttribute("aria-label")) ?? [0, 0]));
  if (id && document.activeElement?.id !== id) document.getElementById(id)?.focus({ preventScroll: true });
}

function chosen(id, values, initial) {
  return values.includes(choices[id]) ? choices[id] : initial;
}

/** Return a labeled selection. `options` are pairs of a value and its text. */
function selection(id, label, options, value, render) {
  const change = (event) => {
    choices[id] = options[event.target.selectedIndex][0];
    keepFocus(render);
  };
  const items = options.map(([key, text]) => element("option", { selected: key === value }, text));
  return element("label", {}, element("span", {}, label), element("select", { id, onchange: change }, ...items));
}

function checkBox(id, label, isChecked, change, ...before) {
  const toggle = (event) => keepFocus(() => change(event.target.checked));
  const box = element("input", { type: "checkbox", id, checked: isChecked, onchange: toggle });
  return element("label", { class: "name" }, box, ...before, label);
}

function rowName(index) {
  return `${index + 1} ${data.rows[index].name}`;
}

function rowOptions(indices) {
  return indices.map((index) => [index, rowName(index)]);
}

function number(value, digits = 2) {
  return value === null || value === undefined ? "" : value.toFixed(digits);
}

function signed(value, digits = 2) {
  return value === null ? "" : (value > 0 ? "+" : "") + value.toFixed(digits);
}

function paragraphs(sentences) {
  return sentences.map((sentence) => element("p", { class: "muted name" }, sentence));
}

/** Return a table. The first cell of each row is its heading; cells are texts or elements. */
function simpleTable(caption, titles, rows) {
  const heading = titles.map((title, index) => element("th", { scope: "col", class: index ? "" : "left" }, title));
  const body = rows.map((cells) =>
    element("tr", {}, ...cells.map((cell, index) =>
      index ? element("td", {}, cell) : element("th", { scope: "row", class: "name" }, cell))));
  return element("table", {}, element("caption", { class: "hidden" }, caption),
    element("thead", {}, element("tr", {}, ...heading)), element("tbody", {}, ...body));
}

function scrolling(label, child, className = "scroll") {
  return element("div", { class: className, role: "region", "aria-label": label, tabindex: "0" }, child);
}

/** Return a table behind a summary. It stays open when the page is rendered again. */
function dataTable(id, caption, titles, rows) {
  const remember = (event) => { choices[id] = event.target.open; };
  return element("details", { id, open: choices[id] === true, ontoggle: remember },
    element("summary", { id: `${id}-summary` }, `Data table: ${caption}`),
    scrolling(caption, simpleTable(caption, titles, rows), "scroll tall"));
}
