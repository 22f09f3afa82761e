// The charts. Colors of text and axes are `currentColor`, so that they follow the colors of the page, also in print.

const COLORS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "currentColor"]; // Okabe & Ito 2008
const DASHES = [[1, 0], [8, 3], [8, 3, 2, 3], [2, 3]];
const MUTED = "#767676"; // a canvas cannot follow the colors of the page: this gray is legible on light and dark
const views = {}; // the drawn charts by the id of their element

const rowColor = (row) => COLORS[row % COLORS.length];
const rowDash = (row) => DASHES[Math.floor(row / COLORS.length) % DASHES.length];

function chartConfig(color) {
  return {
    background: null, view: { stroke: null }, font: "system-ui, sans-serif",
    axis: {
      labelColor: color, titleColor: color, domainColor: color, tickColor: color, gridColor: color, gridOpacity: 0.15,
      labelFontSize: 12, titleFontSize: 12, titleFontWeight: "normal", labelLimit: 160,
    },
    text: { color, fontSize: 12 },
  };
}

function showTooltip(_handler, event, _item, value) {
  let box = document.getElementById("tooltip");
  if (!value) return box?.remove();
  box ??= document.body.appendChild(element("div", { id: "tooltip", "aria-hidden": "true" }));
  const lines = Object.entries(value).map(([name, text]) => element("div", { class: "name" }, name === "row" ? String(text) : `${name}: ${text}`));
  box.replaceChildren(...lines);
  box.style.left = `${Math.max(4, Math.min(event.clientX + 14, innerWidth - box.offsetWidth - 8))}px`;
  box.style.top = `${Math.max(4, Math.min(event.clientY + 14, innerHeight - box.offsetHeight - 8))}px`;
}

/** Draw a chart; a later call for the same element replaces an earlier one, also if that has not finished. */
async function draw(id, spec, renderer = "svg") {
  const target = document.getElementById(id);
  const drawing = {};
  views[id]?.finalize?.();
  views[id] = drawing;
  if (!spec) return target.replaceChildren();
  const schema = "https://vega.github.io/schema/vega-lite/v6.json"; // names the language; it is not loaded
  const options = {
    mode: "vega-lite", renderer, actions: false, ast: true, defaultStyle: false, tooltip: showTooltip,
    config: chartConfig(renderer === "svg" ? "currentColor" : MUTED),
  };
  const holder = element("div", {});
  target.style.minHeight = `${target.offsetHeight}px`; // the page does not jump while a chart is replaced
  target.replaceChildren(holder);
  holder.style.width = "100%";
  const result = await vegaEmbed(holder, { $schema: schema, ...spec }, options);
  target.style.minHeight = "";
  if (views[id] !== drawing) return result.finalize();
  views[id] = result;
}

function swatch(row) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const line = document.createElementNS("http://www.w3.org/2000/svg", "line");
  svg.setAttribute("class", "swatch");
  svg.setAttribute("aria-hidden", "true");
  const attributes = { x1: 0, x2: 29, y1: 6, y2: 6, stroke: rowColor(row), "stroke-width": 3, "stroke-dasharray": rowDash(row) };
  for (const [name, value] of Object.entries(attributes)) line.setAttribute(name, value);
  svg.append(line);
  return svg;
}

function isDrawn(row) {
  return choices[`draw-${row}`] ?? data.main_rows.includes(row);
}

function renderRowChoice() {
  const drawable = [...data.curves.rows, ...data.costs.points].map((line) => line.row);
  const rows = [...new Set(drawable)].sort((a, b) => a - b);
  const set = (row) => (isChecked) => { choices[`draw-${row}`] = isChecked; renderCharts(); };
  const setAll = (isChecked) => () => keepFocus(() => {
    rows.forEach((row) => { choices[`draw-${row}`] = isChecked; });
    renderCharts();
  });
  const boxes = rows.map((row) => checkBox(`draw-${row}`, rowName(row), isDrawn(row), set(row), swatch(row)));
  fill("chart-rows", element("fieldset", { hidden: !rows.length }, element("legend", {}, "Rows in both charts"),
    element("div", { class: "checks" }, ...boxes), element("div", { class: "controls control" }, element("button", { type: "button", id: "draw-all", onclick: setAll(true) }, "All rows"),
      element("button", { type: "button", id: "draw-none", onclick: setAll(false) }, "No rows"))));
}

function rowScale(rows, range) {
  return { domain: rows.map(String), range: rows.map(range) };
}

function renderCharts() {
  renderRowChoice();
  renderCurves();
  renderCosts();
}
