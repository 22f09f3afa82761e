"""How fast a model really trains: the recipe's own step, timed on this device."""

import math
import time
from collections.abc import Callable
from statistics import median

import torch
from torch import nn

from benchmarks.budget.verdict import Throughput
from benchmarks.training.recipe import Recipe
from benchmarks.training.trainer import EVAL_BATCH, LabelledImages, TrainingStep, evaluate

REPEATS = 5  # timed windows; the median counts
WINDOW = 0.2  # seconds a window lasts at least
PROBE_BATCH = 8  # images, to find out whether a full batch takes too long to be timed
PROBE_LIMIT = 3.0  # seconds; a full batch expected to take longer is not run


def measure_throughput(
    model: nn.Module, recipe: Recipe, num_classes: int, input_shape: tuple[int, int, int]
) -> Throughput:
    """Times training and evaluation on random images of `input_shape` (channels, height, width).

    model: on the device to measure; it is trained on noise, so hand in one that is not needed afterwards.
    """
    device = next(model.parameters()).device
    model.to(memory_format=torch.channels_last)
    step = TrainingStep(model, recipe, steps_per_epoch=1000)
    generator = torch.Generator(device).manual_seed(0)

    def batch(size: int) -> LabelledImages:
        images = torch.randint(256, (size, *input_shape), dtype=torch.uint8, device=device, generator=generator)
        return LabelledImages(images, torch.randint(num_classes, (size,), device=device, generator=generator))

    def train_on(split: LabelledImages) -> Callable[[], object]:
        model.train()
        return lambda: step(split.images, split.labels, 0, generator)

    probe = batch(min(PROBE_BATCH, recipe.batch_size))
    probe_seconds = _windows(train_on(probe), device, repeats=1)[0]
    if probe_seconds / len(probe) * recipe.batch_size > PROBE_LIMIT:
        split, seconds = probe, [probe_seconds]
    else:
        split = batch(recipe.batch_size)
        seconds = _windows(train_on(split), device, REPEATS)
    eval_split = split if split is probe else batch(min(EVAL_BATCH, 4 * recipe.batch_size))
    eval_seconds = median(_windows(lambda: evaluate(model, eval_split, recipe), device, repeats=3))
    return Throughput(
        images_per_second=len(split) / median(seconds),
        slowest=len(split) / max(seconds),
        fastest=len(split) / min(seconds),
        eval_images_per_second=len(eval_split) / eval_seconds,
        batch_size=len(split),
    )


def _windows(work: Callable[[], object], device: torch.device, repeats: int) -> list[float]:
    """Seconds one call of `work` takes, from `repeats` windows of as many calls as fill WINDOW, after a warm-up."""
    work()
    calls = max(1, math.ceil(WINDOW / _timed(work, device, 1)))
    return [_timed(work, device, calls) / calls for _ in range(repeats)]


def _timed(work: Callable[[], object], device: torch.device, calls: int) -> float:
    _synchronize(device)
    started = time.perf_counter()
    for _ in range(calls):
        work()
    _synchronize(device)
    return time.perf_counter() - started


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
