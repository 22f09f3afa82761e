// Learning curves: mean and band over the seeds of each chosen row.

const LONG_TRAINING_EPOCHS = 20; // as in the figures: see ablation/report/curves_figure.py
const CUT_OFF_FRACTION = 0.1;
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
