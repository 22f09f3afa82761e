"""The budget check: whether a model, or each of several specs, is within the budget of a benchmark."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from arch.errors import InputError
from arch.spec import Architecture
from arch.timm_model import TimmModel
from benchmarks.budget.advice import add_advice
from benchmarks.budget.build_errors import explaining_errors
from benchmarks.budget.builders import Builder, config_builder
from benchmarks.budget.cost import countable_attention
from benchmarks.budget.counting import check_cost, cost_verdict
from benchmarks.budget.hours import add_throughput, without_hours
from benchmarks.budget.inference import add_inference
from benchmarks.budget.judge import Timer, judge_hours
from benchmarks.budget.layers import add_layers
from benchmarks.budget.measurement import Measurement
from benchmarks.budget.profile import budget_profile
from benchmarks.budget.request import CheckRequest
from benchmarks.budget.timing import (
    TimedTraining,
    add_timing,
    hours_by_architecture,
    modes_to_try,
    try_modes,
    with_failures,
)
from benchmarks.budget.verdict import Verdict
from benchmarks.definition.benchmark import Benchmark
from benchmarks.definition.config_parser import read_run_config
from benchmarks.definition.recipe import Recipe
from benchmarks.execution.progress import Progress, Report, silent
from benchmarks.training.compile_mode import uses_compiler
from benchmarks.training.optimizer import check_optimizer


def check(
    request: CheckRequest, builder: Builder, report: Report = silent, architecture: Architecture | None = None
) -> Verdict:
    """Check the model that `builder` returns.

    Parameters and MACs are counted first. A model with too many parameters is not timed. As before an `ablate run`, an
    architecture is also timed with CUDA graphs on a GPU, and compiled if it is over its hours otherwise.

    Args:
        request: The benchmark and device to check for; `request.model` is a description of the model.
        builder: Builds the model. It is called several times, the first time on the meta device.
        report: Called with progress updates.
        architecture: What `builder` builds, if it is known. A timm model may resize the images.

    Raises:
        InputError: If the recipe's optimizer is not valid, or the architecture is a timm model that cannot take the
            images of the benchmark.
    """
    counted = _check_cost(request, builder, report, architecture)
    verdict = _check_hours(counted, request, _SingleTimer(request, report, architecture is not None), builder)
    if not request.inference_batch:
        return verdict
    report(Progress("timing inference", 1, 2, request.model))
    return add_inference(verdict, builder, request)


def _check_cost(request: CheckRequest, builder: Builder, report: Report, architecture: Architecture | None) -> Verdict:
    """Check the cost. See `check` for the arguments."""
    benchmark = request.benchmark
    check_optimizer(benchmark.recipe)
    report(Progress("counting parameters and MACs", 0, 2, request.model))
    with explaining_errors(request.model, architecture, benchmark):
        verdict = check_cost(request.model, builder, benchmark, request.device)
    if isinstance(architecture, TimmModel) and architecture.input_size:
        verdict = replace(verdict, image_size=architecture.input_size)
    if request.layers:
        with countable_attention():
            verdict = add_layers(verdict, builder, benchmark.data.input_shape)
    return verdict


def _check_hours(counted: Verdict, request: CheckRequest, timer: Timer, builder: Builder) -> Verdict:
    """Add the hours to a verdict on the cost."""
    benchmark, mode = request.benchmark, request.hours
    if request.image_counts is None:
        is_missing = mode == "optional" and benchmark.budget.device is not None
        return without_hours(counted, "the number of images is unknown; add --data", mode) if is_missing else counted
    profile = request.profile or budget_profile(benchmark.budget)
    training = TimedTraining(builder, benchmark, request.device, request.image_counts)
    [verdict] = judge_hours([counted], [training], profile, timer if mode == "measured" else None)
    if mode == "optional" and verdict.unjudged != counted.unjudged:
        return without_hours(replace(verdict, unjudged=counted.unjudged), verdict.unjudged, mode)
    return verdict


@dataclass(frozen=True)
class _SingleTimer:
    """Times one model in eager mode, and in faster modes if its architecture is known. A `Timer`."""

    request: CheckRequest
    report: Report
    tries_modes: bool

    def __call__(self, verdicts: Sequence[Verdict], trainings: Sequence[TimedTraining]) -> list[Verdict]:
        [verdict], [training] = verdicts, trainings
        self.report(Progress("timing a few training steps", 1, 2, self.request.model))
        eager = add_timing(verdict, training)
        hours = eager.hours.predicted if eager.hours else 0.0
        modes = modes_to_try(eager, training, hours) if self.tries_modes else ()
        if eager.passed:
            modes = tuple(mode for mode in modes if not uses_compiler(mode))
        if not modes:
            return [eager]
        self.report(Progress("trying compile modes", 1, 2, self.request.model))
        return [try_modes(verdict, eager, training, modes)[0]]


def check_recipe(report: Report, recipe: Recipe) -> None:
    """Raise InputError if the optimizer of a recipe does not exist or rejects its options. `report` is unused."""
    check_optimizer(recipe)


def check_specs(
    report: Report, specs: Mapping[str, int], benchmark: Benchmark, device: str | None, image_counts: tuple[int, int]
) -> list[Verdict]:
    """Check several specs. They are timed only if none of them has too many parameters.

    Cached measurements from this device are reused, except those that were too slow.

    Args:
        report: Called with progress updates.
        specs: The number of runs to come of each spec; the verdicts are in the same order.
        benchmark: Images, recipe and budget.
        device: "cpu", "cuda", "cuda:1"..., on which the runs will be trained. None times nothing: hours are those on
            the device that the budget names.
        image_counts: Numbers of training and evaluation images.

    Raises:
        InputError: If a spec or the recipe's optimizer is not valid, a model cannot take the images of the benchmark
            or does not return one logit per class, or the code of a plugin fails.
    """
    check_optimizer(benchmark.recipe)
    at_hand = device or "cpu"
    configs = [read_run_config(spec, benchmark.baseline) for spec in specs]
    measurements = [Measurement.read(config, benchmark, at_hand) for config in configs]
    verdicts: list[Verdict] = []
    for spec, config, measurement in zip(specs, configs, measurements, strict=True):
        report(Progress("counting parameters and MACs", len(verdicts), len(specs), spec))
        if measurement.cost is None:
            with explaining_errors(spec, config.architecture, benchmark):
                verdicts.append(check_cost(spec, config_builder(config, benchmark), benchmark, at_hand))
            measurement.cost = verdicts[-1].cost
        else:
            verdicts.append(cost_verdict(spec, measurement.cost, benchmark, at_hand))
    for verdict in verdicts:
        if verdict.unjudged:
            raise InputError(f"{verdict.model}: {verdict.unjudged}")
    trainings = [
        replace(TimedTraining.of(config, benchmark, at_hand, image_counts), num_runs=number)
        for config, number in zip(configs, specs.values(), strict=True)
    ]
    timer = partial(_time_specs, report, measurements) if device else None
    verdicts = judge_hours(verdicts, trainings, budget_profile(benchmark.budget), timer, trained_here=True)
    return [add_advice(verdict, verdict.model, benchmark) for verdict in verdicts]


def _time_specs(
    report: Report, measurements: Sequence[Measurement], counted: Sequence[Verdict], timed: Sequence[TimedTraining]
) -> list[Verdict]:
    """Time every model in eager mode first, then in faster modes, and write the fastest measurements to the cache."""
    rows = list(zip(counted, timed, measurements, strict=True))
    verdicts: list[Verdict] = []
    for verdict, training, measurement in rows:
        report(Progress("timing a few training steps", len(verdicts), len(rows), verdict.model))
        verdicts.append(_cached_or_timed(verdict, measurement, training))
    hours = hours_by_architecture(verdicts, timed)
    for number, (verdict, training, measurement) in enumerate(rows):
        best = verdicts[number]
        modes = modes_to_try(best, training, hours[training.architecture], measurement.tried)
        if modes:
            report(Progress("trying compile modes", number, len(rows), verdict.model))
            verdicts[number], errors = try_modes(verdict, best, training, modes)
            measurement.tried = {**measurement.tried, **errors}
        if verdicts[number].throughput != measurement.throughput:
            measurement.throughput, measurement.shared = verdicts[number].throughput, {}
        elif not modes:
            continue
        measurement.write()
    return verdicts


def _cached_or_timed(verdict: Verdict, measurement: Measurement, training: TimedTraining) -> Verdict:
    """Add the cached throughput to the verdict; measure it if there is none, or if it was too slow."""
    if measurement.throughput is not None:
        cached = add_throughput(verdict, measurement.throughput, training.benchmark, training.image_counts)
        if cached.passed:
            return with_failures(cached, measurement.tried)
        measurement.throughput, measurement.tried, measurement.shared = None, {}, {}
    return add_timing(verdict, training)
