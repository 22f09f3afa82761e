"""The list of the runs in output folders: rows by benchmark id and plan, and runs that are unfinished or failed."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from itertools import groupby
from typing import Any

import numpy as np

from ablation.plans.recorded_rows import UnreadableConfig, read_config
from benchmarks.records.folders import RecordFolders
from benchmarks.records.store import FailedRun, RunRecord
from benchmarks.records.unfinished import UnfinishedRun, unfinished_runs


@dataclass(frozen=True)
class RowSummary:
    """The runs of one row.

    Attributes:
        spec: The spec.
        seeds: The recorded seeds.
        top1_mean: Mean top-1 over the seeds, in percent.
        top1_std: Sample standard deviation; None for one seed.
        last: The time at which the last run finished, UTC, ISO 8601.
        plugins: The plugins that the row depends on, and their versions.
        note: Why the spec cannot be read by this version; "" if it can, or if it depends on plugins.
    """

    spec: str
    seeds: tuple[int, ...]
    top1_mean: float
    top1_std: float | None
    last: str
    plugins: dict[str, str]
    note: str


@dataclass(frozen=True)
class PlanRuns:
    """The rows that were recorded as part of one plan under one benchmark id."""

    benchmark: str
    benchmark_id: str
    device: str
    split: str
    plan: str
    rows: tuple[RowSummary, ...]


@dataclass(frozen=True)
class RunList:
    """What output folders contain. Failed runs are those that have not succeeded since."""

    plans: tuple[PlanRuns, ...]
    unfinished: tuple[UnfinishedRun, ...]
    failed: tuple[FailedRun, ...]
    warnings: tuple[str, ...] = field(default=())

    def to_json(self) -> dict[str, Any]:
        """Return the list as plain data."""
        unfinished = [{**asdict(run), "folder": str(run.folder), "seed": run.seed} for run in self.unfinished]
        failed = [{**asdict(run), "run_id": run.run_id} for run in self.failed]
        plans = [asdict(plan) for plan in self.plans]
        return {"plans": plans, "unfinished": unfinished, "failed": failed, "warnings": list(self.warnings)}


def list_runs(folders: RecordFolders) -> RunList:
    """Return the runs of output folders, in the order in which plans and rows were recorded first."""
    records = folders.records(curves=False)
    recorded = {record.run_id for record in records}
    plans: dict[tuple[str, str, str], list[RunRecord]] = {}
    for record in records:
        plans.setdefault((record.benchmark, record.benchmark_id, record.plan), []).append(record)
    failed = [run for run in folders.failed_runs() if run.run_id not in recorded]
    unfinished = [run for out in folders.outs for run in unfinished_runs(out) if run.run_id not in recorded]
    return RunList(
        plans=tuple(map(_plan_runs, plans.values())),
        unfinished=tuple(unfinished),
        failed=tuple(failed),
        warnings=tuple(folders.warnings()),
    )


def _plan_runs(records: Sequence[RunRecord]) -> PlanRuns:
    by_key: dict[str, list[RunRecord]] = {}
    for record in records:
        by_key.setdefault(record.key, []).append(record)
    first = records[0]
    return PlanRuns(
        benchmark=first.benchmark,
        benchmark_id=first.benchmark_id,
        device=str(first.definition.get("device", "")),
        split=str(first.definition.get("split", "test")),
        plan=first.plan,
        rows=tuple(map(_summarize, by_key.values())),
    )


def _summarize(runs: Sequence[RunRecord]) -> RowSummary:
    top1, config = [run.top1 for run in runs], read_config(runs[0])
    return RowSummary(
        spec=runs[0].spec,
        seeds=tuple(sorted(run.seed for run in runs)),
        top1_mean=float(np.mean(top1)),
        top1_std=float(np.std(top1, ddof=1)) if len(top1) > 1 else None,
        last=max(run.finished for run in runs),
        plugins=runs[0].plugins,
        note=config.reason if isinstance(config, UnreadableConfig) and not runs[0].plugins else "",
    )


def format_seeds(seeds: Iterable[int]) -> str:
    """Return seeds as ranges, such as `0-5, 7`."""
    ranges = []
    for _, pairs in groupby(enumerate(sorted(set(seeds))), key=lambda pair: pair[1] - pair[0]):
        numbers = [seed for _, seed in pairs]
        ranges.append(str(numbers[0]) if len(numbers) == 1 else f"{numbers[0]}-{numbers[-1]}")
    return ", ".join(ranges)
