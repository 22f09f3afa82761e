// Errors: accuracy by class of two rows, the confusion matrix of a row, and the images that a step fixes or breaks.

const MAX_NUMBERED_CLASSES = 20; // with more classes, the cells of the matrix show no numbers
const MAX_SVG_CLASSES = 40; // a larger matrix is drawn on a canvas
const MAX_CONFUSIONS_LISTED = 20;

/** Return a change as a bar to the left or right of the middle. */
function changeBar(change, largest) {
  const bar = element("i", { class: change > 0 ? "good" : "bad" });
  const width = (50 * Math.abs(change)) / (largest || 1);
  bar.style.width = `${width}%`;
  bar.style.left = `${change > 0 ? 50 : 50 - width}%`;
  return element("span", { class: "meter", "aria-hidden": "true" }, bar);
}

function classChanges(before, after) {
  return data.per_class.classes
    .map((name, index) => ({ name, before: before.top1[index], after: after.top1[index] }))
    .map((line) => ({ ...line, change: line.after - line.before }))
    .sort((a, b) => a.change - b.change);
}

function renderClasses() {
  const { rows, notes } = data.per_class;
  const indices = rows.map((line) => line.row);
  if (rows.length < 1) {
    fill("classes-controls");
    return fill("classes-body", ...paragraphs(notes));
  }
  const first = chosen("class-before", indices, indices[0]);
  const second = chosen("class-after", indices, indices.at(-1));
  fill("classes-controls", element("div", { class: "controls" },
    selection("class-before", "From", rowOptions(indices), first, renderClasses),
    selection("class-after", "To", rowOptions(indices), second, renderClasses)));
  const line = (row) => rows.find((one) => one.row === row);
  const changes = classChanges(line(first), line(second));
  const largest = Math.max(...changes.map(({ change }) => Math.abs(change)));
  const caption = `Top-1 by class, mean over seeds, from ${rowName(first)} to ${rowName(second)}; largest loss first`;
  const body = changes.map(({ name, before, after, change }) =>
    [name, number(before), number(after), element("span", { class: "change" }, changeBar(change, largest), signed(change))]);
  return fill("classes-body", element("p", { class: "name" }, `${caption}.`),
    scrolling(caption, simpleTable(caption, ["class", "from, top-1 %", "to, top-1 %", "change"], body), "scroll tall"),
    ...paragraphs(notes));
}

/** Return short names of the classes that differ from each other. */
function classLabels(classes) {
  const seen = new Map();
  return classes.map((name) => {
    const letters = [...name];
    const short = letters.length > 24 ? `${letters.slice(0, 23).join("")}…` : name;
    const count = (seen.get(short) ?? 0) + 1;
    seen.set(short, count);
    return count > 1 ? `${short} (${count})` : short;
  });
}

/** Return the cells of a matrix as percentages of the images of each class. */
function confusionCells(line, labels) {
  const totals = labels.map(() => 0);
  line.cells.forEach(([truth, , count]) => { totals[truth] += count; });
  return line.cells.map(([truth, predicted, count]) => ({
    class: labels[truth], predicted: labels[predicted], count, percent: (100 * count) / totals[truth], correct: truth === predicted,
  }));
}

function confusionSpec(cells, labels, name) {
  const size = labels.length;
  const step = size <= MAX_NUMBERED_CLASSES ? 34 : size <= 60 ? 14 : size <= 120 ? 8 : Math.max(2, Math.floor(900 / size));
  const axis = { labelFontSize: step >= 12 ? 11 : 8, labelOverlap: step < 8, ticks: false, domain: false };
  const position = (field, title, angle) => ({ field, type: "nominal", scale: { domain: labels }, axis: { ...axis, title, labelAngle: angle } });
  const largest = Math.max(10, ...cells.filter((cell) => !cell.correct).map((cell) => cell.percent));
  const tooltip = ["class", "predicted", "count"].map((field) => ({ field })).concat([{ field: "percent", title: "% of the class", format: ".1f" }]);
  return {
    description: `Confusion matrix of ${name}, ${size} classes; the data table below lists the most frequent confusions.`,
    width: { step }, height: { step }, data: { values: cells },
    encoding: { x: position("predicted", "predicted class", -90), y: position("class", "true class", 0) },
    layer: [
      { transform: [{ filter: "datum.correct" }], mark: { type: "rect", color: MUTED, opacity: 0.25, aria: false }, encoding: { tooltip } },
      { transform: [{ filter: "!datum.correct" }], mark: { type: "rect", aria: size <= MAX_NUMBERED_CLASSES },
        encoding: { tooltip, color: { field: "percent", type: "quantitative", legend: null, scale: { domain: [0, largest], range: ["rgba(213,94,0,0.2)", "rgba(213,94,0,1)"] } } } },
      ...(size <= MAX_NUMBERED_CLASSES
        ? [{ mark: { type: "text", fontSize: 11, aria: false }, encoding: { text: { field: "percent", type: "quantitative", format: ".3~r" } } }] : []),
    ],
  };
}

function renderConfusions() {
  const { classes, rows, notes } = data.confusions;
  if (!rows.length) {
    fill("confusions-controls");
    fill("confusions-table");
    fill("confusions-caption", notes.join(" "));
    return draw("confusions-chart", null);
  }
  const indices = rows.map((line) => line.row);
  const row = chosen("confusion-row", indices, indices.at(-1));
  const line = rows.find((one) => one.row === row);
  const labels = classLabels(classes);
  const cells = confusionCells(line, labels);
  const wrong = cells.filter((cell) => !cell.correct).sort((a, b) => b.percent - a.percent).slice(0, MAX_CONFUSIONS_LISTED);
  const seeds = `${line.seeds} ${line.seeds === 1 ? "seed" : "seeds"}`;
  fill("confusions-controls", element("div", { class: "controls" }, selection("confusion-row", "Row", rowOptions(indices), row, renderConfusions)));
  fill("confusions-caption", `${rowName(row)}, ${seeds}: percent of the images of each class (rows) that are predicted as each class (columns). Colors show errors only. ${notes.join(" ")}`);
  fill("confusions-table", dataTable("confusions-data", "the most frequent confusions", ["class", "predicted as", "images, all seeds", "% of the class"],
    wrong.map((cell) => [cell.class, cell.predicted, String(cell.count), number(cell.percent, 1)])));
  return draw("confusions-chart", confusionSpec(cells, labels, rowName(row)), classes.length > MAX_SVG_CLASSES ? "canvas" : "svg");
}

/** Return the images of two rows, in either direction; undefined if they are not in the page. */
function imagePair(before, after) {
  const { pairs } = data.changed_images;
  const pair = pairs.find((one) => one.before === before && one.after === after);
  if (pair) return pair;
  const reverse = pairs.find((one) => one.before === after && one.after === before);
  const swap = (entries) => entries.map((entry) => ({ ...entry, before: entry.after, after: entry.before }));
  return reverse && { num_fixed: reverse.num_broken, num_broken: reverse.num_fixed, fixed: swap(reverse.broken), broken: swap(reverse.fixed) };
}

function imageItem(entry, names) {
  const { classes } = data.per_class;
  const labels = classLabels(classes);
  const change = `${labels[entry.before]} → ${labels[entry.after]}`;
  const alt = `Image ${entry.image}, class ${classes[entry.class]}: ${names[0]} predicts ${classes[entry.before]}, ${names[1]} predicts ${classes[entry.after]}`;
  return element("li", {}, element("img", { src: data.changed_images.thumbnails[entry.image], alt }),
    element("p", { class: "name" }, element("strong", {}, labels[entry.class])), element("p", { class: "name" }, change));
}

function imageList(title, count, entries, names) {
  const shown = entries.length < count ? ` (${entries.length} shown)` : "";
  return [element("h3", {}, `${title}: ${count} ${count === 1 ? "image" : "images"}${shown}`),
    element("ul", { class: "images" }, ...entries.map((entry) => imageItem(entry, names)))];
}

function renderImages() {
  const { pairs, notes } = data.changed_images;
  if (!pairs.length) {
    fill("images-controls");
    return fill("images-body", ...paragraphs(notes.length ? notes : ["There are no two rows with predictions to compare."]));
  }
  const sorted = (rows) => [...new Set(rows)].sort((a, b) => a - b);
  const befores = sorted(pairs.flatMap((pair) => [pair.before, pair.after]));
  const before = chosen("image-before", befores, pairs.at(-1).before);
  const afters = sorted(pairs.flatMap((pair) => (pair.before === before ? [pair.after] : pair.after === before ? [pair.before] : [])));
  const after = chosen("image-after", afters, afters.at(-1));
  fill("images-controls", element("div", { class: "controls" },
    selection("image-before", "From", rowOptions(befores), before, renderImages),
    selection("image-after", "To", rowOptions(afters), after, renderImages)));
  const pair = imagePair(before, after);
  const names = [rowName(before), rowName(after)];
  return fill("images-body",
    element("p", { class: "name" }, `From ${names[0]} to ${names[1]}: images that most seeds of one row predict correctly and most seeds of the other do not. Each image is shown with its class and the class that each row predicts most often, before → after; if most seeds are wrong, it is their most frequent error.`),
    ...imageList("Fixed", pair.num_fixed, pair.fixed, names), ...imageList("Broken", pair.num_broken, pair.broken, names), ...paragraphs(notes));
}
