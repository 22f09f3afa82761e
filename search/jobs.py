"""What a search has done in child processes. Loads torch."""

from collections.abc import Callable
from typing import Any

from benchmarks.budget.check import check_specs
from benchmarks.budget.verdict import Verdict
from benchmarks.definition.benchmark import Benchmark
from benchmarks.execution.progress import Report
from benchmarks.records.store import RunRecord
from benchmarks.runs.dispatch import execute_run
from benchmarks.runs.run import Run


def work(report: Report, name: str, *arguments: Any) -> Verdict | RunRecord:
    """One piece of it: a net is timed, or a training run."""
    functions: dict[str, Callable[..., Verdict | RunRecord]] = {"time": time_spec, "train": train_unit}
    return functions[name](report, *arguments)


def time_spec(report: Report, spec: str, benchmark: Benchmark, device: str, counts: tuple[int, int]) -> Verdict:
    """Judges a spec as `ablate run` would."""
    return check_specs(report, [spec], benchmark, device, counts)[0]


def train_unit(report: Report, run: Run) -> RunRecord:
    """Trains one run, from its checkpoint where there is one."""
    return execute_run(report, run)
