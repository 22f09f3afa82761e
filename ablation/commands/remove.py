"""`ablate remove`: remove runs from an output folder."""

import json
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ablation.commands.options import IdOption, SeedOption
from arch.errors import InputError
from arch.text import plural, printable
from benchmarks.cli.app import print_line
from benchmarks.cli.options import DEFAULT_OUT, JsonOption, OutOption, with_options

if TYPE_CHECKING:
    from ablation.analysis.row_selection import AnyRun
    from benchmarks.records.store import RecordStore


@dataclass(frozen=True)
class RemoveOptions:
    """The options that select the runs."""

    seed: SeedOption = None
    benchmark_id: IdOption = None
    yes: Annotated[bool, typer.Option("--yes", help="Delete files without asking.")] = False
    out: OutOption = DEFAULT_OUT
    as_json: JsonOption = False


@with_options
def remove(
    row: Annotated[
        str | None, typer.Argument(metavar="[ROW]", help="A row: its spec or its label  [default: all rows of --id]")
    ] = None,
    *,
    options: RemoveOptions,
) -> int:
    """Remove the runs of ROW, or all runs with a benchmark id, whether recorded, failed or unfinished.

    Their records are moved to removed_records.jsonl and removed_failed_runs.jsonl in --out; weights, predictions and
    checkpoints are deleted.
    """
    from ablation.analysis.row_selection import RunQuery, all_runs, files_of, select_runs
    from benchmarks.records.store import RecordStore

    if row is None and options.benchmark_id is None:
        raise InputError("name the row to remove, or the benchmark id with --id: see `ablate runs`")
    store = RecordStore(options.out)
    store.require_records()
    with store.lock():
        runs = select_runs(all_runs(store), RunQuery(row, options.benchmark_id, options.seed), store.out)
        files = [file for run in runs for file in files_of(run, store.out)]
        if not _is_confirmed(runs, files, options):
            print_line("nothing was removed")
            return 0
        lines = _remove(store, runs, files)
    if options.as_json:
        names = [{"spec": run.spec, "seed": run.seed, "benchmark_id": run.benchmark_id} for run in runs]
        print(json.dumps({"runs": names, "moved_lines": lines, "deleted": [str(file) for file in files]}, indent=2))
    else:
        moved, deleted = plural(lines, "line"), plural(len(files), "file")
        print_line(f"removed {plural(len(runs), 'run')}: {moved} moved to removed_*.jsonl, {deleted} deleted")
    return 0


def _is_confirmed(runs: Sequence["AnyRun"], files: Sequence[Path], options: RemoveOptions) -> bool:
    """Ask before files are deleted; records are only moved. Raises InputError if nobody can be asked."""
    if options.yes or not files:
        return True
    question = _question(runs, files)
    if not sys.stdin.isatty():
        raise InputError(f"{question} Nothing was removed: confirm with --yes")
    return typer.confirm(question, err=True)


def _question(runs: Sequence["AnyRun"], files: Sequence[Path]) -> str:
    from ablation.analysis.run_list import format_seeds

    seeds: dict[str, list[int]] = {}
    for run in runs:
        seeds.setdefault(f"{run.spec or run.key} ({run.benchmark_id})", []).append(run.seed)
    rows = ", ".join(f"{name} seeds {format_seeds(numbers)}" for name, numbers in seeds.items())
    size = sum(path.stat().st_size for file in files for path in (file, *file.rglob("*")) if path.is_file())
    paths = plural(len(files), "file or checkpoint", "files and checkpoints")
    return printable(f"Remove {rows}, and delete {paths} ({size / 1e6:.1f} MB)?")


def _remove(store: "RecordStore", runs: Sequence["AnyRun"], files: Sequence[Path]) -> int:
    """Move the records, then delete the files. Return the number of moved lines."""
    lines = store.remove({run.run_id for run in runs})
    for file in files:
        if file.is_dir():
            shutil.rmtree(file)
        else:
            file.unlink(missing_ok=True)
    return lines
