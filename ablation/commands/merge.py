"""`ablate merge`: combine output folders, for example those of several computers."""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from arch.errors import InputError
from arch.text import plural
from benchmarks.cli.app import print_line
from benchmarks.cli.options import JsonOption
from benchmarks.definition.names import check_path
from benchmarks.records.paths import check_has_records


def merge(
    folders: Annotated[list[Path], typer.Argument(metavar="FOLDER...", help="Output folders of `ablate` or `search`.")],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="DIR",
            help="Folder to write to  [default: the first FOLDER]",
            callback=lambda path: path and check_path("--out", path),
        ),
    ] = None,
    as_json: JsonOption = False,
) -> int:
    """Add the records, weights, predictions, labels and preregistrations of each FOLDER to one folder.

    The others are not changed. A run that several folders contain is added once. If its results differ, the first
    record is kept, with a warning.
    """
    from ablation.analysis.seed_requests import merge_requests
    from ablation.plans.labels import merge_labels, read_names
    from ablation.plans.preregistration_files import merge_preregistrations
    from ablation.plans.stored_plans import merge_plans
    from benchmarks.records.merge import merge as merge_folders
    from benchmarks.records.store import RecordStore

    target = folders[0] if out is None else out
    by_location = {folder.resolve(): folder for folder in reversed(folders)}  # one folder may have several paths
    sources = [folder for location, folder in reversed(by_location.items()) if location != target.resolve()]
    if not sources:
        raise InputError("name two folders to merge, or one folder and another one with --out")
    for folder in folders:
        check_has_records(folder)
    read_names([target, *sources])  # raises an error before anything is written
    store = RecordStore(target)
    store.create()
    with store.lock():
        result = merge_folders(sources, store)
        merge_labels(target, sources)
        merge_plans(sources, target)
        merge_requests(sources, target)
        warnings = merge_preregistrations(sources, target)
    for warning in [*result.warnings, *warnings]:
        print(f"warning: {warning}", file=sys.stderr)
    if as_json:
        print(json.dumps({"out": str(target), **asdict(result)}, indent=2))
    else:
        print_line(
            f"{target}: added {plural(result.records, 'record')}, {plural(result.failed_runs, 'failed run')} and "
            f"{plural(result.files, 'file')}; already there: {plural(result.known, 'record')}"
        )
    return 0
