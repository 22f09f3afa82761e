"""Measure how fast a model trains: short epochs of the recipe, timed on this device."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from statistics import median

import torch
from torch import nn

from benchmarks.budget.energy import EnergyMeter
from benchmarks.budget.memory import PeakMemory, is_out_of_memory
from benchmarks.budget.performance import Energy
from benchmarks.budget.step_clock import StepClock, block_means, speed, time_once
from benchmarks.budget.verdict import Throughput
from benchmarks.definition.benchmark import DatasetConfig
from benchmarks.definition.recipe import Recipe
from benchmarks.execution.device import use_device
from benchmarks.training.compile_mode import CompileMode, uses_graph
from benchmarks.training.determinism import deterministically
from benchmarks.training.distillation import Distiller
from benchmarks.training.evaluation import MAX_TRAINING_BATCHES, eval_batch_size, evaluate
from benchmarks.training.loaded_images import with_loader
from benchmarks.training.step import DeviceImages, StepOptions, TrainingStep, random_images
from benchmarks.training.teacher_logits import reuses_teacher_logits, with_teacher_logits
from benchmarks.training.trainer import train_epoch

NUM_TIMING_WINDOWS = 5  # the median is used
MIN_WINDOW_SECONDS = 0.5
NUM_SHORT_WINDOWS = 3  # of evaluation, and of training on few images
LOADER_WINDOW_SECONDS = 1.5  # longer, because the loader processes are idle before each window
NUM_LOADER_PROBE_STEPS = 4
NUM_WARM_UP_STEPS = 2
MAX_STEPS_PER_WINDOW = 200  # limited because the images of a window are kept on the device
PROBE_BATCH_SIZES = (8, 32)  # images; the duration of a full batch is extrapolated from these
MAX_STEP_SECONDS = 3.0  # a full batch that is expected to take longer is not run


class DoesNotFit(RuntimeError):
    """A batch of the recipe's size needs more memory than the device has."""


def measure_throughput(
    model: nn.Module,
    recipe: Recipe,
    data: DatasetConfig,
    compile_mode: CompileMode = "eager",
    distiller: Distiller | None = None,
) -> Throughput:
    """Time training and evaluation on random images, with the deterministic algorithms that training uses.

    Args:
        model: A model on the device to measure. It is trained on noise, so do not use it afterwards.
        recipe: Batch size, precision and augmentation.
        data: Image shape and number of classes.
        compile_mode: How the training steps are computed.
        distiller: Computes a distillation loss in each step, if given.

    Raises:
        DoesNotFit: If the memory of the device is too small to train on one batch.
        CompileModeFailed: If the compile mode fails, or gives other numbers than eager mode.
    """
    use_device(str(next(model.parameters()).device))
    try:
        return deterministically(lambda: _measure(_TimedStep.create(model, recipe, data, compile_mode, distiller)))
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise DoesNotFit(
            f"training on a batch of {recipe.batch_size} does not fit in the memory of this device"
        ) from error


def timed_eval_batch_size(recipe: Recipe, device: torch.device) -> int:
    """Return the number of images that are evaluated at once while a full batch is timed.

    On a GPU, it is that of the training run. On a CPU, where it hardly affects the speed, it is limited to save time.
    """
    return min(eval_batch_size(recipe, device), MAX_TRAINING_BATCHES * recipe.batch_size)


@dataclass(frozen=True)
class _TimedStep:
    """A training step, and the random images that it is timed on."""

    step: TrainingStep
    data: DatasetConfig
    compile_mode: CompileMode
    device: torch.device
    generator: torch.Generator

    @classmethod
    def create(
        cls,
        model: nn.Module,
        recipe: Recipe,
        data: DatasetConfig,
        compile_mode: CompileMode,
        distiller: Distiller | None,
    ) -> "_TimedStep":
        device = next(model.parameters()).device
        model.to(memory_format=torch.channels_last)
        options = StepOptions(compile_mode=compile_mode, distiller=distiller)
        step = TrainingStep(model, recipe, steps_per_epoch=1000, options=options)
        return cls(step, data, compile_mode, device, torch.Generator(device).manual_seed(0))

    def noise(self, count: int) -> DeviceImages:
        return random_images(count, self.data.input_shape, self.data.num_classes, self.generator)

    def training_on(self, split: DeviceImages) -> Callable[[], object]:
        """Return a function that trains one step on all images of `split`."""
        self.step.model.train()
        split = with_teacher_logits(split, self.step)
        images = torch.cat([split.images] * self.step.recipe.aug_splits)
        return lambda: self.step(images, split.labels, 0, split.teacher_logits)


def _measure(timed: _TimedStep) -> Throughput:
    step, recipe, device = timed.step, timed.step.recipe, timed.device
    memory, compile_seconds = PeakMemory(step.model, device), 0.0
    if timed.compile_mode == "eager":
        expected, eval_split = _expected_steps(timed)
    else:  # a mode is prepared for one batch size, and the eager step is known to be short
        expected = [0.0]
        compile_seconds = time_once(timed.training_on(timed.noise(recipe.batch_size)), device)
    if median(expected) > MAX_STEP_SECONDS:
        batch_size, windows, blocks, peak = len(eval_split), expected, expected, None
        energy = Energy(problem="a batch of the recipe takes too long on this device")
    else:
        batch_size = recipe.batch_size
        windows, blocks, energy = _time_epochs(timed)
        peak = memory.bytes(uses_graph(timed.compile_mode))
        eval_split = timed.noise(timed_eval_batch_size(recipe, device))
    eval_seconds = _windows(lambda: evaluate(step.model, eval_split, recipe), device, NUM_SHORT_WINDOWS)
    return Throughput(
        training=speed(windows, blocks, recipe.batch_size),
        evaluation=speed(eval_seconds, eval_seconds, len(eval_split)),
        batch_size=batch_size,
        peak_memory=peak,
        compile_mode=timed.compile_mode,
        compile_seconds=compile_seconds,
        step_seconds=(min(blocks), max(blocks)),
        measured=datetime.now(UTC).date().isoformat(),
        energy_per_image=energy,
        teacher_seconds=_teacher_seconds_per_image(step, eval_split),
    )


def _teacher_seconds_per_image(step: TrainingStep, split: DeviceImages) -> float:
    """Return the seconds per image of computing the teacher's logits before the training; 0 if each step does."""
    if step.distiller is None or step.distiller.teacher is None or not reuses_teacher_logits(step):
        return 0.0
    teacher = step.distiller.teacher
    return median(_windows(lambda: evaluate(teacher, split, step.recipe), step.device, NUM_SHORT_WINDOWS)) / len(split)


def _time_epochs(timed: _TimedStep) -> tuple[list[float], list[float], Energy]:
    """Return the mean seconds per step in each of NUM_TIMING_WINDOWS short epochs and in blocks of their steps.

    The energy per image is that of the same epochs.

    The steps of loaded images are averaged over an epoch, because the loader delivers several images at once.
    """
    step, device = timed.step, timed.device
    batch_size = step.recipe.batch_size
    train_once = timed.training_on(timed.noise(batch_size))
    for _ in range(NUM_WARM_UP_STEPS):
        train_once()
    window, step_seconds = MIN_WINDOW_SECONDS, time_once(train_once, device)
    if step.recipe.transforms_images:
        window, step_seconds = LOADER_WINDOW_SECONDS, _seconds_per_loaded_step(timed)
    steps = min(MAX_STEPS_PER_WINDOW, math.ceil(window / step_seconds))
    split = with_loader(with_teacher_logits(timed.noise(steps * batch_size), step), step.recipe)
    windows: list[float] = []
    single_steps: list[float] = []
    train_epoch(step, split, steps)  # a warm-up
    with EnergyMeter(str(device)) as meter:
        for _ in range(NUM_TIMING_WINDOWS):
            clock = StepClock(device)
            windows.append(time_once(partial(train_epoch, step, split, steps, None, clock.mark), device) / steps)
            single_steps += clock.seconds()
    energy = meter.energy.per_image(NUM_TIMING_WINDOWS * steps * batch_size)
    return windows, windows if step.recipe.transforms_images else block_means(single_steps), energy


def _seconds_per_loaded_step(timed: _TimedStep) -> float:
    """Return the seconds of a training step whose images come from loader processes, in a very short epoch."""
    step = timed.step
    split = with_loader(timed.noise(NUM_LOADER_PROBE_STEPS * step.recipe.batch_size), step.recipe)
    train_epoch(step, split, NUM_LOADER_PROBE_STEPS)  # starts the processes
    return time_once(lambda: train_epoch(step, split, NUM_LOADER_PROBE_STEPS), timed.device) / NUM_LOADER_PROBE_STEPS


def _expected_steps(timed: _TimedStep) -> tuple[list[float], DeviceImages]:
    """Return the seconds expected of a step on a full batch, several times, and the images of the last probe.

    A deep model of thin layers takes nearly as long for few images as for many, so the expected time is
    extrapolated linearly from two probes.
    """
    batch_size, device = timed.step.recipe.batch_size, timed.device
    small, large = (timed.noise(min(size, batch_size)) for size in PROBE_BATCH_SIZES)
    first = _windows(timed.training_on(small), device, NUM_SHORT_WINDOWS)
    if median(first) * len(large) / len(small) > MAX_STEP_SECONDS or len(small) == len(large):
        return [seconds * batch_size / len(small) for seconds in first], small
    second = _windows(timed.training_on(large), device, NUM_SHORT_WINDOWS)
    per_image = max(0.0, median(second) - median(first)) / (len(large) - len(small))
    return [seconds + per_image * (batch_size - len(large)) for seconds in second], large


def _windows(work: Callable[[], object], device: torch.device, repeats: int) -> list[float]:
    """Return the seconds per call of `work` in each window, after a warm-up call."""
    work()
    first = time_once(work, device)
    calls = max(1, math.ceil(MIN_WINDOW_SECONDS / NUM_TIMING_WINDOWS / first))

    def window() -> None:
        for _ in range(calls):
            work()

    is_window = calls == 1
    windows = [time_once(window, device) / calls for _ in range(repeats - is_window)]
    return [first, *windows] if is_window else windows
