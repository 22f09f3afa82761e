"""The budget check: whether a model, or each of several specs, is within the budget of a benchmark."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from arch.errors import InputError
from arch.spec import Architecture
from arch.timm_model import TimmModel
from benchmarks.budget.advice import add_advice
from benchmarks.budget.build_errors import explaining_errors
from benchmarks.budget.builders import Builder, config_builder
from benchmarks.budget.cost import countable_attention
from benchmarks.budget.counting import check_cost, cost_verdict
from benchmarks.budget.hours import add_throughput
from benchmarks.budget.inference import add_inference
from benchmarks.budget.layers import add_layers
from benchmarks.budget.measurement import Measurement
from benchmarks.budget.prediction import add_prediction
from benchmarks.budget.reference import (
    check_on_reference,
    judge_on_reference,
    reference_profile,
    without_hours_limit,
)
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
    verdict = _check_training(request, builder, report, architecture)
    if not request.inference_batch:
        return verdict
    report(Progress("timing inference", 1, 2, request.model))
    return add_inference(verdict, builder, request)


def _check_training(
    request: CheckRequest, builder: Builder, report: Report, architecture: Architecture | None
) -> Verdict:
    """Check cost, throughput and hours. See `check` for the arguments."""
    benchmark, device = request.benchmark, request.device
    check_optimizer(benchmark.recipe)
    report(Progress("counting parameters and MACs", 0, 2, request.model))
    with explaining_errors(request.model, architecture, benchmark):
        verdict = check_cost(request.model, builder, benchmark, device)
    if isinstance(architecture, TimmModel) and architecture.input_size:
        verdict = replace(verdict, image_size=architecture.input_size)
    if request.layers:
        with countable_attention():
            verdict = add_layers(verdict, builder, benchmark.data.input_shape)
    if request.image_counts is None or not verdict.passed or verdict.unjudged:
        return verdict
    training = TimedTraining(builder, benchmark, device, request.image_counts)
    if request.profile is not None and benchmark.budget.device is not None and request.profile.device != verdict.device:
        report(Progress("timing a few training steps", 1, 2, request.model))
        return check_on_reference(verdict, training, request.profile)
    if request.profile is not None and benchmark.budget.device is None:
        return add_prediction(verdict, builder, benchmark, request.profile, request.image_counts)
    report(Progress("timing a few training steps", 1, 2, request.model))
    eager = add_timing(verdict, training)
    modes = modes_to_try(eager, training, eager.hours.predicted if eager.hours else 0.0) if architecture else ()
    if eager.passed:
        modes = tuple(mode for mode in modes if not uses_compiler(mode))
    if not modes:
        return eager
    report(Progress("trying compile modes", 1, 2, request.model))
    return try_modes(verdict, eager, training, modes)[0]


def check_recipe(report: Report, recipe: Recipe) -> None:
    """Raise InputError if the optimizer of a recipe does not exist or rejects its options. `report` is unused."""
    check_optimizer(recipe)


def check_specs(
    report: Report, specs: Mapping[str, int], benchmark: Benchmark, device: str, image_counts: tuple[int, int]
) -> list[Verdict]:
    """Check several specs. They are timed only if none of them has too many parameters.

    Cached measurements from this device are reused, except those that were too slow.

    Args:
        report: Called with progress updates.
        specs: The number of runs to come of each spec; the verdicts are in the same order.
        benchmark: Images, recipe and budget.
        device: "cpu", "cuda", "cuda:1"...
        image_counts: Numbers of training and evaluation images.

    Raises:
        InputError: If a spec or the recipe's optimizer is not valid, a model cannot take the images of the benchmark
            or does not return one logit per class, or the code of a plugin fails.
    """
    check_optimizer(benchmark.recipe)
    configs = [read_run_config(spec, benchmark.baseline) for spec in specs]
    measurements = [Measurement.read(config, benchmark, device) for config in configs]
    verdicts: list[Verdict] = []
    for spec, config, measurement in zip(specs, configs, measurements, strict=True):
        report(Progress("counting parameters and MACs", len(verdicts), len(specs), spec))
        if measurement.cost is None:
            with explaining_errors(spec, config.architecture, benchmark):
                verdicts.append(check_cost(spec, config_builder(config, benchmark), benchmark, device))
            measurement.cost = verdicts[-1].cost
        else:
            verdicts.append(cost_verdict(spec, measurement.cost, benchmark, device))
    for verdict in verdicts:
        if verdict.unjudged:
            raise InputError(f"{verdict.model}: {verdict.unjudged}")
    if all(verdict.passed for verdict in verdicts):
        reference = reference_profile(benchmark, device)
        limit = benchmark if reference is None else without_hours_limit(benchmark)
        timed = [
            replace(TimedTraining.of(config, limit, device, image_counts), num_runs=number)
            for config, number in zip(configs, specs.values(), strict=True)
        ]
        verdicts = _time_specs(report, verdicts, timed, measurements)
        if reference is not None:
            judged = [TimedTraining.of(config, benchmark, device, image_counts) for config in configs]
            verdicts = [judge_on_reference(v, t, reference) for v, t in zip(verdicts, judged, strict=True)]
    return [add_advice(verdict, verdict.model, benchmark) for verdict in verdicts]


def _time_specs(
    report: Report, counted: Sequence[Verdict], timed: Sequence[TimedTraining], measurements: Sequence[Measurement]
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
