"""Select the runs of a row by its spec or its label."""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from ablation.plans.labels import name_rows, named_by
from ablation.plans.plan import parse_plan
from ablation.plans.pretrained import with_pretrained
from arch.errors import InputError
from benchmarks.definition.config_parser import read_run_config
from benchmarks.records.paths import RUN_FILE_KINDS, RunName, checkpoint_folder, run_file
from benchmarks.records.selection import complete_id, recorded_benchmark
from benchmarks.records.store import FailedRun, RecordStore, RunRecord
from benchmarks.records.unfinished import UnfinishedRun, unfinished_runs

MAX_SPECS_IN_MESSAGE = 12

AnyRun = RunRecord | FailedRun | UnfinishedRun
Run = TypeVar("Run", bound=AnyRun)


@dataclass(frozen=True)
class RunQuery:
    """Selects runs of one benchmark id. Fields that are None match all runs.

    Attributes:
        row: The row's spec, in any spelling, or its label in the table of a recorded plan.
        benchmark_id: The benchmark id or its first characters.
        seed: The seed.
    """

    row: str | None = None
    benchmark_id: str | None = None
    seed: int | None = None


def all_runs(store: RecordStore) -> list[AnyRun]:
    """Return every run of a folder once: recorded, unfinished or failed."""
    runs: list[AnyRun] = [*store.failed_runs(), *unfinished_runs(store.out), *store.records(curves=False)]
    return list({run.run_id: run for run in runs}.values())


def select_runs(runs: Sequence[Run], query: RunQuery, out: Path) -> list[Run]:
    """Return the runs that a query selects, sorted by seed.

    Args:
        runs: The runs to select from.
        query: What to select.
        out: The folder of the runs, which contains the labels of rows.

    Raises:
        InputError: If no run matches, the row names several configs, or the runs have several benchmark ids.
    """
    selected = list(runs)
    if query.benchmark_id is not None:
        benchmark_id = complete_id(query.benchmark_id, {run.benchmark_id for run in runs})
        selected = [run for run in selected if run.benchmark_id == benchmark_id]
    if query.row is not None:
        keys = _keys(query.row, selected, out)
        selected = [run for run in selected if run.key in keys]
    if query.seed is not None:
        selected = [run for run in selected if run.seed == query.seed]
    if not selected:
        raise InputError(f"no runs {_describe(query)}in {out}; the rows are {_specs(runs) or 'none'}")
    if len(ids := sorted({run.benchmark_id for run in selected})) > 1:
        raise InputError(f"{query.row} has runs of several benchmark ids ({', '.join(ids)}): select one with --id")
    return sorted(selected, key=lambda run: run.seed)


def _keys(word: str, runs: Sequence[AnyRun], out: Path) -> set[str]:
    """Return the key of the row that a word names; empty if there is none. A spec precedes a label."""
    records = [run for run in runs if isinstance(run, RunRecord)]
    keys = {run.key for run in runs if run.spec == word}
    baselines: list[str | None] = [*dict.fromkeys(record.baseline for record in records)]
    for baseline in baselines or [None]:
        with suppress(InputError):
            keys.add(read_run_config(word, baseline).key)
    keys = {run.key for run in runs if run.key in keys} or _labeled_keys(word, records, out)
    if len(keys) > 1:
        raise InputError(f"{word!r} names several rows: {_specs([run for run in runs if run.key in keys])}")
    return keys


def _labeled_keys(word: str, records: Iterable[RunRecord], out: Path) -> set[str]:
    """Return the keys of the rows of recorded plans that have this label."""
    keys = set[str]()
    for record in {(record.plan, record.benchmark_id): record for record in records}.values():
        with suppress(InputError):
            plan = with_pretrained(parse_plan(record.plan, recorded_benchmark(record)), None)
            pairs = zip(plan.rows, name_rows(plan, [out]).rows, strict=True)
            keys |= {row.key for row, shown in pairs if named_by(word, row, shown)}
    return keys


def _describe(query: RunQuery) -> str:
    parts = (
        "" if query.row is None else f"of {query.row!r} ",
        "" if query.benchmark_id is None else f"with the benchmark id {query.benchmark_id} ",
        "" if query.seed is None else f"with seed {query.seed} ",
    )
    return "".join(parts)


def _specs(runs: Iterable[AnyRun]) -> str:
    specs = list(dict.fromkeys(run.spec for run in runs if run.spec))
    more = f" and {len(specs) - MAX_SPECS_IN_MESSAGE} more" if len(specs) > MAX_SPECS_IN_MESSAGE else ""
    return ", ".join(specs[:MAX_SPECS_IN_MESSAGE]) + more


def files_of(run: AnyRun, out: Path) -> list[Path]:
    """Return the existing weights and predictions files of a run, and the folder of its checkpoints."""
    name = run.name if isinstance(run, RunRecord) else RunName("", run.benchmark_id, run.spec, run.key, run.seed)
    paths = [*(run_file(out, kind, name) for kind in RUN_FILE_KINDS), checkpoint_folder(out, run.run_id)]
    return [path for path in paths if path.exists()]
