"""Budgets that name a device: hours are judged by the profile of that device, and measured on the device at hand."""

from dataclasses import replace
from math import inf

from benchmarks.budget.prediction import add_prediction
from benchmarks.budget.profile import DeviceProfile, budget_profile
from benchmarks.budget.timing import TimedTraining, add_timing
from benchmarks.budget.verdict import Verdict
from benchmarks.definition.benchmark import Benchmark
from benchmarks.execution.device import device_name


def reference_profile(benchmark: Benchmark, device: str) -> DeviceProfile | None:
    """Return the profile of the device that a budget names; None if it names none, or the device at hand.

    Raises:
        InputError: If there is no such profile.
    """
    profile = budget_profile(benchmark.budget)
    return None if profile is not None and profile.device == device_name(device) else profile


def without_hours_limit(benchmark: Benchmark) -> Benchmark:
    """Return the benchmark for timing on a device that its limit on the hours is not about."""
    return replace(benchmark, budget=replace(benchmark.budget, max_hours=inf))


def judge_on_reference(timed: Verdict, training: TimedTraining, profile: DeviceProfile) -> Verdict:
    """Judge the hours on the device of a profile. Those of the device at hand become the local hours of the verdict.

    Args:
        timed: The verdict with the hours on the device at hand, on which there is no limit.
        training: The training run, with the limit.
        profile: Profile of the device that the budget names.
    """
    local = replace(
        timed, local_hours=timed.hours, local_device=timed.device, hours=None, budget=training.benchmark.budget
    )
    verdict = add_prediction(local, training.builder, training.benchmark, profile, training.image_counts)
    if training.has_teacher:
        verdict = replace(verdict, notes=(*verdict.notes, "the predicted hours do not include the teacher"))
    return verdict


def check_on_reference(verdict: Verdict, training: TimedTraining, profile: DeviceProfile) -> Verdict:
    """Time a model here, and judge its hours on the device of a profile. See `judge_on_reference`."""
    timed = add_timing(verdict, replace(training, benchmark=without_hours_limit(training.benchmark)))
    notes = tuple(f"not timed on {timed.device}: {problem}" for problem in timed.problems)  # such as too little memory
    return judge_on_reference(replace(timed, problems=(), notes=(*timed.notes, *notes)), training, profile)
