"""`ablate errors`: accuracy by class, confusions and near-duplicates of a row."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ablation.commands.options import (
    DEFAULT_OUTS,
    IdOption,
    LabelOption,
    OutsOption,
    RecordedBenchmarkOption,
    RecordedPlanArgument,
    RecordedSeedsOption,
    find_recorded,
    load_named_plugins,
)
from arch.errors import InputError
from arch.text import plural, printable
from benchmarks.cli.app import new_console, print_line
from benchmarks.cli.options import NO_PATHS, DataOption, DeviceOption, JsonOption, PluginsOption, with_options

if TYPE_CHECKING:
    import pandas as pd

    from ablation.analysis.errors import ErrorAnalysis, Integers
    from ablation.analysis.records import RecordedPlan
    from benchmarks.datasets.near_duplicates import NearDuplicates

MAX_ROWS_PRINTED = 10  # classes and confusions to print; the files contain all of them


@dataclass(frozen=True)
class ErrorOptions:
    """The options that select the records and the analyses."""

    near_duplicates: Annotated[
        bool,
        typer.Option(
            "--near-duplicates", help="Also report the accuracy without test images that resemble training images."
        ),
    ] = False
    benchmark: RecordedBenchmarkOption = None
    benchmark_id: IdOption = None
    data: DataOption = None
    seeds: RecordedSeedsOption = None
    out: OutsOption = DEFAULT_OUTS
    labels: LabelOption = None
    device: DeviceOption = "auto"
    plugins: PluginsOption = NO_PATHS
    as_json: JsonOption = False


@dataclass(frozen=True)
class DuplicateReport:
    """The near-duplicates among the test images, and the accuracy of each row without them."""

    found: "NearDuplicates"
    accuracies: "pd.DataFrame"


@with_options
def errors(plan: RecordedPlanArgument = None, *, options: ErrorOptions) -> int:
    """Report the accuracy per class and the confusions of the last row of PLAN, without training anything."""
    from ablation.analysis.records import RecordQuery

    load_named_plugins(options.plugins, plan)
    query = RecordQuery(plan, options.benchmark, options.benchmark_id, new_labels=tuple(options.labels or ()))
    recorded = find_recorded(options.out, query)

    from ablation.report.error_output import write_error_analysis
    from ablation.report.table_output import output_stem

    analysis, duplicates = _analyze(recorded, options)
    stem = output_stem(recorded)
    files = write_error_analysis(analysis, stem.with_name(stem.name + "_errors"))
    if options.as_json:
        print(json.dumps(_content(analysis, duplicates, files), indent=2))
        return 0
    last = [row for row in recorded.rows if row.kind == "step"][-1]
    if analysis.row != last:
        print_line(f"{last.spec} has no records; analyzing {analysis.row.spec} instead, the last row with records")
    _print_classes(analysis)
    _print_confusions(analysis)
    if duplicates is not None:
        _print_duplicates(duplicates)
    print_line("written: " + ", ".join(map(str, files)))
    return 0


def _analyze(recorded: "RecordedPlan", options: ErrorOptions) -> "tuple[ErrorAnalysis, DuplicateReport | None]":
    from ablation.analysis.errors import accuracies_without, analyze_errors, recorded_labels

    labels, classes, found = recorded_labels(recorded), tuple(recorded.records[-1].per_class), None
    if labels is None or options.near_duplicates or options.data:
        labels, classes, found = _read_images(recorded, options)
    recorded = recorded.first_seeds(options.seeds)
    try:
        analysis = analyze_errors(recorded, labels, classes)
    except ValueError as error:
        raise InputError(f"{recorded.plan}: {error} with seeds 0 to {(options.seeds or 1) - 1}") from error
    if found is None:
        return analysis, None
    accuracies = accuracies_without(recorded, labels, [duplicate.test for duplicate in found.found])
    return analysis, DuplicateReport(found, accuracies)


def _read_images(
    recorded: "RecordedPlan", options: ErrorOptions
) -> "tuple[Integers, tuple[str, ...], NearDuplicates | None]":
    """Return the labels of the test images, the classes and, if requested, the near-duplicates among the images."""
    import numpy as np

    from ablation.analysis.errors import find_near_duplicates
    from benchmarks.datasets.prepare import prepare_dataset
    from benchmarks.execution.device import resolve_device
    from benchmarks.execution.progress import Display

    config = recorded.benchmark.data
    with Display() as display:
        images = prepare_dataset(config, options.data, report=display)
        if images.fingerprint != recorded.records[-1].definition["data"].get("fingerprint"):
            raise InputError("these images differ from those of the records: use --data to name their folder")
        labels = np.asarray(images.load(config, "test")[1].labels)
        if not options.near_duplicates:
            return labels, images.classes, None
        device = resolve_device(options.device)
        return labels, images.classes, find_near_duplicates(images, config, device, recorded.out, display)


def _content(analysis: "ErrorAnalysis", duplicates: DuplicateReport | None, files: Sequence[Path]) -> dict[str, Any]:
    from ablation.analysis.errors import most_frequent_confusions

    return {
        "spec": analysis.row.spec,
        "seeds": analysis.seeds,
        "seeds_without_predictions": analysis.seeds_without_predictions,
        "per_class": _records(analysis.per_class),
        "confusions": None
        if analysis.confusion is None
        else _records(most_frequent_confusions(analysis, MAX_ROWS_PRINTED)),
        "near_duplicates": None
        if duplicates is None
        else {
            "found": len(duplicates.found.found),
            "test_images": duplicates.found.test_images,
            "rows": _records(duplicates.accuracies),
        },
        "files": [str(file) for file in files],
    }


def _records(frame: "pd.DataFrame") -> list[dict[str, Any]]:
    """Return the rows of a table for JSON, with null for NaN."""
    records: list[dict[str, Any]] = json.loads(frame.to_json(orient="records"))
    return records


def _print_classes(analysis: "ErrorAnalysis") -> None:
    worst = analysis.per_class.sort_values(["top1", "class"]).head(MAX_ROWS_PRINTED)
    rows = [
        (printable(row["class"]), str(row["images"]), f"{row['top1']:.2f}", _format(row["change"], "+.2f"))
        for row in worst.to_dict("records")
    ]
    title = (
        f"{analysis.row.spec}, mean over {plural(len(analysis.seeds), 'seed')}: the classes with the lowest accuracy"
    )
    _print_table(title, ("class", "images", "top-1 %", "Δ first row"), rows)


def _print_confusions(analysis: "ErrorAnalysis") -> None:
    from ablation.analysis.errors import most_frequent_confusions

    if analysis.confusion is None:
        print_line("no confusion matrix: the predictions of these runs were not kept")
        return
    rows = [
        (printable(row["class"]), printable(row["taken_for"]), f"{row['percent']:.1f}")
        for row in most_frequent_confusions(analysis, MAX_ROWS_PRINTED).to_dict("records")
    ]
    _print_table("the most frequent confusions", ("class", "taken for", "% of its images"), rows)
    if analysis.seeds_without_predictions:
        seeds = ", ".join(map(str, analysis.seeds_without_predictions))
        print_line(f"the confusion matrix excludes seeds {seeds}: their predictions were not kept")


def _print_duplicates(duplicates: DuplicateReport) -> None:
    found, accuracies = duplicates.found, duplicates.accuracies
    rows = [
        (row["step"], str(row["n"]), *(_format(row[name], ".2f") for name in list(accuracies.columns)[2:]))
        for row in accuracies.to_dict("records")
    ]
    percent = 100 * len(found.found) / found.test_images
    title = (
        f"{len(found.found)} of {found.test_images} test images ({percent:.1f}%) are near-duplicates of training images"
    )
    _print_table(title, ("step", "n", "top-1 %", "without them", "on them alone"), rows)
    print_line("near-duplicates are found by comparing pixels: small images, such as digits, often look alike")


def _format(value: float, spec: str) -> str:
    return "" if isnan(value) else f"{value:{spec}}"


def _print_table(title: str, columns: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text  # does not interpret names as markup or emoji

    print_line(title)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for index, name in enumerate(columns):
        is_text = index == 0 or name == "taken for"
        table.add_column(name, justify="left" if is_text else "right", overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    new_console().print(table)
