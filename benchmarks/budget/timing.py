"""The second half of a budget check: measure throughput on this device, and predict hours from it."""

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import nn

from benchmarks.budget.builders import Builder
from benchmarks.budget.cost import materialize
from benchmarks.budget.error_line import error_line
from benchmarks.budget.hours import add_throughput
from benchmarks.budget.memory import free_memory
from benchmarks.budget.passing_errors import is_passing
from benchmarks.budget.throughput import DoesNotFit, measure_throughput
from benchmarks.budget.verdict import Throughput, Verdict, format_bytes
from benchmarks.definition.benchmark import Benchmark
from benchmarks.definition.overrides import UNIFORM, RunConfig
from benchmarks.training.compile_mode import COMPILED_MODES, CompileMode, reset_compiler, uses_compiler
from benchmarks.training.distillation import Distiller
from benchmarks.training.models import distiller_for_timing, fresh_model
from benchmarks.training.weights import freeze

DistillerFactory = Callable[[torch.device], Distiller | None]

MIN_HOURS_TO_COMPILE = 0.15  # predicted hours of all runs to come; below this, compilation is not tried
# No faster mode is tried on a model whose hours exceed the limit by a larger factor.
MAX_COMPILE_SPEEDUP = 2
MAX_GRAPH_SPEEDUP = 5  # of small models on a GPU


@dataclass(frozen=True)
class TimedTraining:
    """A training run to time: a model, a recipe and images on a device, and the distiller if there is a teacher.

    Attributes:
        builder: Builds the model.
        benchmark: Images, recipe and budget.
        device: "cpu", "cuda", "cuda:1"...
        image_counts: Numbers of training and evaluation images.
        distiller: Creates the distiller on a device.
        has_teacher: Whether the training run distills a teacher, which is trained before.
        architecture: The key of the architecture; "" if it is unknown.
        num_runs: The number of such runs to come.
    """

    builder: Builder
    benchmark: Benchmark
    device: str
    image_counts: tuple[int, int]
    distiller: DistillerFactory = lambda device: None
    has_teacher: bool = False
    architecture: str = ""
    num_runs: int = 1

    @classmethod
    def of(cls, config: RunConfig, benchmark: Benchmark, device: str, image_counts: tuple[int, int]) -> "TimedTraining":
        """Return the timed training of a run config; `image_counts` are those of the whole data set."""
        architecture, overrides = config.architecture, config.overrides

        def builder() -> nn.Module:
            model = fresh_model(architecture, benchmark)
            if overrides.frozen_layers:
                freeze(model, overrides.frozen_layers)
            return model

        images = overrides.num_train_images(image_counts[0], benchmark.data.num_classes)
        recipe = overrides.adjust_recipe(benchmark.recipe, images, image_counts[0])
        distiller = partial(distiller_for_timing, config, benchmark)
        counts, distillation = (images, image_counts[1]), overrides.distillation
        training = cls(builder, replace(benchmark, recipe=recipe), device, counts, distiller)
        has_teacher = distillation is not None and distillation.teacher != UNIFORM
        return replace(training, has_teacher=has_teacher, architecture=architecture.key())

    def measure(self, compile_mode: CompileMode = "eager") -> Throughput:
        """Build the model and measure its throughput on the device."""
        data, recipe, device = self.benchmark.data, self.benchmark.recipe, torch.device(self.device)
        model = materialize(self.builder(), data.input_shape).to(device)
        return measure_throughput(model, recipe, data, compile_mode, self.distiller(device))


def add_timing(verdict: Verdict, training: TimedTraining) -> Verdict:
    """Measure the throughput, and add it to the verdict with the predicted hours."""
    recipe, limit = training.benchmark.recipe, training.benchmark.budget.max_hours
    needed, free = verdict.cost.training_memory or 0, free_memory(training.device)
    if training.device == "cpu" and needed > free:
        problem = (
            f"training on a batch of {recipe.batch_size} needs about {format_bytes(needed)} of memory, "
            f"but only {format_bytes(free)} are free"
        )
        return replace(verdict, problems=(*verdict.problems, problem))
    try:
        throughput = training.measure()
        # Another process may have used the device, so a model over the limit is measured a second time.
        if throughput.hours(recipe, *training.image_counts).is_over(limit):
            throughput = max(throughput, training.measure(), key=lambda measured: measured.training.median)
    except DoesNotFit as error:
        return replace(verdict, problems=(*verdict.problems, str(error)))
    needed = (throughput.peak_memory or 0) + training.benchmark.bytes_on_device(training.image_counts)
    if training.device != "cpu" and needed > free:
        problem = (
            f"training on a batch of {recipe.batch_size}, with all images on the GPU, needs {format_bytes(needed)} of "
            f"memory, but only {format_bytes(free)} are free"
        )
        return replace(verdict, problems=(*verdict.problems, problem))
    return add_throughput(verdict, throughput, training.benchmark, training.image_counts)


def modes_to_try(
    verdict: Verdict, training: TimedTraining, hours_to_come: float, tried: Collection[str] = ()
) -> tuple[CompileMode, ...]:
    """Return the compile modes that may be faster.

    Capturing a CUDA graph takes seconds, so it is tried for every model. Compiling takes up to a minute in the first
    run; the others find the code in the cache.

    Args:
        verdict: The verdict on the model in the fastest mode so far.
        training: The training run.
        hours_to_come: The predicted hours of all runs to come that could use the compiled code.
        tried: Compile modes that have been tried before.
    """
    if verdict.throughput is None or verdict.hours is None:
        return ()
    if verdict.throughput.batch_size != training.benchmark.recipe.batch_size:
        return ()
    limit = training.benchmark.budget.max_hours
    may_compile = hours_to_come >= MIN_HOURS_TO_COMPILE and not verdict.hours.is_over(MAX_COMPILE_SPEEDUP * limit)
    may_capture = not verdict.hours.is_over(MAX_GRAPH_SPEEDUP * limit)
    modes = COMPILED_MODES[training.device.partition(":")[0]] if may_capture else ()
    return tuple(mode for mode in modes if mode not in tried and (may_compile or not uses_compiler(mode)))


def hours_by_architecture(verdicts: Sequence[Verdict], trainings: Sequence[TimedTraining]) -> Mapping[str, float]:
    """Return the predicted hours of all runs to come of each architecture, whose compiled code they share."""
    hours: dict[str, float] = {}
    for verdict, training in zip(verdicts, trainings, strict=True):
        predicted = verdict.hours.predicted if verdict.hours else 0.0
        hours[training.architecture] = hours.get(training.architecture, 0.0) + training.num_runs * predicted
    return hours


def try_modes(
    counted: Verdict, best: Verdict, training: TimedTraining, modes: Sequence[CompileMode]
) -> tuple[Verdict, dict[str, str]]:
    """Measure the model in compile modes.

    Args:
        counted: The verdict before the model was timed.
        best: The verdict on the model in the fastest mode so far.
        training: The training run to measure.
        modes: The modes to try.

    Returns:
        The verdict with the fewest hours, and the modes that were tried, with the errors of those that failed. Modes
        that may succeed at another time are left out; the verdict has a note on them, too.
    """
    verdicts, errors, passing = [best], {str(mode): "" for mode in modes}, set[str]()
    for compile_mode in modes:
        try:
            throughput = training.measure(compile_mode)
        except Exception as error:  # no compiler, not enough memory, other numbers, or a layer that cannot be compiled
            errors[compile_mode] = error_line(error)
            if is_passing(error):
                passing.add(compile_mode)
        else:
            verdicts.append(add_throughput(counted, throughput, training.benchmark, training.image_counts))
        finally:
            reset_compiler()
    fastest = min(verdicts, key=lambda verdict: verdict.hours.predicted if verdict.hours else math.inf)
    return with_failures(fastest, errors), {mode: error for mode, error in errors.items() if mode not in passing}


def with_failures(verdict: Verdict, errors: Mapping[str, str]) -> Verdict:
    """Add a note to a verdict for each compile mode that failed."""
    notes = [f"compile mode {mode} failed: {error}" for mode, error in errors.items() if error]
    return replace(verdict, notes=(*verdict.notes, *notes))
