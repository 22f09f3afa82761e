"""The records of one plan under one benchmark id."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from ablation.plans.plan import Plan, parse_plan
from ablation.plans.pretrained import with_pretrained
from ablation.plans.row import Row
from arch.errors import InputError
from arch.variant import Variant
from benchmarks.definition.benchmark import Benchmark
from benchmarks.definition.registry import get_benchmark
from benchmarks.records.selection import recorded_benchmark, records_of_one_benchmark
from benchmarks.records.store import FailedRun, RecordStore, RunRecord

MAX_SPECS_IN_MESSAGE = 12


@dataclass(frozen=True)
class RecordedPlan:
    """A plan and the records of its benchmark id.

    Attributes:
        plan: The plan.
        benchmark: The benchmark under which the runs were trained.
        benchmark_id: The id that all records share.
        records: All records of this benchmark id, including those of other plans.
        failed_runs: The failed runs of these rows that have not succeeded since.
        out: The folder that contains the records.
        seeds: If set, `records` and `failed_runs` contain seeds 0 to `seeds - 1` only.
    """

    plan: Plan
    benchmark: Benchmark
    benchmark_id: str
    records: Sequence[RunRecord]
    failed_runs: Sequence[FailedRun]
    out: Path
    seeds: int | None = None

    @property
    def rows(self) -> Sequence[Row]:
        """The rows of the plan."""
        return self.plan.rows

    def first_seeds(self, seeds: int | None) -> "RecordedPlan":
        """Return the plan with the runs of seeds 0 to `seeds - 1` only; None keeps all seeds."""
        if seeds is None:
            return self
        return replace(
            self,
            records=[record for record in self.records if record.seed < seeds],
            failed_runs=[run for run in self.failed_runs if run.seed < seeds],
            seeds=seeds,
        )

    def runs(self, row: Row) -> list[RunRecord]:
        """Return the records of a row, sorted by seed."""
        return self._runs_by_key.get(row.key, [])

    def accuracies(self, row: Row) -> dict[int, float]:
        """Return the top-1 accuracy of each seed of a row, in percent."""
        return {run.seed: run.top1 for run in self.runs(row)}

    @cached_property
    def _runs_by_key(self) -> dict[str, list[RunRecord]]:
        by_seed: dict[str, dict[int, RunRecord]] = {row.key: {} for row in self.rows}
        for record in self.records:
            if record.key in by_seed:
                by_seed[record.key][record.seed] = record
        return {key: [runs[seed] for seed in sorted(runs)] for key, runs in by_seed.items()}


@dataclass(frozen=True)
class RecordQuery:
    """Selects the records of one plan.

    If `plan` or `benchmark` is None, that of the most recent record is used. Other fields that are None match all
    records.
    """

    plan: str | None = None
    benchmark: str | None = None  # name or TOML file
    benchmark_id: str | None = None
    data: Path | None = None  # image folder
    device: str | None = None


def collect(store: RecordStore, plan: Plan, benchmark: Benchmark, benchmark_id: str) -> RecordedPlan:
    """Return the records of a plan under one benchmark id."""
    records = [record for record in store.records() if record.benchmark_id == benchmark_id]
    return _recorded_plan(store, plan, benchmark, records, benchmark_id)


def find(store: RecordStore, query: RecordQuery, curves: bool = False) -> RecordedPlan:
    """Return the records that a query selects.

    Args:
        store: The record store to search.
        query: The plan, benchmark, images and device to select.
        curves: Whether to read learning curves and architectures, which takes several times longer. They are read in
            any case if the notes of the plan's table depend on them.

    Raises:
        InputError: If no records match, or the matching records have several benchmark ids. In the second case the
            message names the fields that differ.
    """
    recorded = _recorded_runs(store, curves)
    benchmark = recorded_benchmark(recorded[-1]) if query.benchmark is None else get_benchmark(query.benchmark)
    fingerprint = None
    if query.data:
        from benchmarks.datasets.prepare import prepare_dataset

        fingerprint = prepare_dataset(benchmark.data, query.data).fingerprint
    records = records_of_one_benchmark(recorded, benchmark.name, query.benchmark_id, fingerprint, query.device)
    benchmark, benchmark_id = recorded_benchmark(records[-1]), records[-1].benchmark_id
    plan = with_pretrained(parse_plan(query.plan or records[-1].plan, benchmark), None)
    if not {row.key for row in plan.rows} & {record.key for record in records}:
        raise InputError(f"no records of {plan} under {benchmark.name}; recorded specs: {_spec_names(records)}")
    if not curves and _notes_need_curves(plan.rows):
        return collect(store, plan, benchmark, benchmark_id)
    return _recorded_plan(store, plan, benchmark, records, benchmark_id)


def unfinished(rows: Sequence[Row], records: Sequence[RunRecord], failed_runs: Sequence[FailedRun]) -> list[FailedRun]:
    """Return the failed runs of these rows that have no record."""
    recorded, keys = {record.run_id for record in records}, {row.key for row in rows}
    return [run for run in failed_runs if run.key in keys and run.run_id not in recorded]


def _recorded_plan(
    store: RecordStore, plan: Plan, benchmark: Benchmark, records: Sequence[RunRecord], benchmark_id: str
) -> RecordedPlan:
    failed_runs = [run for run in store.failed_runs() if run.benchmark_id == benchmark_id]
    failed_runs = unfinished(plan.rows, records, failed_runs)
    return RecordedPlan(plan, benchmark, benchmark_id, records, failed_runs, store.out)


def _recorded_runs(store: RecordStore, curves: bool) -> list[RunRecord]:
    """Return all records of the test split. Raises InputError if there are none."""
    records = [record for record in store.records(curves) if record.definition.get("split") != "val"]
    if records:
        return records
    if failed_runs := store.failed_runs():
        last = failed_runs[-1]
        raise InputError(
            f"no finished runs in {store.out}; {len(failed_runs)} failed, the last ({last.spec}) with {last.reason!r}"
        )
    raise InputError(f"no records in {store.out}; create some with `ablate run`, or select another folder with --out")


def _spec_names(records: Sequence[RunRecord]) -> str:
    specs = list(dict.fromkeys(record.spec for record in records))
    more = f" and {len(specs) - MAX_SPECS_IN_MESSAGE} more" if len(specs) > MAX_SPECS_IN_MESSAGE else ""
    return ", ".join(specs[:MAX_SPECS_IN_MESSAGE]) + more


def _notes_need_curves(rows: Sequence[Row]) -> bool:
    """Return whether a table has notes on convergence (data-size studies) or on depth."""
    return len({row.overrides.data_fraction for row in rows}) > 1 or compares_depths(rows)


def compares_depths(rows: Sequence[Row]) -> bool:
    """Return whether some row is compared with a row whose stages differ, so that their depths may differ."""
    pairs = [(row, rows[row.against[0][0]]) for row in rows if len(row.against) == 1]
    return any(_stages(row) != _stages(other) for row, other in pairs)


def _stages(row: Row) -> object:
    architecture = row.config.architecture
    return (architecture.depths, architecture.block) if isinstance(architecture, Variant) else architecture
