"""How fast a model really trains: the recipe's own epoch, in short, timed on this device."""

import math
import time
from collections.abc import Callable
from statistics import median

import torch
from torch import nn

from benchmarks.budget.memory import PeakMemory
from benchmarks.budget.verdict import Speed, Throughput
from benchmarks.definition.recipe import Recipe
from benchmarks.training.compile_mode import CompileMode
from benchmarks.training.distillation import Distiller
from benchmarks.training.step import DeviceImages, TrainingStep, random_images
from benchmarks.training.trainer import EVAL_BATCH, evaluate, train_epoch

REPEATS = 5  # timed windows; the median counts
WINDOW = 0.5  # seconds a window lasts at least
WARM_UP = 2  # steps before any is timed
MAX_STEPS = 200  # that a window takes at most: their images are kept on the device
PROBES = (8, 32)  # images: from the time of these it is known how long a full batch takes
PROBE_LIMIT = 3.0  # seconds; a full batch that takes longer is not run


class DoesNotFit(RuntimeError):
    """A batch of the recipe's size needs more memory than the device has."""


def measure_throughput(
    model: nn.Module,
    recipe: Recipe,
    num_classes: int,
    input_shape: tuple[int, int, int],
    compile_mode: CompileMode = "eager",
    distiller: Distiller | None = None,
) -> Throughput:
    """Times training and evaluation on random images of `input_shape` (channels, height, width).

    model: on the device to measure; it is trained on noise, so hand in one that is not needed afterwards.
    Raises DoesNotFit where the device's memory does not hold the training of one batch.
    """
    try:
        return _measure(model, recipe, num_classes, input_shape, compile_mode, distiller)
    except torch.OutOfMemoryError as error:
        problem = f"training on a batch of {recipe.batch_size} does not fit in this device's memory"
        raise DoesNotFit(problem) from error


def _measure(
    model: nn.Module,
    recipe: Recipe,
    num_classes: int,
    input_shape: tuple[int, int, int],
    compile_mode: CompileMode,
    distiller: Distiller | None,
) -> Throughput:
    device = next(model.parameters()).device
    model.to(memory_format=torch.channels_last)
    step = TrainingStep(model, recipe, steps_per_epoch=1000, compile_mode=compile_mode, distiller=distiller)
    generator = torch.Generator(device).manual_seed(0)

    def noise(count: int) -> DeviceImages:
        return random_images(count, input_shape, num_classes, generator)

    def train_once(split: DeviceImages) -> Callable[[], object]:
        model.train()
        return lambda: step(split.images, split.labels, 0, generator)

    memory, compile_seconds = PeakMemory(model, device), 0.0
    if compile_mode == "eager":
        expected, eval_split = _expected(train_once, noise, recipe.batch_size, device)
    else:  # for one shape only, whose time as written is known to be short
        expected = 0.0
        compile_seconds = _timed(train_once(noise(recipe.batch_size)), device)
    if expected > PROBE_LIMIT:
        batch_size, seconds, peak = len(eval_split), [expected / recipe.batch_size], None
    else:
        batch_size = recipe.batch_size
        seconds = _timed_epochs(step, train_once, noise, device)
        peak = memory.bytes()
        eval_split = noise(min(EVAL_BATCH, 4 * batch_size))
    eval_seconds = _windows(lambda: evaluate(model, eval_split, recipe), device, repeats=3)
    return Throughput(
        training=_speed(seconds),
        evaluation=_speed([taken / len(eval_split) for taken in eval_seconds]),
        batch_size=batch_size,
        peak_memory=peak,
        compile_mode=compile_mode,
        compile_seconds=compile_seconds,
    )


def _timed_epochs(
    step: TrainingStep,
    train_once: Callable[[DeviceImages], Callable[[], object]],
    noise: Callable[[int], DeviceImages],
    device: torch.device,
) -> list[float]:
    """Seconds an image takes, from REPEATS short epochs."""
    batch_size = step.recipe.batch_size
    once = train_once(noise(batch_size))
    for _ in range(WARM_UP):  # CUDA graphs are recorded in the second step
        once()
    steps = min(MAX_STEPS, math.ceil(WINDOW / _timed(once, device)))
    split = noise(steps * batch_size)
    return [_timed(lambda: train_epoch(step, split, steps), device) / len(split) for _ in range(REPEATS + 1)][
        1:
    ]  # the first warms up


def _expected(
    train_once: Callable[[DeviceImages], Callable[[], object]],
    noise: Callable[[int], DeviceImages],
    batch_size: int,
    device: torch.device,
) -> tuple[float, DeviceImages]:
    """Seconds that a step takes on a full batch, and the images of the last probe.

    A deep net of thin layers takes nearly as long for few images as for many: the line through two probes is followed.
    """
    small, large = (noise(min(size, batch_size)) for size in PROBES)
    first = _windows(train_once(small), device, repeats=1)[0]
    if first * len(large) / len(small) > PROBE_LIMIT or len(small) == len(large):
        return first * batch_size / len(small), small
    second = _windows(train_once(large), device, repeats=1)[0]
    slope = max(0.0, second - first) / (len(large) - len(small))
    return second + slope * (batch_size - len(large)), large


def _speed(seconds: list[float]) -> Speed:
    """From seconds an image takes."""
    return Speed(1 / median(seconds), 1 / max(seconds), 1 / min(seconds))


def _windows(work: Callable[[], object], device: torch.device, repeats: int) -> list[float]:
    """Seconds one call of `work` takes, from `repeats` windows of as many calls as fill WINDOW, after a warm-up."""
    work()
    calls = max(1, math.ceil(WINDOW / REPEATS / _timed(work, device)))

    def window() -> None:
        for _ in range(calls):
            work()

    return [_timed(window, device) / calls for _ in range(repeats)]


def _timed(work: Callable[[], object], device: torch.device) -> float:
    """Seconds, by the GPU's own clock where there is one."""
    if device.type != "cuda":
        started = time.perf_counter()
        work()
        return time.perf_counter() - started
    before, after = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    before.record()
    work()
    after.record()
    after.synchronize()
    return float(before.elapsed_time(after)) / 1000
