// The charts. Colors of text and axes are `currentColor`, so that they follow the colors of the page, also in print.

const COLORS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "currentColor"]; // Okabe & Ito 2008
const DASHES = [[1, 0], [8, 3], [8, 3, 2, 3], [2, 3]];
const MUTED = "#767676"; // a canvas cannot follow the colors of the page: this gray is legible on light and dark
const LONG_TRAINING_EPOCHS = 20; // as in the figures: see ablation/report/curves_figure.py
const CUT_OFF_FRACTION = 0.1;
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

const BANDS = [["range", "worst to best seed"], ["std", "± standard deviation"], ["none", "no band"]];

function curvePoints(line, metric, band) {
  const [means, lows, highs, stds] = line.metrics[metric];
  return line.epochs.flatMap((epoch, i) => (means[i] === null ? [] : [{
    row: String(line.row), name: rowName(line.row), epoch, mean: means[i],
    low: band === "std" ? means[i] - stds[i] : band === "range" ? lows[i] : means[i],
    high: band === "std" ? means[i] + stds[i] : band === "range" ? highs[i] : means[i],
  }]));
}

/** Return the range of the y axis. The first tenth of a long training may lie outside: it would flatten the rest. */
function curveDomain(values) {
  const last = Math.max(...values.map((value) => value.epoch));
  const visible = last < LONG_TRAINING_EPOCHS ? values : values.filter((value) => value.epoch > CUT_OFF_FRACTION * last);
  const low = Math.min(...visible.map((value) => value.low));
  const high = Math.max(...visible.map((value) => value.high));
  const margin = 0.03 * (high - low || 1);
  return [low - margin, high + margin];
}

function curveSpec(lines, metric, band, title) {
  const rows = lines.map((line) => line.row);
  const values = lines.flatMap((line) => curvePoints(line, metric, band));
  const scale = { domain: curveDomain(values), nice: false };
  const y = (field) => ({ field, type: "quantitative", scale, axis: { title } });
  const color = { field: "row", type: "nominal", scale: rowScale(rows, rowColor), legend: null };
  const tooltip = ["name", "epoch", "mean", "low", "high"].map((field) => ({
    field, title: field === "name" ? "row" : field,
    ...(["name", "epoch"].includes(field) ? { type: "nominal" } : { type: "quantitative", format: ".4~f" }),
  }));
  return {
    description: `${title} against epoch for ${rows.length} rows; the data table below contains the values.`,
    width: "container", height: 380, data: { values },
    encoding: { x: { field: "epoch", type: "quantitative", axis: { tickMinStep: 1, format: "d" }, scale: { nice: false } } },
    layer: [
      { mark: { type: "area", clip: true, opacity: band === "none" ? 0 : 0.15, aria: false }, encoding: { y: y("low"), y2: { field: "high" }, color } },
      { mark: { type: "line", clip: true, strokeWidth: 2, aria: false },
        encoding: { y: y("mean"), color, strokeDash: { field: "row", type: "nominal", scale: rowScale(rows, rowDash), legend: null } } },
      { params: [{ name: "hovered", select: { type: "point", on: "pointermove", nearest: true, clear: "pointerout" } }],
        mark: { type: "point", clip: true, filled: true, size: 70, aria: false },
        encoding: { y: y("mean"), color, tooltip, opacity: { condition: { param: "hovered", empty: false, value: 1 }, value: 0 } } },
    ],
  };
}

function renderCurves() {
  const { metrics, rows, notes } = data.curves;
  const names = Object.keys(metrics).filter((name) => rows.some((line) => line.metrics[name]));
  if (!names.length) {
    fill("curves-controls");
    fill("curves-table");
    fill("curves-caption", "No run has finished an epoch yet.");
    return draw("curves-chart", null);
  }
  const metric = chosen("metric", names, names[0]);
  const band = chosen("band", BANDS.map(([key]) => key), "range");
  const title = metric.startsWith("train") ? metrics[metric] : `${data.split} ${metrics[metric]}`;
  const lines = rows.filter((line) => isDrawn(line.row) && line.metrics[metric]);
  fill("curves-controls", element("div", { class: "controls" },
    selection("metric", "Metric", names.map((name) => [name, metrics[name]]), metric, renderCurves),
    selection("band", "Band", BANDS, band, renderCurves)));
  fill("curves-caption", `${title}: mean over seeds, ${BANDS.find(([key]) => key === band)[1]}. ${notes.join(" ")}`);
  fill("curves-table", dataTable("curves-data", `${title} after the last epoch`,
    ["row", "seeds", "epoch", "mean", "lowest", "highest"], lines.map((line) => {
      const [mean, low, high] = line.metrics[metric].map((values) => number(values.at(-1), 3));
      return [rowName(line.row), String(line.seeds), String(line.epochs.at(-1)), mean, low, high];
    })));
  return draw("curves-chart", lines.length ? curveSpec(lines, metric, band, title) : null);
}

/** Return a unit of the costs in which the largest one is readable, and its name. */
function costUnit(cost, largest) {
  if (cost !== "hours" || largest >= 1) return [1, data.costs.axes[cost]];
  return largest >= 1 / 60 ? [1 / 60, "minutes per run, measured"] : [1 / 3600, "seconds per run, measured"];
}

function costSpec(points, cost, [unit, title]) {
  const rows = points.map((point) => point.row);
  const front = data.costs.fronts[cost];
  const values = points.map((point) => ({
    key: String(point.row), row: rowName(point.row), cost: point[cost] / unit, top1: point.top1, front: front.includes(point.row),
    low: point.top1 - (point.std ?? 0), high: point.top1 + (point.std ?? 0), std: number(point.std),
  }));
  const costs = values.map((value) => value.cost);
  const isLog = Math.min(...costs) > 0 && Math.max(...costs) > 10 * Math.min(...costs);
  const x = { field: "cost", type: "quantitative", axis: { title, format: "~s" }, scale: { zero: false, padding: 40, type: isLog ? "log" : "linear" } };
  const y = (field) => ({ field, type: "quantitative", axis: { title: data.costs.y_axis }, scale: { zero: false, padding: 25 } });
  const color = { field: "key", type: "nominal", scale: rowScale(rows, rowColor), legend: null };
  const tooltip = [{ field: "row" }, { field: "cost", title, format: ",.4~r" }, { field: "top1", title: "top-1 %", format: ".2f" }, { field: "std", title: "std" }];
  const optimal = { filter: "datum.front" };
  return {
    description: `${data.costs.y_axis} against ${title} of ${rows.length} rows; the data table below contains the values.`,
    width: "container", height: 380, data: { values }, encoding: { x },
    layer: [
      { transform: [optimal], mark: { type: "line", interpolate: "step-after", strokeDash: [5, 4], color: "#888888", aria: false }, encoding: { y: y("top1"), order: { field: "cost" } } },
      { mark: { type: "rule", aria: false }, encoding: { y: y("low"), y2: { field: "high" }, color } },
      { mark: { type: "point", size: 90, strokeWidth: 2.5 }, encoding: { y: y("top1"), color, tooltip, fill: { condition: { test: "datum.front", field: "key", type: "nominal", scale: rowScale(rows, rowColor), legend: null }, value: "transparent" } } },
      { transform: points.length > 12 ? [optimal] : [], mark: { type: "text", dy: -14, limit: 150, aria: false }, encoding: { y: y("top1"), text: { field: "row" } } },
    ],
  };
}

function renderCosts() {
  const { axes, points, fronts } = data.costs;
  if (!points.length) {
    fill("costs-controls");
    fill("costs-table");
    fill("costs-caption", "No run has finished yet.");
    return draw("costs-chart", null);
  }
  const cost = chosen("cost", Object.keys(axes), "params");
  const drawn = points.filter((point) => isDrawn(point.row));
  const unit = costUnit(cost, Math.max(...drawn.map((point) => point[cost])));
  fill("costs-controls", element("div", { class: "controls" }, selection("cost", "Cost", Object.entries(axes), cost, renderCosts)));
  fill("costs-caption", `${data.costs.y_axis} (mean ± standard deviation over seeds) against ${unit[1]}. Filled points and the dashed line: Pareto front over all rows.`);
  fill("costs-table", dataTable("costs-data", `accuracy and ${unit[1]}`, ["row", unit[1], "top-1 %", "std", "Pareto-optimal"],
    drawn.map((point) => [rowName(point.row), (point[cost] / unit[0]).toLocaleString("en", { maximumSignificantDigits: 6 }),
      number(point.top1), number(point.std), fronts[cost].includes(point.row) ? "yes" : "no"])));
  return draw("costs-chart", drawn.length ? costSpec(drawn, cost, unit) : null);
}

function renderCharts() {
  renderRowChoice();
  renderCurves();
  renderCosts();
}
