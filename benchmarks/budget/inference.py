"""Measure inference: the latency of single images and of batches, and its peak memory."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import torch
from torch import Tensor

from arch.errors import InputError
from benchmarks.budget.builders import Builder, config_builder
from benchmarks.budget.cost import materialize
from benchmarks.budget.measurement import Measurement
from benchmarks.budget.memory import is_out_of_memory
from benchmarks.budget.performance import Inference, Latency, device_precision
from benchmarks.budget.request import CheckRequest
from benchmarks.budget.tensor_memory import peak_tensor_memory
from benchmarks.budget.throughput import DoesNotFit
from benchmarks.budget.verdict import Verdict
from benchmarks.definition.benchmark import Benchmark
from benchmarks.definition.config_parser import read_run_config
from benchmarks.execution.device import device_name, use_device
from benchmarks.execution.progress import Progress, Report
from benchmarks.training.determinism import deterministically
from benchmarks.training.evaluation import compute_logits
from benchmarks.training.step import random_images

MIN_SECONDS = 2.0  # of timed calls
MAX_SECONDS = 10.0  # a slow model is called fewer times
MAX_CALLS = 1000
MIN_CALLS_FOR_P99 = 100  # with fewer calls, at most the slowest one is above the 99th percentile
MAX_WARM_UP_CALLS = 10
MAX_WARM_UP_SECONDS = 1.0


def add_inference(verdict: Verdict, builder: Builder, request: CheckRequest) -> Verdict:
    """Measure inference as the request asks, and add it to the verdict; a note says why it was not measured.

    Args:
        verdict: The verdict on the cost. A model with too many parameters is not built.
        builder: Builds the model.
        request: The benchmark, the device and the batch size.
    """
    budget, batch_size = request.benchmark.budget, request.inference_batch
    if verdict.unjudged:
        return verdict
    if verdict.cost.params > budget.max_params:
        return _not_measured(verdict, "the model has too many parameters")
    try:
        return replace(verdict, inference=measure_inference(builder, request.benchmark, request.device, batch_size))
    except DoesNotFit as error:
        return _not_measured(verdict, str(error))


def _not_measured(verdict: Verdict, reason: str) -> Verdict:
    return replace(verdict, notes=(*verdict.notes, f"inference not measured: {reason}"))


def measure_specs(
    report: Report, specs: Sequence[str], benchmark: Benchmark, device: str, batch_size: int
) -> list[Inference]:
    """Return the inference of several specs, in their order. Cached measurements of this device are used again.

    Args:
        report: Called with progress updates.
        specs: The specs; they have passed the budget check.
        benchmark: Images and recipe.
        device: "cpu", "cuda", "cuda:1"...
        batch_size: Images per batch.

    Raises:
        InputError: If a batch does not fit in the memory of the device.
    """
    results: list[Inference] = []
    for spec in specs:
        report(Progress("timing inference", len(results), len(specs), spec))
        config = read_run_config(spec, benchmark.baseline)
        measurement = Measurement.read(config, benchmark, device)
        inference = measurement.inference
        if inference is None or inference.batch.batch_size != batch_size:
            try:
                inference = measure_inference(config_builder(config, benchmark), benchmark, device, batch_size)
            except DoesNotFit as error:
                raise InputError(f"the inference of {spec} cannot be measured: {error}") from error
            measurement.inference = inference
            measurement.write()
        results.append(inference)
    return results


def measure_inference(builder: Builder, benchmark: Benchmark, device: str, batch_size: int) -> Inference:
    """Time forward passes on random images as an evaluation runs them: deterministic, and without gradients.

    Args:
        builder: Builds the model.
        benchmark: Shape of the images, precision and normalization.
        device: "cpu", "cuda", "cuda:1"...
        batch_size: Images per batch.

    Raises:
        DoesNotFit: If the memory of the device is too small.
    """
    use_device(device)
    try:
        return deterministically(lambda: _measure(builder, benchmark, torch.device(device), batch_size))
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise DoesNotFit(f"a batch of {batch_size} does not fit in the memory of this device") from error


@torch.no_grad()
def _measure(builder: Builder, benchmark: Benchmark, device: torch.device, batch_size: int) -> Inference:
    data, recipe = benchmark.data, benchmark.recipe
    model = materialize(builder(), data.input_shape).to(device).to(memory_format=torch.channels_last)
    model.eval()
    generator = torch.Generator(device).manual_seed(0)

    def images(count: int) -> Tensor:
        return random_images(count, data.input_shape, data.num_classes, generator).images

    def latency(batch: Tensor) -> Latency:
        return _latency(lambda: compute_logits(model, batch, recipe), len(batch), device)

    single, batch = latency(images(1)), latency(images(batch_size))
    memory = peak_tensor_memory(model, lambda: compute_logits(model, images(batch_size), recipe), device)
    precision, today = device_precision(recipe, device.type), datetime.now(UTC).date().isoformat()
    return Inference(single, batch, memory, precision, device_name(str(device)), today)


def _latency(work: Callable[[], object], batch_size: int, device: torch.device) -> Latency:
    """Time single calls, each until the device has finished it."""
    warm_up_seconds = 0.0
    for _ in range(MAX_WARM_UP_CALLS):
        warm_up_seconds += _seconds(work, device)
        if warm_up_seconds > MAX_WARM_UP_SECONDS:
            break
    calls: list[float] = []
    total = 0.0
    while len(calls) < MAX_CALLS and total < MAX_SECONDS and (len(calls) < MIN_CALLS_FOR_P99 or total < MIN_SECONDS):
        calls.append(_seconds(work, device))
        total += calls[-1]
    return summarize_calls(calls, batch_size)


def _seconds(work: Callable[[], object], device: torch.device) -> float:
    started = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started


def summarize_calls(seconds: Sequence[float], batch_size: int) -> Latency:
    """Return the latency of calls, with the 99th percentile only if there are enough calls."""
    mean, milliseconds = float(np.mean(seconds)), 1000 * np.asarray(seconds)
    p50, p99 = (float(np.quantile(milliseconds, share)) for share in (0.5, 0.99))
    return Latency(
        batch_size=batch_size,
        calls=len(seconds),
        mean=1000 * mean,
        p50=p50,
        p99=p99 if len(seconds) >= MIN_CALLS_FOR_P99 else None,
        images_per_second=batch_size / mean,
    )
