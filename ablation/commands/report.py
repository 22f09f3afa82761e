"""`ablate report`: the one-page PDF report."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

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
    """Write a one-page PDF report on PLAN, with a table, findings and figures, to --out."""
    from ablation.report.author_text import read_author_text

    author_text = read_author_text(options.title, options.author, options.text)
    if options.figures is not None and options.figures.exists() and not options.figures.is_dir():
        raise InputError(f"--figures {options.figures} is a file: name a folder")
    recorded = records.find(plan, curves=True)

    from ablation.analysis.table import TableSettings
    from ablation.report.table_output import make_annotated_table, output_stem

    with default_settings():  # these modules import matplotlib
        from ablation.report.figures import write_figures
        from ablation.report.pdf import write_report

    settings = TableSettings(
        choose_pairing(options.paired), options.equivalence, options.num_candidates, test_images=True
    )
    table = make_annotated_table(recorded, settings, with_findings=False)
    stem = output_stem(recorded)
    page = stem.with_name(stem.name + "_report.pdf")
    try:
        files = [write_report(recorded, table, page, author_text), page.with_suffix(".json")]
        if options.figures is not None:
            files += write_figures(recorded, table, options.figures)
    except OSError as error:
        raise InputError(f"cannot write {error.filename or page}: {error.strerror or error}") from error
    if options.as_json:
        print(json.dumps({"benchmark_id": recorded.benchmark_id, "files": [str(file) for file in files]}, indent=2))
    else:
        print("written: " + ", ".join(str(file) for file in files))
    return 0
