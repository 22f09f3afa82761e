"""Table output: print a table with the notes on its study, and write it and its figures beside the records."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal

from ablation.analysis.confounds import explain_confounds
from ablation.analysis.datasize_series import datasize_series, update_notes
from ablation.analysis.distillation_choice import choice_notes
from ablation.analysis.extra_columns import extra_notes
from ablation.analysis.layouts import DEFAULT_STYLE, style_notes
from ablation.analysis.preregistration_notes import preregistration_notes
from ablation.analysis.records import RecordedPlan
from ablation.analysis.seed_requests import added_seeds_note, request_notes, stored_design
from ablation.analysis.sequential import SequentialDesign
from ablation.analysis.table import DEFAULT_SETTINGS, TableSettings, make_table
from ablation.analysis.table_formats import AblationTable, to_csv, to_html, to_json, to_latex, to_markdown
from ablation.analysis.terminal_table import to_terminal
from ablation.report.datasize_findings import datasize_findings
from arch.errors import InputError
from arch.text import printable, shorten
from benchmarks.cli.app import new_console, print_line
from benchmarks.cli.figures import write_figure
from benchmarks.definition.names import MAX_FILE_NAME_CHARACTERS, safe_file_name
from benchmarks.records.atomic_write import replace_file

MAX_STEM_CHARACTERS = MAX_FILE_NAME_CHARACTERS - len("_errors_confusion.png")  # the longest ending

TableFormat = Literal["terminal", "markdown", "latex", "html", "csv", "json"]
FORMATTERS: dict[TableFormat, Callable[[AblationTable], str]] = {
    "markdown": to_markdown,
    "latex": to_latex,
    "html": to_html,
    "csv": to_csv,
}


def output_stem(recorded: RecordedPlan) -> Path:
    """Return the path, without suffix, of the files that are written for a plan."""
    split = "" if recorded.split == "test" else f"_{recorded.split}"
    return recorded.out / safe_file_name(f"{recorded.benchmark.name}{split}_{recorded.plan}", MAX_STEM_CHARACTERS)


def make_annotated_table(
    recorded: RecordedPlan, settings: TableSettings = DEFAULT_SETTINGS, with_findings: bool = True
) -> AblationTable:
    """Return the table of a recorded plan with all notes on its study.

    Args:
        recorded: The rows and their records.
        settings: What the table shows, and how its changes are tested.
        with_findings: Whether the notes include the findings of a data-size study, which need learning curves.

    Raises:
        InputError: If the plan is run until its changes are decided, and the settings request other tests, or if they
            have a target and the plan is no data-size study.
    """
    settings = _with_design(settings, stored_design(recorded))
    table = make_table(recorded, settings)
    if added_seeds := added_seeds_note(recorded):
        table = replace(table, caption=f"{table.caption} {added_seeds}")
    series = datasize_series(recorded)
    if settings.target is not None and not series:
        raise InputError(f"--target needs a plan of `ablate datasize`, but the plan is {shorten(str(recorded.plan))}")
    declared = preregistration_notes(recorded, settings)  # first, because the report prints only the first notes
    declared += request_notes(recorded)
    notes = [*choice_notes(recorded), *map(printable, recorded.notes), *([] if series else explain_confounds(recorded))]
    notes += [*update_notes(recorded), *_teacher_notes(recorded)]
    if with_findings:
        notes += datasize_findings(recorded, table, settings.target)
    notes += extra_notes(table.frame, settings.style.columns.names)
    notes += style_notes(table.frame, table.factors, settings.style)
    return replace(table, notes=(*declared, *table.notes, *notes))


def _with_design(settings: TableSettings, design: SequentialDesign | None) -> TableSettings:
    """Return the settings with the tests that a plan was started with. Raises InputError if others were requested."""
    if design is None:
        return settings
    if settings.pairing != design.pairing and settings.pairing == "paired":
        raise InputError("--paired: this plan was started with --until-decided and an unpaired test")
    if settings.margin not in (None, design.margin):
        started = "no margin" if design.margin is None else f"--equivalence {design.margin:g}"
        raise InputError(f"--equivalence {settings.margin:g}: this plan was started with --until-decided and {started}")
    return replace(settings, pairing=design.pairing, margin=design.margin, design=design)


def _teacher_notes(recorded: RecordedPlan) -> list[str]:
    """Return a note for each teacher that was read from a file."""
    teachers = {row.overrides.teacher for row in recorded.rows}
    names = {recorded.names.name_weights(str(teacher)) for teacher in teachers if teacher and not teacher.is_trained}
    return [
        printable(f"{name}: all seeds learn from one network read from a file; its training and data are unknown.")
        for name in sorted(names)
    ]


def show_table(
    table: AblationTable, recorded: RecordedPlan, files: Sequence[Path] = (), table_format: TableFormat = "terminal"
) -> None:
    """Print a table.

    Args:
        table: The table.
        recorded: The rows and their records.
        files: The files that the table was written to.
        table_format: The format to print.
    """
    if table_format == "json":
        print(json.dumps(table_content(table, recorded, files), indent=2))
        return
    if table_format != "terminal":
        print(FORMATTERS[table_format](table), end="")
        return
    console = new_console()
    console.print(to_terminal(table, console.width))
    for note in table.notes:
        print_line(note)
    if files:
        print_line("written: " + ", ".join(map(str, files)))


def table_content(table: AblationTable, recorded: RecordedPlan, files: Sequence[Path] = ()) -> dict[str, object]:
    """Return a table, its failed runs and its files as plain data."""
    labels = {row.key: row.label for row in recorded.rows}
    return {
        "benchmark": recorded.benchmark.name,
        "benchmark_id": recorded.benchmark_id,
        "plan": str(recorded.plan),
        "pairing": table.pairing,
        **to_json(table),
        "failures": [{"step": labels[run.key], "seed": run.seed, "reason": run.reason} for run in recorded.failed_runs],
        "files": [str(file) for file in files],
    }


def write_outputs(table: AblationTable, recorded: RecordedPlan) -> list[Path]:
    """Write the table as Markdown and CSV and the training curves as PNG, and return the paths.

    The figures are drawn again only if the table has changed, and none is drawn without results.

    Args:
        table: The table.
        recorded: The rows and their records, with learning curves.

    Raises:
        InputError: If the folder cannot be written to.
    """
    stem = output_stem(recorded)
    markdown, csv = (stem.with_name(stem.name + suffix) for suffix in (".md", ".csv"))
    content = to_markdown(table).encode()
    try:
        is_unchanged = markdown.exists() and markdown.read_bytes() == content
        replace_file(markdown, lambda file: file.write_bytes(content))
        complete = replace(table, style=DEFAULT_STYLE)
        replace_file(csv, lambda file: file.write_bytes(to_csv(complete).encode()))
        figures = _write_figures(table, recorded, is_unchanged) if table.frame["n"].any() else []
    except OSError as error:
        raise InputError(f"cannot write to --out {stem.parent}: {error.strerror or error}") from error
    return [markdown, csv, *figures]


def _write_figures(table: AblationTable, recorded: RecordedPlan, is_unchanged: bool) -> list[Path]:
    """Write the figures, except those that exist and whose table is unchanged."""

    def draw(suffix: str, file: Path) -> None:
        from ablation.report.figures import write_screen_figure  # imports matplotlib

        write_screen_figure(suffix, recorded, table.caption.partition(";")[0], file)

    stem, paths = output_stem(recorded), []
    for suffix in (".png", "_losses.png", *(["_sizes.png"] if datasize_series(recorded) else [])):
        path = stem.with_name(stem.name + suffix)
        if (is_unchanged and path.exists()) or write_figure(path, partial(draw, suffix)):
            paths.append(path)
    return paths
