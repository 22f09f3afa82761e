"""The verdict: whether a model is inside a benchmark's budget."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import nn

from arch.errors import InputError
from arch.models import build
from arch.parts import PARTS
from arch.timm_model import TimmModel
from arch.variant import Variant
from benchmarks.budget.cost import count_attention, count_on_meta, materialize, measure_cost, reason
from benchmarks.budget.measurement import Measurement
from benchmarks.budget.memory import free_memory
from benchmarks.budget.profile import DeviceProfile
from benchmarks.budget.roofline import evaluation_work, predict, training_work
from benchmarks.budget.throughput import DoesNotFit, measure_throughput
from benchmarks.budget.verdict import (
    DISAGREEMENT,
    ModelCost,
    PredictedHours,
    Throughput,
    Verdict,
    format_bytes,
    format_hours,
)
from benchmarks.definition.benchmark import Benchmark
from benchmarks.definition.overrides import RunConfig, read_run_config
from benchmarks.definition.versions import versions
from benchmarks.execution.device import device_name
from benchmarks.execution.progress import Progress, Report, silent
from benchmarks.training.compile_mode import COMPILED, CompileMode, forget_compiled
from benchmarks.training.distillation import Distiller
from benchmarks.training.models import distiller_to_time, fresh_model
from benchmarks.training.trainer import EVAL_BATCH
from benchmarks.training.weights import freeze

Builder = Callable[[], nn.Module]
DistillerFactory = Callable[[torch.device], Distiller | None]
WORTH_COMPILING = 0.15  # predicted hours from which on compiling a net is tried
HOPELESS = 2  # times the limit: no compiler makes a net so much faster
HUGE = 10  # times the limit: a model of so many parameters is not built for real


@dataclass(frozen=True)
class TimedTraining:
    """What is timed: a net, over so many epochs and images on a device, and what teaches it beside the labels."""

    builder: Builder
    benchmark: Benchmark
    device: str
    counts: tuple[int, int]  # training and evaluation images
    lesson: DistillerFactory = lambda device: None

    @classmethod
    def of(cls, config: RunConfig, benchmark: Benchmark, device: str, counts: tuple[int, int]) -> "TimedTraining":
        """A config's; counts: of the whole data set."""
        architecture, overrides = config.architecture, config.overrides

        def builder() -> nn.Module:
            net = fresh_model(architecture, benchmark)
            if overrides.frozen:
                freeze(net, overrides.frozen)
            return net

        images = overrides.images(counts[0], benchmark.data.num_classes)
        treated = replace(benchmark, recipe=overrides.recipe(benchmark.recipe, images, counts[0]))
        lesson = partial(distiller_to_time, config, benchmark)
        return cls(builder, treated, device, (images, counts[1]), lesson)


def check(
    name: str,
    builder: Builder,
    benchmark: Benchmark,
    device: str,
    counts: tuple[int, int] | None,
    report: Report = silent,
    profile: DeviceProfile | None = None,
) -> Verdict:
    """Judges the model that `builder` returns.

    device: "cpu", "cuda", "cuda:1"... counts: training and evaluation images; None leaves speed and hours out.
    profile: of another device, whose hours are predicted instead of timed here.
    A model over its parameters is not timed.
    """
    report(Progress("counting parameters and MACs", 0, 2, name))
    verdict = check_cost(name, builder, benchmark, device)
    if counts is None or not verdict.passed or verdict.unjudged:
        return verdict
    if profile is not None:
        return add_prediction(verdict, builder, benchmark, profile, counts)
    report(Progress("timing a few training steps", 1, 2, name))
    return add_timing(verdict, TimedTraining(builder, benchmark, device, counts))


def check_cost(name: str, builder: Builder, benchmark: Benchmark, device: str) -> Verdict:
    """Judges parameters and counts MACs, without running the model for real."""
    count_attention()
    return judge_cost(name, _cost(builder, benchmark), benchmark, device)


def judge_cost(name: str, cost: ModelCost, benchmark: Benchmark, device: str) -> Verdict:
    """Judges what has been counted."""
    limit = benchmark.budget.max_params
    return Verdict(
        model=name,
        benchmark=benchmark.name,
        budget=benchmark.budget,
        image_size=benchmark.data.image_size,
        batch_size=benchmark.recipe.batch_size,
        cost=cost,
        device=device_name(device),
        versions=versions(),
        problems=(f"{cost.params:,} parameters > {limit:,}",) if cost.params > limit else (),
        unjudged=_why_not(cost, benchmark),
        notes=tuple(_notes(cost)),
    )


def _cost(builder: Builder, benchmark: Benchmark) -> ModelCost:
    """First without memory: a model of a trillion parameters is over its budget in a second."""
    shape, batch_size = benchmark.data.input_shape, benchmark.recipe.batch_size
    try:
        if count_on_meta(builder, shape).params > HUGE * benchmark.budget.max_params:
            with torch.device("meta"):
                return measure_cost(builder(), shape, batch_size)
    except Exception:  # not every model can be built without memory
        pass
    return measure_cost(builder(), shape, batch_size)


def _why_not(cost: ModelCost, benchmark: Benchmark) -> str:
    classes = benchmark.data.num_classes
    if cost.macs is not None and cost.output_shape != (1, classes):
        gives = cost.output_shape or "no tensor"
        return f"it gives {gives} for one image: {benchmark.name} has {classes} classes"
    return f"it cannot be trained: {cost.untrainable}" if cost.untrainable else ""


def _notes(cost: ModelCost) -> list[str]:
    notes = []
    if cost.disagreement > DISAGREEMENT:
        lower = "fvcore" if cost.macs_fvcore != cost.macs else "torch"
        without = f" (it leaves out {', '.join(cost.uncounted)})" if cost.uncounted else ""
        notes.append(f"the counts of MACs differ by {100 * cost.disagreement:.0f}%: {lower}'s is lower{without}")
    elif cost.uncounted:
        notes.append(f"MACs of {', '.join(cost.uncounted)} are not counted")
    if cost.hidden_params:
        notes.append(
            f"{cost.hidden_params:,} parameters are used but not registered (in a plain list?): no optimizer sees them"
        )
    return notes


def add_timing(verdict: Verdict, training: TimedTraining) -> Verdict:
    """Adds measured throughput and predicted hours to a verdict, and judges those.

    PredictedHours are over the limit when the whole of their interval is.
    """
    recipe, limit = training.benchmark.recipe, training.benchmark.budget.max_hours
    needed, free = verdict.cost.training_memory or 0, free_memory(training.device)
    if training.device == "cpu" and needed > free:
        problem = f"training on a batch of {recipe.batch_size} takes about {format_bytes(needed)} of memory"
        return replace(verdict, problems=(*verdict.problems, f"{problem}: {format_bytes(free)} are free"))
    try:
        throughput = _measure(training)
        if (
            throughput.hours(recipe, *training.counts).low > limit
        ):  # something else may have used the device: look twice
            again = _measure(training)
            throughput = max(throughput, again, key=lambda found: found.training.median)
    except DoesNotFit as error:
        return replace(verdict, problems=(*verdict.problems, str(error)))
    return judge_throughput(verdict, throughput, training.benchmark, training.counts)


def judge_throughput(
    verdict: Verdict, throughput: Throughput, benchmark: Benchmark, counts: tuple[int, int]
) -> Verdict:
    """Adds what has been measured and the hours that follow from it, and judges those."""
    notes, recipe = verdict.notes, benchmark.recipe
    if throughput.batch_size < recipe.batch_size:
        few = f"speed is reckoned from batches of up to {throughput.batch_size}"
        notes += (f"{few}: one of {recipe.batch_size} takes too long here",)
    hours = throughput.hours(recipe, *counts)
    return _judge_hours(replace(verdict, throughput=throughput, hours=hours, notes=notes), benchmark)


def add_prediction(
    verdict: Verdict, builder: Builder, benchmark: Benchmark, profile: DeviceProfile, counts: tuple[int, int]
) -> Verdict:
    """Adds the hours on a device that is not here, from its profile, and judges those as `add_timing` does."""
    shape, recipe = benchmark.data.input_shape, benchmark.recipe
    try:
        with torch.device("meta"):
            model = builder()
        step = predict(profile, training_work(model, shape, recipe.batch_size))
        evaluation = predict(profile, evaluation_work(model, shape, EVAL_BATCH)) / EVAL_BATCH
    except Exception as error:
        return replace(verdict, unjudged=f"its operators cannot be listed: {reason(error)}")
    predicted = recipe.epochs * (counts[0] // recipe.batch_size * step + counts[1] * evaluation) / 3600
    hours = PredictedHours(predicted, predicted / (1 + profile.worst_error), predicted * (1 + profile.worst_error))
    fitted = f"hours are by the profile of {profile.device} in {profile.precision}, fitted to {profile.nets} nets"
    notes = (*verdict.notes, f"{fitted}; {profile.accuracy()}")
    verdict = replace(verdict, hours=hours, device=profile.device, notes=notes)
    return _judge_hours(verdict, benchmark)


def _judge_hours(verdict: Verdict, benchmark: Benchmark) -> Verdict:
    """Over the limit is what is over it with its whole interval."""
    hours, limit = verdict.hours, benchmark.budget.max_hours
    if hours is None or hours.high <= limit:
        return verdict
    if hours.low <= limit:
        close = "too close to call: the limit is inside the interval of the predicted hours"
        return replace(verdict, notes=(*verdict.notes, close))
    problem = f"{format_hours(hours.predicted)} predicted on {verdict.device} > {format_hours(limit)}"
    return replace(verdict, problems=(*verdict.problems, problem))


def _measure(training: TimedTraining, compile_mode: CompileMode = "eager") -> Throughput:
    data, recipe, device = training.benchmark.data, training.benchmark.recipe, torch.device(training.device)
    model = materialize(training.builder(), data.input_shape).to(device)
    lesson = training.lesson(device)
    return measure_throughput(model, recipe, data.num_classes, data.input_shape, compile_mode, lesson)


def check_specs(
    report: Report,
    specs: Sequence[str],
    benchmark: Benchmark,
    device: str,
    counts: tuple[int, int],
) -> list[Verdict]:
    """Judges several of our own specs: first all of them without timing, and only if they pass, timed.

    What was measured of a spec on this device before is taken from disk, unless it was too slow then.
    """
    verdicts: list[Verdict] = []
    configs = [read_run_config(spec, benchmark.baseline) for spec in specs]
    known = [Measurement.read(config, benchmark, device) for config in configs]
    for spec, config, found in zip(specs, configs, known, strict=True):
        report(Progress("counting parameters and MACs", len(verdicts), len(specs), spec))
        if found.cost is None:
            verdicts.append(_count(spec, config, benchmark, device))
            found.cost = verdicts[-1].cost
        else:
            verdicts.append(judge_cost(spec, found.cost, benchmark, device))
    if all(verdict.passed for verdict in verdicts):
        counted = tuple(verdicts)
        trainings = [TimedTraining.of(config, benchmark, device, counts) for config in configs]
        for number, (verdict, training, found) in enumerate(zip(verdicts, trainings, known, strict=True)):
            report(Progress("timing a few training steps", number, len(specs), verdict.model))
            verdicts[number] = _timed(verdict, found, training)
        for number, (verdict, training, found) in enumerate(zip(verdicts, trainings, known, strict=True)):
            if verdict.throughput is None or found.throughput is not None:
                continue
            if _worth_compiling(verdict, training.benchmark):
                report(Progress("trying compiled nets", number, len(specs), verdict.model))
                verdicts[number] = _fastest(counted[number], verdict, training)
            found.throughput = verdicts[number].throughput
            found.write()
    return [advised(verdict, verdict.model, benchmark) for verdict in verdicts]


def _count(spec: str, config: RunConfig, benchmark: Benchmark, device: str) -> Verdict:
    """Raises InputError where a model of timm's cannot take the benchmark's images."""
    try:
        return check_cost(spec, setup_builder(config, benchmark), benchmark, device)
    except (RuntimeError, ValueError, AssertionError, TypeError) as error:
        if isinstance(error, InputError) or not isinstance(config.architecture, TimmModel):
            raise
        size, name = benchmark.data.image_size, config.architecture.name
        refused = f"{spec} cannot take images of {config.architecture.input_size or size} pixels ({reason(error)})"
        raise InputError(f"{refused}: timm/{name}/PIXELS resizes them") from error


def _timed(verdict: Verdict, known: Measurement, training: TimedTraining) -> Verdict:
    """The verdict with the speed that is known; where it is not, or was too slow, with what is measured now."""
    if known.throughput is not None:
        judged = judge_throughput(verdict, known.throughput, training.benchmark, training.counts)
        if judged.passed:
            return judged
        known.throughput = None
    return add_timing(verdict, training)


def _worth_compiling(eager: Verdict, benchmark: Benchmark) -> bool:
    """Whether the training is long enough for the trial, and not hopelessly too long."""
    if eager.throughput is None or eager.hours is None:
        return False
    whole_batch = eager.throughput.batch_size == benchmark.recipe.batch_size
    return (
        whole_batch
        and eager.hours.predicted >= WORTH_COMPILING
        and eager.hours.low <= HOPELESS * benchmark.budget.max_hours
    )


def _fastest(counted: Verdict, eager: Verdict, training: TimedTraining) -> Verdict:
    """The fastest of `eager` and the same net compiled.

    counted: the verdict on the net before it was timed.
    """
    found = [eager]
    for compile_mode in COMPILED[training.device.partition(":")[0]]:
        try:
            throughput = _measure(training, compile_mode)
        except Exception as error:  # no compiler, no memory left, or a layer that it cannot take
            found[0] = replace(found[0], notes=(*found[0].notes, f"{compile_mode} it cannot run: {reason(error)}"))
        else:
            found.append(judge_throughput(counted, throughput, training.benchmark, training.counts))
        finally:
            forget_compiled()
    return min(found, key=lambda judged: judged.hours.predicted if judged.hours else math.inf)


def _narrower(verdict: Verdict, spec: str, benchmark: Benchmark) -> str:
    """The largest width, in steps of 0.05, at which a spec over its budget would fit; "" where none does.

    PredictedHours are taken to fall with the MACs, so that width is a hint and not a verdict.
    """
    variant, data, budget = read_run_config(spec, benchmark.baseline).architecture, benchmark.data, benchmark.budget
    if not isinstance(variant, Variant):
        return ""
    hours = verdict.hours.predicted if verdict.hours else 0.0
    for percent in range(95, 9, -5):
        try:
            narrow = PARTS["width"].apply(variant, percent / 100)
        except ValueError:  # the groups do not divide this width
            continue
        cost = count_on_meta(partial(build, narrow, data.num_classes, data.in_chans), data.input_shape)
        share = (cost.macs or 0) / (verdict.cost.macs or 1)
        if cost.params <= budget.max_params and hours * share <= budget.max_hours:
            return f"{percent / 100:g} times its width would fit here: {cost.params:,} params"
    return ""


def advised(verdict: Verdict, spec: str, benchmark: Benchmark) -> Verdict:
    """The verdict on one of our specs; where it is over the budget, with what would fit."""
    return verdict if verdict.passed else replace(verdict, advice=_narrower(verdict, spec, benchmark))


def spec_builder(spec: str, benchmark: Benchmark) -> Builder:
    """Builds the net of a config for the benchmark's images."""
    return setup_builder(read_run_config(spec, benchmark.baseline), benchmark)


def setup_builder(config: RunConfig, benchmark: Benchmark) -> Builder:
    """The same of one that has been read; nothing of it is frozen, so that all parameters are counted."""
    return partial(fresh_model, config.architecture, benchmark)
