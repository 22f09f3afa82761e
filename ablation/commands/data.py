"""`ablate data`: what a data set contains, and what is wrong with it."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from arch.errors import InputError
from arch.text import plural, printable
from benchmarks.cli.app import EXIT_FAILED, new_console, print_line
from benchmarks.cli.options import (
    DEFAULT_OUT,
    NO_PATHS,
    DownloadOption,
    JsonOption,
    OutOption,
    PluginsOption,
    complete_benchmark,
    with_options,
)
from benchmarks.definition.names import check_path

if TYPE_CHECKING:
    import pandas as pd

    from benchmarks.datasets.data_report import DataReport

MAX_LINES_PRINTED = 10  # sizes, duplicates and problems; the JSON output contains all of them
MAX_CLASSES_PRINTED = 20

DataArgument = Annotated[
    Path | None,
    typer.Argument(
        metavar="[DIR]",
        help="An image folder or a CSV file of paths and labels  [default: the source of --benchmark]",
        callback=lambda path: path and check_path("DIR", path),
        show_default=False,
    ),
]


@dataclass(frozen=True)
class DataOptions:
    """The options of `ablate data`."""

    benchmark: Annotated[
        str | None,
        typer.Option(
            "--benchmark",
            metavar="NAME|FILE.toml",
            help="Examine the images as this benchmark reads them; required for sources other than folders.",
            autocompletion=complete_benchmark,
        ),
    ] = None
    download: DownloadOption = False
    plugins: PluginsOption = NO_PATHS
    out: OutOption = DEFAULT_OUT
    as_json: JsonOption = False


@with_options
def data(root: DataArgument = None, *, options: DataOptions) -> int:
    """Report the classes, sizes, duplicates and problems of the images in DIR, and draw a contact sheet.

    The exit code is 3 if there are problems, because of which the images cannot be used.
    """
    from ablation.report.data_output import to_json, write_report_files
    from arch.plugins import load_plugins
    from benchmarks.datasets.data_report import toml_lines

    load_plugins(options.plugins)
    report = _examine(root, options)
    files = write_report_files(report, options.out)
    suggestion: list[str] = []
    if root is not None and options.benchmark is None and len(report.images):
        suggestion = toml_lines(report.suggested_data(), root)
    if options.as_json:
        print(json.dumps({**to_json(report), "toml": suggestion, "files": [str(file) for file in files]}, indent=2))
    else:
        _print_report(report)
        if suggestion:
            print_line("\nfor the TOML file of a benchmark:\n" + "\n".join(f"  {line}" for line in suggestion))
        print_line("\nwritten: " + ", ".join(map(str, files)))
    return EXIT_FAILED if report.problems else 0


def _examine(root: Path | None, options: DataOptions) -> "DataReport":
    """Examine the files of a folder or a CSV file, or the decoded images of any other source."""
    from benchmarks.datasets.csv_file import is_csv_file
    from benchmarks.datasets.examine import examine_dataset, examine_files
    from benchmarks.datasets.folder_layout import is_image_folder
    from benchmarks.datasets.prepare import prepare_dataset
    from benchmarks.definition.registry import get_benchmark
    from benchmarks.execution.progress import Display

    config = None if options.benchmark is None else get_benchmark(options.benchmark).data
    if root is not None and not root.exists() and not options.download:
        raise InputError(f"there is no folder or CSV file {root}")
    with Display() as display:
        if config is None:
            if root is None:
                raise InputError("give a folder or a CSV file with images, or a benchmark (--benchmark)")
            return examine_files(root, None, display)
        if root is not None and (is_csv_file(root) or (root.is_dir() and is_image_folder(root, config))):
            report = examine_files(root, config, display)
            held_out = f"test_fraction = {config.test_fraction}: this part of each class is the test split"
            return replace(report, notes=(*report.notes, held_out)) if config.test_fraction else report
        return examine_dataset(prepare_dataset(config, root, options.download, display), config, display)


def _print_report(report: "DataReport") -> None:
    counts = report.counts
    totals = ", ".join(f"{count:,} {split}" for split, count in counts.sum().items())
    classes, images = plural(len(report.classes), "class", "classes"), plural(len(report.images), "image")
    print_line(f"{printable(report.place)}: {classes}, {images} ({totals})")
    _print_counts(counts)
    _print_frequent("size", report.sizes)
    _print_frequent("colors", report.colors)
    for line in (*report.conversions, *report.notes):
        print_line(printable(line))
    _print_copies(report)
    if not report.problems:
        print_line("no problems found")
    for problem in report.problems[:MAX_LINES_PRINTED]:
        print_line(f"PROBLEM: {printable(problem)}")
    if len(report.problems) > MAX_LINES_PRINTED:
        print_line(f"and {len(report.problems) - MAX_LINES_PRINTED:,} more problems")


def _print_counts(counts: "pd.DataFrame") -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text  # does not interpret names as markup or emoji

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    table.add_column("class", overflow="fold")
    for split in counts:
        table.add_column(str(split), justify="right")
    shown = counts if len(counts) <= MAX_CLASSES_PRINTED else counts.loc[counts.sum(axis=1).sort_values().index]
    for name, row in shown.head(MAX_CLASSES_PRINTED).iterrows():
        table.add_row(Text(str(name)), *(f"{count:,}" for count in row))
    new_console().print(table)
    if len(counts) > MAX_CLASSES_PRINTED:
        print_line(f"the {MAX_CLASSES_PRINTED} smallest of {len(counts):,} classes")


def _print_frequent(name: str, counts: "pd.Series[int]") -> None:
    shown = ", ".join(f"{value} ({count:,})" for value, count in counts.head(MAX_LINES_PRINTED).items())
    omitted = f" and {plural(len(counts) - MAX_LINES_PRINTED, 'other')}" if len(counts) > MAX_LINES_PRINTED else ""
    print_line(f"{name}: {shown}{omitted}")


def _print_copies(report: "DataReport") -> None:
    for title, copies in (("splits", report.leaks), ("classes", report.contradictions)):
        groups = [list(group) for _, group in copies.groupby("digest")["name"]]
        print_line(f"images that are in several {title}: {len(groups):,}")
        for names in groups[:MAX_LINES_PRINTED]:
            print_line(f"  {' = '.join(names)}")
    repeated = {split: report.num_copies_within(str(split)) for split in report.counts}
    for split, count in repeated.items():
        if count:
            print_line(f"{split}: {plural(count, 'copy', 'copies')} of other {split} images")
