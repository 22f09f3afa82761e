"""One of several trainings that are timed while they share a device; the child's side of `benchmarks.runs.runs_per_device`."""

import time
from collections.abc import Callable
from typing import Any

import torch

from benchmarks.budget.memory import free_memory
from benchmarks.training.models import distiller_to_time
from benchmarks.training.models import fresh_model
from benchmarks.execution.progress import Report
from benchmarks.training.step import TrainingStep, random_images
from benchmarks.training.trainer import make_deterministic, train_epoch
from benchmarks.runs.run import Run

PATIENCE = 180.0  # seconds that all have to be ready within
SECONDS = 3.0  # that are timed
STEPS = 20  # between two looks at the clock


def images_per_second(report: Report, run: Run, meeting: Any, share: float, peak: int) -> float:
    """Trains on random images while the others do, and returns its own speed.

    meeting: a barrier for all of them. share, peak: the part of the free memory that one may take, and bytes it takes.
    Raises MemoryError where they do not fit; nobody waits for one that cannot go on.
    """
    try:
        if peak > share * free_memory(run.device):
            raise MemoryError("they do not fit side by side")
        meeting.wait(PATIENCE)  # before anybody takes memory
        train_once = _prepared(run)
        meeting.wait(PATIENCE)
        started, seen = time.perf_counter(), 0
        while time.perf_counter() < started + SECONDS:
            seen += train_once()
        speed = seen / (time.perf_counter() - started)
        meeting.wait(PATIENCE)  # before anybody leaves the device to the others
    except BaseException:
        meeting.abort()
        raise
    return speed


def _prepared(run: Run) -> Callable[[], int]:
    """Trains on a few batches, waits for the device, and returns the number of images; warmed up."""
    make_deterministic()
    data, recipe, device = run.benchmark.data, run.benchmark.recipe, torch.device(run.device)
    model = fresh_model(run.config.architecture, run.benchmark).to(device).to(memory_format=torch.channels_last)
    distiller = distiller_to_time(run.config, run.benchmark, device)
    step = TrainingStep(model, recipe, 1000, run.compile_mode, distiller=distiller)
    generator = torch.Generator(device).manual_seed(0)
    split = random_images(STEPS * recipe.batch_size, data.input_shape, data.num_classes, generator)

    def train_once() -> int:
        return train_epoch(step, split, STEPS)[2]

    train_once()
    return train_once
