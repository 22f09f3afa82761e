// The page as a whole: summary, status of running trainings, colors, printing, and updates of a live page.

const UPDATE_MILLISECONDS = 3000;

function renderSummary() {
  const numbers = data.best.map(([value, name]) => element("div", {}, element("dt", {}, value), element("dd", {}, name)));
  fill("best", element("p", { class: "name" }, data.best_title), numbers.length ? element("dl", { class: "best" }, ...numbers) : null);
  fill("findings", ...data.findings.map((sentence) => element("li", { class: "name" }, sentence)));
  fill("omissions", ...paragraphs(data.omissions));
  fill("text", ...data.text.map(textNode));
}

function duration(seconds) {
  if (seconds === null || seconds === undefined) return "unknown";
  if (seconds < 60) return `${Math.round(seconds)} s`;
  const minutes = Math.round(seconds / 60);
  return minutes < 60 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

function runningRow({ run, epoch, epochs, eta_seconds: eta }) {
  const progress = element("progress", { max: epochs, value: epoch, "aria-label": `Epochs of ${run}` });
  return [run, element("span", {}, `${epoch} of ${epochs} `, progress), duration(eta)];
}

function setText(id, text) {
  const node = document.getElementById(id);
  if (node.textContent !== text) node.textContent = text; // a live region is read again only if it has changed
}

function renderStatus() {
  const { status } = data;
  document.getElementById("status").hidden = !status;
  if (!status) return;
  const { done, total, running, failed, eta_seconds: eta } = status;
  const remaining = running.length ? `; ${running.length} running, ${duration(eta)} remaining` : "";
  setText("status-summary", `${done} of ${total} runs finished${failed.length ? `, ${failed.length} failed` : ""}${remaining}.`);
  const failures = failed.map(({ run, reason }) => element("li", { class: "bad name" }, `${run} failed: ${reason}`));
  fill("status-body",
    running.length ? scrolling("Running trainings", simpleTable("Running trainings", ["run", "epoch", "remaining"], running.map(runningRow))) : null,
    failures.length ? element("ul", {}, ...failures) : null);
}

function render() {
  keepFocus(() => {
    renderSummary();
    renderStatus();
    renderColumnChoice();
    renderTable();
    renderNotes();
    renderCharts();
    renderClasses();
    renderConfusions();
    renderImages();
    renderArchitectures();
    renderRuns();
  });
}

function isDark() {
  const { theme } = document.documentElement.dataset;
  return theme ? theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
}

function labelThemeButton() {
  const button = document.getElementById("theme");
  button.hidden = false;
  button.textContent = isDark() ? "Use light colors" : "Use dark colors";
}

function switchTheme() {
  document.documentElement.dataset.theme = isDark() ? "light" : "dark";
  labelThemeButton();
}

/** Open all runs for the printer, and close them afterwards. */
function preparePrint() {
  const closed = [...document.querySelectorAll("#runs-body > details:not([open])")];
  closed.forEach((details) => {
    details.open = true;
    if (details.children.length === 1) details.append(...runContent(Number(details.id.slice(4)) - 1).filter(Boolean));
  });
  addEventListener("afterprint", () => closed.forEach((details) => { details.open = false; }), { once: true });
}

async function update(last) {
  let text = last;
  try {
    const response = await fetch("data.json", { cache: "no-store" });
    if (!response.ok) throw new Error(String(response.status));
    text = await response.text();
    if (text !== last) {
      data = JSON.parse(text);
      render();
    }
    if (document.body.dataset.live === "lost") announce("Connected again.");
    document.body.dataset.live = "";
  } catch {
    if (document.body.dataset.live !== "lost") announce("The connection to ablate watch is lost; this page shows the last data.");
    document.body.dataset.live = "lost";
  }
  setTimeout(update, UPDATE_MILLISECONDS, text);
}

render();
labelThemeButton();
document.getElementById("theme").addEventListener("click", switchTheme);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", labelThemeButton);
addEventListener("hashchange", openTarget);
addEventListener("click", (event) => { // a second click on the link to the same runs does not change the address
  if (event.target.closest?.(`a[href="${location.hash || "#"}"]`)) openTarget();
});
addEventListener("beforeprint", preparePrint);
openTarget();
if ("live" in document.body.dataset) update("");
