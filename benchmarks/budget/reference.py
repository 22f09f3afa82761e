"""Budgets that name a device: hours are judged by the profile of that device, and measured on the device at hand."""

from collections.abc import Sequence
from dataclasses import replace
from math import inf

from benchmarks.budget.build_errors import explaining_errors
from benchmarks.budget.builders import config_builder
from benchmarks.budget.counting import check_cost
from benchmarks.budget.prediction import add_prediction
from benchmarks.budget.profile import DeviceProfile, budget_profile
from benchmarks.budget.timing import TimedTraining, add_timing
from benchmarks.budget.verdict import Verdict
from benchmarks.definition.benchmark import Benchmark
from benchmarks.definition.config_parser import read_run_config
from benchmarks.execution.device import device_name
from benchmarks.execution.progress import Progress, Report


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
    return _predict(local, training, profile)


def _predict(verdict: Verdict, training: TimedTraining, profile: DeviceProfile) -> Verdict:
    verdict = add_prediction(verdict, training.builder, training.benchmark, profile, training.image_counts)
    if training.has_teacher:
        verdict = replace(verdict, notes=(*verdict.notes, "the predicted hours do not include the teacher"))
    return verdict


def check_on_reference(verdict: Verdict, training: TimedTraining, profile: DeviceProfile) -> Verdict:
    """Time a model here, and judge its hours on the device of a profile. See `judge_on_reference`."""
    timed = add_timing(verdict, replace(training, benchmark=without_hours_limit(training.benchmark)))
    notes = tuple(f"not timed on {timed.device}: {problem}" for problem in timed.problems)  # such as too little memory
    return judge_on_reference(replace(timed, problems=(), notes=(*timed.notes, *notes)), training, profile)


def find_reference(report: Report, benchmark: Benchmark, device: str) -> DeviceProfile | None:
    """Call `reference_profile` in a worker process. `report` is unused."""
    return reference_profile(benchmark, device)


def predict_specs(
    report: Report, specs: Sequence[str], benchmark: Benchmark, image_counts: tuple[int, int]
) -> list[Verdict]:
    """Check several specs with the hours on the device of the budget, all predicted from its profile.

    Args:
        report: Called with progress updates.
        specs: The specs; the verdicts are in the same order.
        benchmark: Images, recipe and budget, which names a device.
        image_counts: Numbers of training and evaluation images.

    Raises:
        InputError: If a spec is not valid, a model cannot take the images, or the code of a plugin fails.
    """
    profile = budget_profile(benchmark.budget)
    assert profile is not None
    verdicts: list[Verdict] = []
    for spec in specs:
        report(Progress("predicting hours", len(verdicts), len(specs), spec))
        config = read_run_config(spec, benchmark.baseline)
        with explaining_errors(spec, config.architecture, benchmark):
            verdict = check_cost(spec, config_builder(config, benchmark), benchmark, "cpu")
        if verdict.passed and not verdict.unjudged:
            verdict = _predict(verdict, TimedTraining.of(config, benchmark, "cpu", image_counts), profile)
        verdicts.append(verdict)
    return verdicts
