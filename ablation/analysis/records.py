"""What is recorded of one plan, under one benchmark id."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ablation.analysis.confounds import may_differ_in_depth
from ablation.analysis.table import unfinished
from ablation.plans.plan import read_plan
from ablation.plans.pretrained import with_pretrained
from ablation.plans.row import Row
from arch.errors import InputError
from benchmarks.definition.benchmark import Benchmark, get_benchmark
from benchmarks.records.store import FailedRun, RecordStore, RunRecord, recorded_benchmark, records_of_one_benchmark

FEW = 12  # recorded specs that a message names


@dataclass(frozen=True)
class RecordedPlan:
    """The rows of a plan; all results of their benchmark id; the failures of these rows that nothing has made good."""

    plan: str
    rows: Sequence[Row]
    benchmark: Benchmark
    benchmark_id: str
    results: Sequence[RunRecord]
    failures: Sequence[FailedRun]


@dataclass(frozen=True)
class RecordQuery:
    """Which records are asked for; None: those of the run that was recorded last."""

    plan: str | None = None
    benchmark: str | None = None  # name or file
    benchmark_id: str | None = None
    data: Path | None = None
    device: str | None = None


def collect(
    store: RecordStore, plan: str, rows: Sequence[Row], benchmark: Benchmark, benchmark_id: str
) -> RecordedPlan:
    """What there is of these rows under this id."""
    results = [result for result in store.results() if result.benchmark_id == benchmark_id]
    failures = [failure for failure in store.failures() if failure.benchmark_id == benchmark_id]
    return RecordedPlan(plan, rows, benchmark, benchmark_id, results, unfinished(rows, results, failures))


def find(store: RecordStore, choice: RecordQuery, curves: bool = False) -> RecordedPlan:
    """The records that are asked for. curves: see `RecordStore.results`.

    Raises InputError where there are none, or those of several ids, with the fields in which these differ.
    """
    from benchmarks.datasets.cache import prepare

    recorded = [result for result in store.results(curves) if result.definition.get("split") != "val"]
    failed = store.failures()
    if not recorded and failed:
        last = failed[-1]
        raise InputError(
            f"no run in {store.out} has a result: {len(failed)} failed, the last ({last.spec}) with {last.reason!r}"
        )
    if not recorded:
        raise InputError(f"no records in {store.out}: ablate run makes them, --out names another folder")
    asked = recorded_benchmark(recorded[-1]) if choice.benchmark is None else get_benchmark(choice.benchmark)
    fingerprint = prepare(asked.data, choice.data).fingerprint if choice.data else None
    results = records_of_one_benchmark(recorded, asked.name, choice.benchmark_id, fingerprint, choice.device)
    benchmark, plan = recorded_benchmark(results[-1]), with_pretrained(choice.plan or results[-1].plan, None)
    rows, benchmark_id = read_plan(plan, benchmark), results[-1].benchmark_id
    if not any(result.key == row.key for result in results for row in rows):
        specs = list(dict.fromkeys(result.spec for result in results))
        more = f" and {len(specs) - FEW} more" if len(specs) > FEW else ""
        raise InputError(f"no records of {plan} under {asked.name}: recorded are {', '.join(specs[:FEW])}{more}")
    failures = [failure for failure in failed if failure.benchmark_id == benchmark_id]
    is_of_data_size = len({row.overrides.fraction for row in rows}) > 1
    if not curves and (is_of_data_size or may_differ_in_depth(rows)):  # what is said of them is in what was left out
        results = [result for result in store.results() if result.benchmark_id == benchmark_id]
    return RecordedPlan(plan, rows, benchmark, benchmark_id, results, unfinished(rows, results, failures))
