"""Add to a verdict how well training uses the device: its share of the peak throughput, and its energy.

This is done in the parent process, so that the code of a model file cannot change the peak.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from benchmarks.budget.performance import (
    JOULES_PER_WATT_HOUR,
    PeakThroughput,
    TrainingEnergy,
    Utilization,
    device_precision,
    training_flops,
)
from benchmarks.budget.request import CheckRequest
from benchmarks.budget.verdict import Verdict
from benchmarks.definition.recipe import Recipe
from benchmarks.execution.local import LocalExecutor
from benchmarks.execution.progress import Report


@dataclass(frozen=True)
class EfficiencyOptions:
    """What to add to a verdict with a measured throughput.

    Attributes:
        peak: Whether to compare the FLOP/s of training with the device's peak.
        remeasure: Whether to measure the peak even if it is cached.
        energy: Whether to add the energy of training.
    """

    peak: bool = False
    remeasure: bool = False
    energy: bool = False


def prepare_efficiency(
    request: CheckRequest, options: EfficiencyOptions, report: Report
) -> Callable[[Verdict], Verdict]:
    """Measure the device's peak if it is asked for, and return a function that completes verdicts.

    Args:
        request: The device, the benchmark and its numbers of images.
        options: What to add.
        report: Called with progress updates.

    Raises:
        WorkerFailed: If the peak cannot be measured.
    """
    recipe, counts = request.benchmark.recipe, request.image_counts
    peak: PeakThroughput | None = None
    if options.peak:
        precision, function = device_precision(recipe, request.device), "benchmarks.budget.peak:peak_throughput"
        peak = LocalExecutor().call(function, report, request.device, precision, options.remeasure)

    def complete(verdict: Verdict) -> Verdict:
        if peak is not None:
            verdict = add_utilization(verdict, recipe, peak)
        return add_energy(verdict, recipe, counts[0]) if options.energy and counts is not None else verdict

    return complete


def add_utilization(verdict: Verdict, recipe: Recipe, peak: PeakThroughput) -> Verdict:
    """Add the FLOP/s of training and their share of the device's peak, if training was timed and MACs were counted."""
    if verdict.throughput is None or verdict.cost.macs is None:
        return verdict
    flops = training_flops(verdict.cost.macs, verdict.throughput.training.median, recipe.aug_splits)
    share = flops / peak.flops_per_second
    verdict = replace(verdict, utilization=Utilization(flops, share, peak))
    if share <= 1:
        return verdict
    busy = "training is faster than the measured peak: the computer was busy; --remeasure measures the peak again"
    return replace(verdict, notes=(*verdict.notes, busy))


def add_energy(verdict: Verdict, recipe: Recipe, num_train_images: int) -> Verdict:
    """Add the energy of training, or a note that says why it was not measured, if training was timed.

    Args:
        verdict: The verdict.
        recipe: Epochs and batch size.
        num_train_images: Training images of the data set.
    """
    if verdict.throughput is None or verdict.throughput.energy_per_image is None:
        return verdict
    measured = verdict.throughput.energy_per_image
    if measured.joules is None:
        return replace(verdict, notes=(*verdict.notes, f"energy not measured: {measured.problem}"))
    images_seen = recipe.epochs * (num_train_images // recipe.batch_size * recipe.batch_size)
    watt_hours = measured.joules * images_seen / JOULES_PER_WATT_HOUR
    return replace(verdict, energy=TrainingEnergy(measured.joules, watt_hours, measured.source))
