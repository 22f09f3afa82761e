"""Measure a device's peak throughput, that of one large matrix product, once per device and precision."""

import json
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from datetime import UTC, datetime
from statistics import median

import torch

from benchmarks.budget.device_cache import cache_file, device_versions
from benchmarks.budget.performance import PeakThroughput
from benchmarks.definition.validation import strict_adapter
from benchmarks.execution.device import device_name, use_device
from benchmarks.execution.progress import Progress, Report
from benchmarks.records.atomic_write import replace_file
from benchmarks.training.determinism import make_deterministic

NUM_PEAK_WINDOWS = 7  # the median is used
MIN_PEAK_WINDOW_SECONDS = 0.3
MATRIX_SIZES = {"cuda": 8192, "cpu": 1536}  # rows and columns
DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}  # by precision of a recipe


def peak_throughput(report: Report, device: str, precision: str, remeasure: bool = False) -> PeakThroughput:
    """Return the peak of a device from the cache, or measure it.

    Args:
        report: Called with progress updates.
        device: "cpu", "cuda", "cuda:1"...
        precision: "fp16", "bf16" or "fp32".
        remeasure: Whether to measure it even if it is cached.
    """
    path = cache_file("peaks", precision, device)
    if not remeasure:
        with suppress(OSError, ValueError):
            cached: PeakThroughput = strict_adapter(PeakThroughput).validate_json(path.read_bytes())
            return cached
    report(Progress("measuring the device's peak throughput", 0, 1, precision))
    use_device(device)
    make_deterministic()  # as in training; float32 products are not rounded to TF32
    flops = matrix_throughput(torch.device(device), DTYPES[precision])
    today = datetime.now(UTC).date().isoformat()
    peak = PeakThroughput(flops, precision, device_name(device), device_versions(device), today)
    with suppress(OSError):  # an unwritable cache: it is measured again next time
        replace_file(path, lambda file: file.write_text(json.dumps(asdict(peak))))
    return peak


def matrix_throughput(device: torch.device, dtype: torch.dtype) -> float:
    """Return the FLOP/s of a square matrix product."""
    size = MATRIX_SIZES[device.type]
    left, right = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    out = torch.empty_like(left)
    return 2 * size**3 / seconds_per_call(lambda: torch.mm(left, right, out=out), device)


def seconds_per_call(work: Callable[[], object], device: torch.device) -> float:
    """Return the median seconds per call over several windows."""

    def time_window(num_calls: int) -> float:
        started = time.perf_counter()
        for _ in range(num_calls):
            work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return (time.perf_counter() - started) / num_calls

    time_window(3)  # warm-up
    num_calls = max(3, round(MIN_PEAK_WINDOW_SECONDS / time_window(3)))
    return median(time_window(num_calls) for _ in range(NUM_PEAK_WINDOWS))
