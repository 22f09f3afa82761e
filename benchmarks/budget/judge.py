"""Judge the hours of models: decide whether they are measured or predicted, and compare them with the budget."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import inf

from benchmarks.budget.prediction import add_prediction
from benchmarks.budget.profile import DeviceProfile, budget_profile
from benchmarks.budget.timing import TimedTraining
from benchmarks.budget.verdict import Verdict
from benchmarks.definition.benchmark import Benchmark
from benchmarks.execution.device import device_name
from benchmarks.execution.progress import Report

Timer = Callable[[Sequence[Verdict], Sequence[TimedTraining]], list[Verdict]]  # adds the hours on the device at hand


def judge_hours(
    verdicts: Sequence[Verdict],
    trainings: Sequence[TimedTraining],
    profile: DeviceProfile | None,
    timer: Timer | None,
    trained_here: bool = False,
) -> list[Verdict]:
    """Add hours to verdicts on the cost, and compare them with the budget.

    Hours on the device of the profile are predicted, unless it is the device at hand and the models are timed. Hours
    that are measured on another device become the local hours of the verdicts, on which there is no limit.

    Args:
        verdicts: The verdicts on the cost. If one of them is negative, no hours are added.
        trainings: The training runs of the models.
        profile: Profile of the device that the budget names; None if it names none.
        timer: Times the models; None if they are not timed.
        trained_here: Whether the runs will use the device at hand. A run that it cannot hold is then over the budget.
    """
    if not all(verdict.passed and not verdict.unjudged for verdict in verdicts):
        return list(verdicts)
    if profile is None or (timer and profile.device == verdicts[0].device):
        return timer(verdicts, trainings) if timer else list(verdicts)
    if timer:
        unlimited = [replace(training, benchmark=_without_hours_limit(training.benchmark)) for training in trainings]
        verdicts = [_as_local(timed, trained_here) for timed in timer(verdicts, unlimited)]
    return [add_prediction(*pair, profile) for pair in zip(verdicts, trainings, strict=True)]


def _without_hours_limit(benchmark: Benchmark) -> Benchmark:
    """Return the benchmark for timing on a device that its limit on the hours is not about."""
    return replace(benchmark, budget=replace(benchmark.budget, max_hours=inf))


def _as_local(timed: Verdict, trained_here: bool) -> Verdict:
    """Make the measured hours local. A problem of the device at hand, such as too little memory, may be only a note."""
    timed = replace(timed, local_hours=timed.hours, local_device=timed.device, hours=None)
    if trained_here:
        return timed
    notes = tuple(f"not timed on {timed.device}: {problem}" for problem in timed.problems)
    return replace(timed, problems=(), notes=(*timed.notes, *notes))


def find_other_device(report: Report, benchmark: Benchmark, device: str) -> DeviceProfile | None:
    """Return the profile of the device that a budget names; None if it names none, or the device at hand.

    Args:
        report: Unused.
        benchmark: The benchmark, whose budget may name a device.
        device: The device at hand: "cpu", "cuda", "cuda:1"...

    Raises:
        InputError: If there is no such profile.
    """
    profile = budget_profile(benchmark.budget)
    return None if profile is not None and profile.device == device_name(device) else profile
