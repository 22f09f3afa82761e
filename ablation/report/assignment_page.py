"""The page of an assignment: a Markdown file with the table, figures, expected results and runs of one benchmark id."""

import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from tabulate import tabulate

from ablation.analysis.datasize_series import datasize_series
from ablation.analysis.mark_results import mark_results
from ablation.analysis.markdown_table import escape_markdown
from ablation.analysis.records import RecordedPlan
from ablation.analysis.study_progress import StudyProgress
from ablation.analysis.table_formats import AblationTable, to_markdown
from ablation.plans.assignments import AssignedStudy
from ablation.plans.row import labels_by_key, with_dependencies
from ablation.report.assignment_conditions import conditions
from ablation.report.assignment_hours import hours_table
from ablation.report.datasize_findings import study_findings
from ablation.report.network_tables import class_table, networks_table
from ablation.report.table_output import make_annotated_table
from arch.errors import InputError
from arch.text import printable
from benchmarks.budget.verdict import format_hours
from benchmarks.cli.figures import write_figure
from benchmarks.definition.names import MAX_FILE_NAME_CHARACTERS, safe_file_name
from benchmarks.definition.registry import BENCHMARKS
from benchmarks.definition.toml_file import write_benchmark
from benchmarks.records.atomic_write import replace_file

PAGE_FILE, BENCHMARK_FILE = "README.md", "benchmark.toml"
FIGURES = {  # file name -> the figure that is written beside a table with this suffix, and its caption
    "curves.png": (".png", "Test top-1 against epoch"),
    "losses.png": ("_losses.png", "Training and test loss against epoch"),
    "sizes.png": ("_sizes.png", "Test and training top-1 against the number of training images"),
}


@dataclass(frozen=True)
class AssignmentPage:
    """What the page of an assignment is made from.

    Attributes:
        study: The assignment at one scale.
        plan: Its plan, with the sources of pretrained weights, for `ablate run`.
        recorded: Its rows and records under one benchmark id, with learning curves.
        progress: Its recorded and missing runs.
        seeds: The number of seeds of each row.
        command: The start of the command that trains the missing runs and writes the page.
        data: The arguments of the command that name the images.
    """

    study: AssignedStudy
    plan: str
    recorded: RecordedPlan
    progress: StudyProgress
    seeds: int
    command: Sequence[str]
    data: Sequence[str] = ()

    @property
    def folder(self) -> Path:
        """The folder of the page, which no other scale and no other benchmark id share."""
        ending = f"_{self.study.scale}_{self.recorded.benchmark_id}"
        return self.recorded.out / (safe_file_name(self.study.name, MAX_FILE_NAME_CHARACTERS - len(ending)) + ending)

    @property
    def commands(self) -> tuple[list[str], list[str]]:
        """The complete command, and the `ablate run` command that trains the same runs."""
        benchmark = self.recorded.benchmark.name
        if benchmark not in BENCHMARKS:
            benchmark = str(self.folder / BENCHMARK_FILE)
        records = self.recorded.records
        device = str(records[0].definition["device"]) if records else "auto"
        options = ["--seeds", str(self.seeds), *self.data, "--device", device, "--out", str(self.recorded.out)]
        run = ["ablate", "run", self.plan, "--benchmark", benchmark]
        return [*self.command, *options], [*run, *options]


def write_assignment_page(page: AssignmentPage) -> tuple[AblationTable, list[Path]]:
    """Write the page with its figures and its benchmark.

    Args:
        page: What the page is made from.

    Returns:
        The table of the page, and the written files; the page is the first.

    Raises:
        InputError: If the folder cannot be written to.
        ValueError: If the records have several benchmark ids.
    """
    table = make_annotated_table(page.recorded, with_findings=False)
    try:
        figures = _write_figures(page) if table.frame["n"].any() else []
        benchmark = page.recorded.benchmark
        files = [page.folder / PAGE_FILE]
        _write(files[0], assignment_markdown(page, table, [path.name for path in figures]))
        if benchmark.name not in BENCHMARKS:
            files.append(page.folder / BENCHMARK_FILE)
            folder = page.folder.resolve()
            plugins = tuple(os.path.relpath(path.resolve(), folder) for path in page.study.plugin_paths)
            _write(files[1], write_benchmark(replace(benchmark, plugins=plugins), benchmark.name))
    except OSError as error:
        raise InputError(f"cannot write to {page.folder}: {error.strerror or error}") from error
    return table, [*files, *figures]


def assignment_markdown(page: AssignmentPage, table: AblationTable, figures: Sequence[str]) -> str:
    """Return the Markdown of a page.

    Args:
        page: What the page is made from.
        table: The table of its records.
        figures: The names of the figures in its folder.
    """
    assignment = page.study.assignment
    sections = {
        "": "\n\n".join([f"# {_escape(assignment.title)}", *map(_escape, assignment.description.split("\n\n"))]),
        "How to reproduce": _commands(page),
        "Conditions": _table(("", ""), conditions(page.study, page.recorded, page.progress, page.seeds)),
        "Results": to_markdown(table).strip(),
        "Networks": _table(*networks_table(page.recorded)),
        "Accuracy per class": _class_accuracies(page.recorded),
        "Findings": "\n".join(f"- {_escape(sentence)}" for sentence in study_findings(page.recorded, table)),
        "Expected and measured results": _marks(page),
        "Hours": _table(*hours_table(page.progress, page.recorded, page.seeds)),
        "Figures": "\n\n".join(f"![{FIGURES[name][1]}]({name})" for name in figures),
        "Runs": _runs(page),
    }
    return "\n\n".join(f"## {title}\n\n{text}" if title else text for title, text in sections.items() if text) + "\n"


def _write_figures(page: AssignmentPage) -> list[Path]:
    def draw(suffix: str, file: Path) -> None:
        from ablation.report.figures import write_screen_figure  # imports matplotlib

        write_screen_figure(suffix, page.recorded, title, file)

    title = " ".join(page.study.assignment.title.split())
    names = [name for name in FIGURES if name != "sizes.png" or datasize_series(page.recorded)]
    return [path for name in names for path in write_figure(page.folder / name, partial(draw, FIGURES[name][0]))]


def _write(path: Path, text: str) -> None:
    replace_file(path, lambda file: file.write_text(text, encoding="utf-8"))


def _commands(page: AssignmentPage) -> str:
    commands = [f"    {printable(shlex.join(command))}" for command in page.commands]
    note = "Both commands skip runs that are already recorded in `--out`. Use another folder to train all runs."
    return "\n\n".join([commands[0], "The same runs, as a plan:", commands[1], note])


def _class_accuracies(recorded: RecordedPlan) -> str:
    header, lines = class_table(recorded)
    return f"Top-1 in percent, mean over the recorded seeds.\n\n{_table(header, lines)}" if lines else ""


def _marks(page: AssignmentPage) -> str:
    """Return the expected results beside the measured ones."""
    results = mark_results(page.study.mark_rows(), page.recorded)
    if not results:
        return "There are no expected results for this scale."
    lines = [
        (
            result.label,
            "top-1" if result.mark.metric == "top1" else "top-5",
            f"{'≥ ' if result.mark.kind == 'goal' else ''}{result.mark.value:g}",
            result.measured,
            result.outcome,
            result.mark.kind,
            result.mark.source,
        )
        for result in results
    ]
    return _table(("row", "accuracy %", "expected", "measured", "outcome", "kind", "source"), lines)


def _runs(page: AssignmentPage) -> str:
    """Return all recorded runs, including those that rows depend on."""
    labels = labels_by_key(with_dependencies(page.recorded.rows))
    lines = [
        (
            labels[run.key],
            str(run.seed),
            run.run_id,
            f"{run.top1:.2f}",
            f"{run.top5:.2f}",
            f"{run.curve[-1]['train_top1']:.2f}",
            format_hours(run.hours),
            run.device,
            run.commit,
            run.finished,
        )
        for run in page.progress.recorded
    ]
    header = ("row", "seed", "run id", "top-1 %", "top-5 %", "training top-1 %", "time", "device", "commit", "finished")
    note = (
        "Training top-1 is the mean over the batches of the last epoch. Each run is a line of "
        "[records.jsonl](../records.jsonl) with the complete learning curve and benchmark. Its run id consists of the "
        "fields `key`, `benchmark_id` and `seed`."
    )
    return f"{_table(header, lines)}\n\n{note}"


def _table(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    cells = [[_escape(cell) for cell in line] for line in lines]
    return tabulate(cells, [_escape(title) for title in header], tablefmt="github", disable_numparse=True)


def _escape(text: str) -> str:
    """Return text on one line that Markdown prints as it is."""
    return escape_markdown(printable(" ".join(text.split())))
