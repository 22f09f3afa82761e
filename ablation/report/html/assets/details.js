// The architectures, the runs behind each row, and the author's text.

function sectionItem(section) {
  const layers = [...section.layers.map((name) => element("li", { class: "layer" }, name)),
    ...section.attention.map((name) => element("li", { class: "layer attention" }, `${name} (attention)`))];
  return element("li", {}, element("strong", {}, section.name), element("p", {}, section.block), element("ul", {}, ...layers),
    section.shortcut ? element("p", { class: "muted" }, `shortcut: ${section.shortcut}`) : null,
    element("p", {}, `output ${section.output}`), element("p", {}, section.params));
}

function renderArchitectures() {
  const rows = data.architectures.map((one) => one.row);
  if (!rows.length) {
    fill("architectures-controls");
    return fill("architectures-body", ...paragraphs(["No record contains an architecture."]));
  }
  const row = chosen("architecture-row", rows, rows.at(-1));
  const { sections } = data.architectures.find((one) => one.row === row);
  fill("architectures-controls", element("div", { class: "controls" }, selection("architecture-row", "Row", rowOptions(rows), row, renderArchitectures)));
  const caption = `${rowName(row)}: the layers of each stage's first block, from stem to head`;
  return fill("architectures-body", element("p", { class: "name" }, `${caption}; outputs are channels × height × width.`),
    scrolling(caption, element("ol", { class: "sections" }, ...sections.map(sectionItem))));
}

function runCells(run) {
  return data.runs.columns.map((title, index) => {
    const value = title === "versions" ? data.runs.versions[run[index]] : run[index];
    return title.startsWith("top-") ? number(value) : String(value ?? "");
  });
}

function comparedWith(row) {
  const { against } = data.runs.rows[row];
  if (!against.length) return null;
  const links = against.flatMap(({ row: other, weight }, index) => [index ? ", " : "",
    element("a", { href: `#run-${other + 1}` }, rowName(other)), against.length > 1 ? ` (weight ${weight})` : ""]);
  return element("p", { class: "name" }, "The change is measured from ", ...links, ".");
}

function runContent(row) {
  const { runs, failed } = data.runs.rows[row];
  const caption = `Runs of ${rowName(row)}`;
  return [element("p", { class: "name" }, "Spec: ", element("code", {}, data.rows[row].spec)), comparedWith(row),
    ...failed.map(({ seed, reason }) => element("p", { class: "bad name" }, `Seed ${seed} failed: ${reason}`)),
    runs.length ? scrolling(caption, simpleTable(caption, data.runs.columns, runs.map(runCells)), "scroll tall")
      : element("p", { class: "muted" }, "No run of this row has finished.")];
}

function runDetails(row) {
  const id = `run-${row + 1}`;
  const { runs, failed } = data.runs.rows[row];
  const count = `${runs.length} ${runs.length === 1 ? "run" : "runs"}${failed.length ? `, ${failed.length} failed` : ""}`;
  const show = (event) => {
    const details = event.target;
    choices[id] = details.open;
    if (details.open && details.children.length === 1) details.append(...runContent(row).filter(Boolean));
  };
  const details = element("details", { id, ontoggle: show },
    element("summary", { id: `${id}-summary`, class: "name" }, `${row + 1} ${data.rows[row].label}: ${count}`));
  details.open = choices[id] === true;
  if (details.open) details.append(...runContent(row).filter(Boolean));
  return details;
}

function renderRuns() {
  fill("runs-body", ...data.rows.map((_, row) => runDetails(row)));
}

/** Open the runs that the address names. */
function openTarget() {
  const details = document.getElementById(location.hash.slice(1));
  if (details?.tagName !== "DETAILS") return;
  details.open = true;
  document.getElementById(`${details.id}-summary`)?.focus();
}

const TEXT_TAGS = {
  paragraph: "p", heading: "h3", bullet_list: "ul", ordered_list: "ol", list_item: "li", blockquote: "blockquote",
  em: "em", strong: "strong", code_inline: "code", hr: "hr", hardbreak: "br", link: "a",
};

/** Return the element of a node of the author's text. */
function textNode(node) {
  if (node.type === "text") return document.createTextNode(node.text);
  if (node.type === "softbreak") return document.createTextNode(" ");
  if (node.type === "code_block" || node.type === "fence") return element("pre", {}, node.text);
  const address = node.url ? { href: node.url, rel: "noopener noreferrer" } : {};
  const properties = node.type === "ordered_list" ? { start: node.start } : address;
  const content = node.text ? [node.text] : (node.children ?? []).map(textNode);
  return element(TEXT_TAGS[node.type] ?? "span", properties, ...content);
}
