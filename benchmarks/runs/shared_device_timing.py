"""Time one of several training runs that share a device. `benchmarks.runs.runs_per_device` starts them."""

import time
from collections.abc import Callable
from typing import Any

import torch

from benchmarks.budget.measurement import read_shared
from benchmarks.budget.memory import free_memory
from benchmarks.execution.device import use_device
from benchmarks.execution.progress import Report
from benchmarks.runs.run import Run
from benchmarks.training.determinism import deterministically
from benchmarks.training.loaded_images import with_loader
from benchmarks.training.models import distiller_for_timing, fresh_model
from benchmarks.training.step import StepOptions, TrainingStep, random_images
from benchmarks.training.teacher_logits import with_teacher_logits
from benchmarks.training.trainer import train_epoch

BARRIER_TIMEOUT = 180.0  # seconds within which all processes must reach each barrier
MEASURED_SECONDS = 3.0
STEPS_PER_CHECK = 20  # training steps between two checks of the clock


def images_per_second(report: Report, run: Run, barrier: Any, memory_share: float, peak_memory: int) -> float:
    """Train on random images at the same time as the other processes, and return this process's images/s.

    Args:
        report: Unused.
        run: What to train.
        barrier: A `multiprocessing.Barrier` of all processes. It is broken if this one fails, so that none waits.
        memory_share: The part of the device's free memory that this process may use.
        peak_memory: Peak memory of the training run, in bytes.

    Raises:
        MemoryError: If the training runs do not fit on the device.
    """
    try:
        use_device(run.device)
        if peak_memory > memory_share * free_memory(run.device):
            raise MemoryError("they do not fit in the device's memory")
        barrier.wait(BARRIER_TIMEOUT)  # before any process allocates memory
        train_steps = deterministically(lambda: _prepare(run, barrier.parties))
        barrier.wait(BARRIER_TIMEOUT)
        started, num_images = time.perf_counter(), 0
        while time.perf_counter() < started + MEASURED_SECONDS:
            num_images += train_steps()
        throughput = num_images / (time.perf_counter() - started)
        barrier.wait(BARRIER_TIMEOUT)  # before any process finishes and stops using the device
    except BaseException:
        barrier.abort()
        raise
    return throughput


def read_cached(report: Report, run: Run, peak_memory: int, memory_share: float) -> dict[str, float]:
    """Return the cached total images/s by the number of runs, without numbers that do not fit on the device now.

    Args:
        report: Unused.
        run: What to train.
        peak_memory: Peak memory of the training run, in bytes.
        memory_share: The part of the device's free memory that all runs together may use.
    """
    shared = read_shared(run.config, run.benchmark, run.device, run.compile_mode)
    free = free_memory(run.device)
    return {number: speed for number, speed in shared.items() if int(number) * peak_memory <= memory_share * free}


def _prepare(run: Run, trainings: int) -> Callable[[], int]:
    """Return a warmed-up function that trains a few steps, waits for the device and returns the number of images."""
    data, recipe, device = run.benchmark.data, run.benchmark.recipe, torch.device(run.device)
    model = fresh_model(run.config.architecture, run.benchmark).to(device).to(memory_format=torch.channels_last)
    distiller = distiller_for_timing(run.config, run.benchmark, device)
    step = TrainingStep(model, recipe, 1000, StepOptions(run.compile_mode, distiller=distiller))
    generator = torch.Generator(device).manual_seed(0)
    images = random_images(STEPS_PER_CHECK * recipe.batch_size, data.input_shape, data.num_classes, generator)
    split = with_loader(with_teacher_logits(images, step), recipe, trainings)

    def train_steps() -> int:
        return train_epoch(step, split, STEPS_PER_CHECK)[2]

    train_steps()
    return train_steps
