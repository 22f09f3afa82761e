"""`ablate report`: the one-page PDF report, and the interactive HTML report."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import typer

from ablation.commands.options import (
    EquivalenceOption,
    NumCandidatesOption,
    PairedOption,
    RecordedPlanArgument,
    RecordOptions,
    choose_pairing,
)
from arch.errors import InputError
from benchmarks.cli.figures import default_settings
from benchmarks.cli.options import JsonOption, with_options
from benchmarks.definition.names import check_path


@dataclass(frozen=True)
class ReportOptions:
    """The options that decide what the report contains."""

    report_format: Annotated[
        Literal["pdf", "html"],
        typer.Option("--format", help="pdf: one page (A4). html: an interactive page in one file, for a browser."),
    ] = "pdf"
    figures: Annotated[
        Path | None,
        typer.Option(
            "--figures",
            metavar="DIR",
            help="Also write the figures for slides (PNG and SVG) to this folder.",
            callback=lambda path: path and check_path("--figures", path),
        ),
    ] = None
    title: Annotated[
        str | None, typer.Option("--title", metavar="TEXT", help="Title of the page  [default: the kind of study]")
    ] = None
    author: Annotated[str | None, typer.Option("--author", metavar="TEXT", help="Names to print below the title.")] = (
        None
    )
    text: Annotated[
        Path | None,
        typer.Option(
            "--text",
            metavar="FILE.md",
            help="Text to print on the page, in Markdown, such as a proposal or a discussion.",
            callback=lambda path: path and check_path("--text", path),
        ),
    ] = None
    paired: PairedOption = False
    equivalence: EquivalenceOption = None
    num_candidates: NumCandidatesOption = None
    as_json: JsonOption = False


@with_options
def report(plan: RecordedPlanArgument = None, *, options: ReportOptions, records: RecordOptions) -> int:
    """Write a report on PLAN, with a table, findings and figures, to --out: one PDF page, or an interactive page."""
    from ablation.report.author_text import read_author_text

    author_text = read_author_text(options.title, options.author, options.text)
    if options.figures is not None and options.figures.exists() and not options.figures.is_dir():
        raise InputError(f"--figures {options.figures} is a file: name a folder")
    recorded = records.find(plan, curves=True)

    from ablation.analysis.table import TableSettings
    from ablation.report.report_files import default_report_path, write_report_files
    from ablation.report.table_output import make_annotated_table

    settings = TableSettings(choose_pairing(options.paired), options.equivalence, options.num_candidates)
    table = make_annotated_table(recorded, settings, with_findings=False)
    path = default_report_path(recorded, options.report_format)
    try:
        files = write_report_files(recorded, table, path, author_text)
        if options.figures is not None:
            with default_settings():  # this module imports matplotlib
                from ablation.report.figures import write_figures

            files += write_figures(recorded, table, options.figures)
    except OSError as error:
        raise InputError(f"cannot write {error.filename or path}: {error.strerror or error}") from error
    if options.as_json:
        print(json.dumps({"benchmark_id": recorded.benchmark_id, "files": [str(file) for file in files]}, indent=2))
    else:
        print("written: " + ", ".join(str(file) for file in files))
    return 0
