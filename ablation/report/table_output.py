"""A table as it is shown, and as `ablate run` keeps it beside its records, with the curves."""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Literal

from ablation.analysis.confounds import explain_confounds
from ablation.analysis.datasize_series import series_of, updates_told
from ablation.analysis.records import RecordedPlan
from ablation.analysis.scaling import Series
from ablation.analysis.table import make_table
from ablation.analysis.table_formats import AblationTable, to_csv, to_html, to_json, to_latex, to_markdown, to_terminal
from ablation.plans.row import Pairing, Row
from ablation.report.datasize_findings import datasize_findings
from arch.errors import InputError
from arch.text import printable
from benchmarks.cli.options import new_console, say
from benchmarks.records.atomic_write import replace_file

UNFIT = re.compile(r"[^A-Za-z0-9_.+~=-]")  # what some file system or shell does not take in a name
NAME_LIMIT = 100  # characters of a file's name before its suffix

Form = Literal["terminal", "markdown", "latex", "html", "csv"]
FORMS: dict[Form, Callable[[AblationTable], str]] = {
    "markdown": to_markdown,
    "latex": to_latex,
    "html": to_html,
    "csv": to_csv,
}


def stem_of(recorded: RecordedPlan, out: Path) -> Path:
    """What the files of a plan are called, before their suffix."""
    name = UNFIT.sub("_", f"{recorded.benchmark.name}_{recorded.plan}")
    if len(name) > NAME_LIMIT:
        name = f"{name[:NAME_LIMIT]}_{sha256(name.encode()).hexdigest()[:12]}"
    return out / name


def files_told(rows: Sequence[Row]) -> list[str]:
    """That a teacher came as a file, and what is not known of it."""
    teachers = {row.overrides.teacher for row in rows if row.overrides.teacher and not row.overrides.teacher.is_trained}
    return [
        printable(f"{teacher}: one net from a file teaches in all seeds; how it was trained, and on what, is not known")
        for teacher in sorted(teachers, key=str)
    ]


def table_of(
    recorded: RecordedPlan,
    seeds: int | None = None,
    pairing: Pairing = "unpaired",
    num_candidates: int | None = None,
    findings: bool = True,
) -> AblationTable:
    """The table of what is recorded, with what has to be said of its study. recorded: with its curves, for that.

    findings: those of a study of data size too. The other arguments: see `ablation.analysis.table.make_table`.
    """
    rows, results = recorded.rows, recorded.results
    table = make_table(rows, results, recorded.benchmark, seeds, recorded.failures, pairing, num_candidates)
    series = series_of(rows, results, seeds)
    more = [] if series else explain_confounds(rows, results)
    more += [*updates_told(rows, results, recorded.benchmark.recipe.batch_size), *files_told(rows)]
    if findings:
        more += datasize_findings(series)
    return replace(table, notes=(*table.notes, *more))


def show(
    table: AblationTable,
    recorded: RecordedPlan,
    pairing: Pairing,
    files: Sequence[Path],
    form: Form = "terminal",
    as_json: bool = False,
) -> None:
    """Prints the table, and which files it was written to."""
    if as_json:
        print(json.dumps(_content(table, recorded, pairing, files), indent=2))
        return
    if form != "terminal":
        print(FORMS[form](table), end="")
        return
    console = new_console()
    console.print(to_terminal(table, console.width))
    for line in table.notes:
        say(line)
    if files:
        say("written: " + ", ".join(map(str, files)))


def _content(
    table: AblationTable, recorded: RecordedPlan, pairing: Pairing, files: Sequence[Path]
) -> dict[str, object]:
    labels = {row.key: row.label for row in recorded.rows}
    return {
        "benchmark": recorded.benchmark.name,
        "benchmark_id": recorded.benchmark_id,
        "plan": recorded.plan,
        "pairing": pairing,
        **to_json(table),
        "failures": [
            {"step": labels[failure.key], "seed": failure.seed, "reason": failure.reason}
            for failure in recorded.failures
        ],
        "files": [str(file) for file in files],
    }


def write_outputs(table: AblationTable, recorded: RecordedPlan, stem: Path, seeds: int | None = None) -> list[Path]:
    """Writes stem.md, stem.csv and stem.png and returns their paths; a figure that is up to date is kept,
    and none is drawn without results.

    recorded: with its curves. Raises InputError where nothing can be written.
    """
    markdown, csv, figure = (stem.with_name(stem.name + suffix) for suffix in (".md", ".csv", ".png"))
    content = to_markdown(table).encode()
    try:
        unchanged = figure.exists() and markdown.exists() and markdown.read_bytes() == content
        replace_file(markdown, lambda file: file.write_bytes(content))
        replace_file(csv, lambda file: file.write_bytes(to_csv(table).encode()))
        if not table.frame["n"].any():
            return [markdown, csv]
        title = table.caption.partition(";")[0]
        if not unchanged:
            from ablation.report.figures import plot_curves

            replace_file(figure, lambda file: plot_curves(recorded.rows, recorded.results, file, title, seeds))
        sizes = _write_sizes(series_of(recorded.rows, recorded.results, seeds), stem, title)
    except OSError as error:
        raise InputError(f"cannot write to --out {stem.parent}: {error.strerror or error}") from error
    return [markdown, csv, figure, *sizes]


def _write_sizes(series: Sequence[Series], stem: Path, title: str) -> list[Path]:
    """stem_sizes.png, of a study of data size."""
    if not series:
        return []
    from ablation.report.datasize_figure import against_images
    from ablation.report.figure_style import SLIDE, save

    figure = stem.with_name(stem.name + "_sizes.png")
    replace_file(figure, lambda file: save(against_images(series, SLIDE, title), file, "png"))
    return [figure]
