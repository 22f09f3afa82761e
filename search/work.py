"""What a search has done in child processes. Loads torch."""

from collections.abc import Callable
from typing import Any

from benchmarks.benchmark import Benchmark
from benchmarks.budget.check import check_specs
from benchmarks.budget.verdict import Verdict
from benchmarks.progress import Report
from benchmarks.results import Result
from benchmarks.run import run
from benchmarks.unit import Unit


def work(report: Report, name: str, *arguments: Any) -> Verdict | Result:
    """One piece of it: a net is timed, or a training run."""
    functions: dict[str, Callable[..., Verdict | Result]] = {"time": time_spec, "train": train_unit}
    return functions[name](report, *arguments)


def time_spec(report: Report, spec: str, benchmark: Benchmark, device: str, counts: tuple[int, int]) -> Verdict:
    """Judges a spec as `ablate run` would."""
    return check_specs(report, [spec], benchmark, device, counts)[0]


def train_unit(report: Report, unit: Unit) -> Result:
    """Trains one unit, from its checkpoint where there is one."""
    return run(report, unit)
