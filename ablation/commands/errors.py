"""`ablate errors`."""

import json
from collections.abc import Sequence
from math import isnan
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ablation.commands.options import IdOption, RecordedBenchmark, RecordedSeeds, RecordedSpec, find_recorded
from arch.errors import InputError
from arch.text import printable
from benchmarks.cli.options import DEFAULT_OUT, DataOption, DeviceOption, JsonOption, OutOption, new_console, say

if TYPE_CHECKING:
    import pandas as pd

    from ablation.analysis.errors import ErrorAnalysis
    from benchmarks.datasets.near_duplicates import NearDuplicates

WORST = 10  # classes and confusions that are printed; the files have all


def errors(
    spec: RecordedSpec = None,
    duplicates: Annotated[
        bool, typer.Option("--near-duplicates", help="Tell the accuracy without test images that training has too.")
    ] = False,
    benchmark: RecordedBenchmark = None,
    benchmark_id: IdOption = None,
    data: DataOption = None,
    seeds: RecordedSeeds = None,
    out: OutOption = DEFAULT_OUT,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
) -> int:
    """Tell where the last row of PLAN errs: by class, and what is taken for what; trains nothing."""
    import numpy as np

    from ablation.analysis.errors import analyse, find_duplicates, without
    from ablation.analysis.records import RecordQuery
    from ablation.report.table_output import stem_of
    from benchmarks.datasets.cache import prepare
    from benchmarks.execution.device import resolve_device
    from benchmarks.execution.progress import Display

    recorded = find_recorded(out, RecordQuery(spec, benchmark, benchmark_id))
    results = [result for result in recorded.results if seeds is None or result.seed < seeds]
    definition = recorded.benchmark.data
    with Display() as display:
        images = prepare(definition, data, report=display)
        if images.fingerprint != recorded.results[-1].definition["data"].get("fingerprint"):
            raise InputError("these are other images than the records': --data names the folder of those")
        labels = np.asarray(images.load(definition, "test")[1].labels)
        found = None
        if duplicates:
            found = find_duplicates(images, definition, len(labels), resolve_device(device), out, display)
    try:
        errors = analyse(recorded.rows, results, labels, out)
    except ValueError as error:
        raise InputError(f"{recorded.plan}: {error} among seeds 0 to {(seeds or 1) - 1}") from error
    doubles = [one.test for one in found.found] if found else []
    table = without(recorded.rows, results, labels, doubles, out) if found else None
    stem = stem_of(recorded, out)
    files = _write(errors, stem.with_name(stem.name + "_errors"))
    if as_json:
        print(json.dumps(_content(errors, found, table, files), indent=2))
    else:
        last = [row for row in recorded.rows if row.kind == "step"][-1]
        if errors.row != last:
            say(f"{last.spec} has no result: this is of {errors.row.spec}, the last row that has one")
        _print(errors, found, table, files)
    return 0


def _content(
    errors: "ErrorAnalysis", found: "NearDuplicates | None", table: "pd.DataFrame | None", files: list[str]
) -> dict[str, Any]:
    from ablation.analysis.errors import confusions

    doubles = None
    if found is not None and table is not None:
        rows = json.loads(table.to_json(orient="records"))
        doubles = {"found": len(found.found), "test_images": found.test_images, "rows": rows}
    return {
        "spec": errors.row.spec,
        "seeds": errors.seeds,
        "seeds_without_predictions": errors.lacking,
        "per_class": json.loads(errors.per_class.to_json(orient="records")),
        "confusions": None
        if errors.confusion is None
        else json.loads(confusions(errors, WORST).to_json(orient="records")),
        "near_duplicates": doubles,
        "files": files,
    }


def _write(errors: "ErrorAnalysis", stem: Any) -> list[str]:
    """All classes and the whole matrix as CSV, and the matrix as a picture."""
    from ablation.analysis.table_formats import guarded
    from ablation.report.confusion_matrix import plot_confusion
    from benchmarks.records.atomic_write import replace_file

    names = [guarded(name) for name in errors.per_class["class"]]
    csv, matrix, picture = (stem.with_name(stem.name + end) for end in (".csv", "_confusion.csv", "_confusion.png"))
    try:
        table = errors.per_class.assign(**{"class": names}).round(4)
        replace_file(csv, lambda file: file.write_bytes(_csv(table.set_index("class"))))
        matrix_of_counts = errors.confusion
        if matrix_of_counts is None:
            return [str(csv)]
        import pandas as pd

        counts = pd.DataFrame(matrix_of_counts, index=names, columns=names)
        replace_file(matrix, lambda file: file.write_bytes(_csv(counts)))
        title = f"{errors.row.spec}, {len(errors.seeds) - len(errors.lacking)} seed(s)"
        replace_file(
            picture, lambda file: plot_confusion(matrix_of_counts, list(errors.per_class["class"]), title, file)
        )
    except OSError as error:
        raise InputError(f"cannot write to {stem.parent}: {error.strerror or error}") from error
    return [str(csv), str(matrix), str(picture)]


def _csv(frame: "pd.DataFrame") -> bytes:
    return frame.to_csv(lineterminator="\n").encode()


def _print(
    errors: "ErrorAnalysis", found: "NearDuplicates | None", table: "pd.DataFrame | None", files: list[str]
) -> None:
    from ablation.analysis.errors import confusions

    worst = errors.per_class.sort_values(["top1", "class"]).head(WORST)
    lines = [
        (printable(line["class"]), str(line["images"]), f"{line['top1']:.2f}", _number(line["change"], "+.2f"))
        for line in worst.to_dict("records")
    ]
    title = f"{errors.row.spec}, mean over {len(errors.seeds)} seed(s): the classes that it knows least"
    _table(title, ("class", "images", "top-1 %", "Δ first row"), lines)
    if errors.confusion is None:
        say("no predictions are kept of these runs, so that there is no confusion matrix")
    else:
        pairs = [
            (printable(line["class"]), printable(line["taken_for"]), f"{line['percent']:.1f}")
            for line in confusions(errors, WORST).to_dict("records")
        ]
        _table("what is taken for what", ("class", "taken for", "% of its images"), pairs)
    if errors.lacking and errors.confusion is not None:
        say(f"no predictions are kept of seeds {', '.join(map(str, errors.lacking))}: left out of the matrix")
    if found is not None and table is not None:
        share = 100 * len(found.found) / found.test_images
        rows = [
            (line["step"], str(line["n"]), *(_number(line[name], ".2f") for name in list(table.columns)[2:]))
            for line in table.to_dict("records")
        ]
        words = f"{len(found.found)} of {found.test_images} test images ({share:.1f}%) are near-duplicates"
        _table(f"{words} of training images", ("step", "n", "top-1 %", "without them", "on them alone"), rows)
        say("found by pixels: things that look alike are among them, which most tiny images do, such as digits")
    say("written: " + ", ".join(files))


def _number(value: float, form: str) -> str:
    return "" if isnan(value) else f"{value:{form}}"


def _table(title: str, columns: tuple[str, ...], lines: Sequence[tuple[str, ...]]) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text  # as which a name is no markup and no emoji

    say(title)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for place, name in enumerate(columns):
        table.add_column(name, justify="left" if place == 0 or name == "taken for" else "right", overflow="fold")
    for line in lines:
        table.add_row(*map(Text, line))
    new_console().print(table)
