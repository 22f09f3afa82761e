"""The second half of a budget check: measure throughput on this device, and predict hours from it."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import nn

from benchmarks.budget.builders import Builder
from benchmarks.budget.cost import materialize
from benchmarks.budget.error_line import error_line
from benchmarks.budget.hours import add_throughput
from benchmarks.budget.memory import free_memory
from benchmarks.budget.throughput import DoesNotFit, measure_throughput
from benchmarks.budget.verdict import Throughput, Verdict, format_bytes
from benchmarks.definition.benchmark import Benchmark
from benchmarks.definition.overrides import UNIFORM, RunConfig
from benchmarks.training.compile_mode import COMPILED_MODES, CompileMode, reset_compiler
from benchmarks.training.distillation import Distiller
from benchmarks.training.models import distiller_for_timing, fresh_model
from benchmarks.training.weights import freeze

DistillerFactory = Callable[[torch.device], Distiller | None]

MIN_HOURS_TO_COMPILE = 0.15  # predicted hours; below this, compilation is not tried
MAX_COMPILE_SPEEDUP = 2  # compilation is not tried on a model whose hours exceed the limit by a larger factor


@dataclass(frozen=True)
class TimedTraining:
    """A training run to time: a model, a recipe and images on a device, and the distiller if there is a teacher."""

    builder: Builder
    benchmark: Benchmark
    device: str
    image_counts: tuple[int, int]  # training and evaluation images
    distiller: DistillerFactory = lambda device: None
    has_teacher: bool = False

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
        training = cls(builder, replace(benchmark, recipe=recipe), device, (images, image_counts[1]), distiller)
        distillation = overrides.distillation
        return replace(training, has_teacher=distillation is not None and distillation.teacher != UNIFORM)

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
        if throughput.hours(recipe, *training.image_counts).low > limit:
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


def worth_compiling(eager: Verdict, benchmark: Benchmark) -> bool:
    """Return whether training takes long enough for compilation to pay off, and could fit the limit once compiled."""
    if eager.throughput is None or eager.hours is None:
        return False
    return (
        eager.throughput.batch_size == benchmark.recipe.batch_size
        and eager.hours.predicted >= MIN_HOURS_TO_COMPILE
        and eager.hours.low <= MAX_COMPILE_SPEEDUP * benchmark.budget.max_hours
    )


def try_compiled(counted: Verdict, eager: Verdict, training: TimedTraining) -> Verdict:
    """Measure the model in each compile mode except eager, and return the verdict with the fewest hours, or `eager`.

    Args:
        counted: The verdict before the model was timed.
        eager: The verdict on the model in eager mode. A note is added to it for each compile mode that fails.
        training: The training run to measure.
    """
    compiled: list[Verdict] = []
    for compile_mode in COMPILED_MODES[training.device.partition(":")[0]]:
        try:
            throughput = training.measure(compile_mode)
        except Exception as error:  # no compiler, not enough memory, or a layer that cannot be compiled
            eager = replace(eager, notes=(*eager.notes, f"compile mode {compile_mode} failed: {error_line(error)}"))
        else:
            compiled.append(add_throughput(counted, throughput, training.benchmark, training.image_counts))
        finally:
            reset_compiler()
    return min([eager, *compiled], key=lambda verdict: verdict.hours.predicted if verdict.hours else math.inf)
