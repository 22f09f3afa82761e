// Accuracy against cost, with the Pareto front.

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
      { // labels are alternately above and below their points, so that neighbors overlap less
        transform: points.length > 12 ? [optimal] : [],
        mark: { type: "text", dy: { expr: "datum.key % 2 ? 14 : -14" }, limit: 150, aria: false }, encoding: { y: y("top1"), text: { field: "row" } },
      },
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
