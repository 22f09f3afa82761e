"""Measure a device's peak throughput, and the share of it that training reaches.

    python -m benchmarks.studies.peak_throughput [VERDICTS.jsonl] [--device cuda] [--precision fp16]

VERDICTS.jsonl contains one line of `budget-check --json` per model. The peak is that of one large matrix product in the
training precision. The memory bandwidth is that of copying a tensor that is too large for any cache, counting both
reads and writes.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch

import benchmarks.execution.preload  # noqa: F401  # suppresses warnings of torch.jit
from benchmarks.budget.memory import free_memory
from benchmarks.execution.device import device_name

NUM_PEAK_WINDOWS = 7  # the median is used
MIN_PEAK_WINDOW_SECONDS = 0.3
MATRIX_SIZES = {"cuda": 8192, "cpu": 1536}  # rows and columns
COPY_SIZES = {"cuda": 2**30, "cpu": 2**27}  # float32 elements, if the device has enough memory
MAX_SHARE_OF_MEMORY = 1 / 16  # of the free memory, for each of the two tensors that are copied
DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}  # by precision of a recipe
TRAINING_FLOPS_PER_MAC = 6  # 2 in the forward pass, 4 in the backward pass


def matrix_throughput(device: torch.device, dtype: torch.dtype) -> float:
    """Return the FLOP/s of a square matrix product."""
    size = MATRIX_SIZES[device.type]
    left, right = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    out = torch.empty_like(left)
    return 2 * size**3 / _seconds_per_call(lambda: torch.mm(left, right, out=out), device)


def copy_bandwidth(device: torch.device) -> float:
    """Return the memory bandwidth of a copy within the device's memory: bytes read plus bytes written, per second."""
    limit = int(MAX_SHARE_OF_MEMORY * free_memory(str(device))) // torch.float32.itemsize
    source = torch.ones(min(COPY_SIZES[device.type], limit), device=device)
    target = torch.empty_like(source)
    return 2 * source.nbytes / _seconds_per_call(lambda: target.copy_(source), device)


def _seconds_per_call(work: Callable[[], object], device: torch.device) -> float:
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


def format_table(verdicts: list[dict[str, Any]], peak: float) -> str:
    """Return a Markdown table with a row for each model that was timed and counted.

    Args:
        verdicts: Verdicts of the budget check.
        peak: Peak matrix throughput, in FLOP/s.
    """
    lines = [
        "| model | params | GMACs | img/s | predicted h | TFLOP/s | % of peak |",
        "|:--|--:|--:|--:|--:|--:|--:|",
    ]
    for verdict in verdicts:
        if verdict["throughput"] and verdict["macs"]:
            speed = verdict["throughput"]["training"]["median"]
            flops = TRAINING_FLOPS_PER_MAC * verdict["macs"] * speed
            cost = f"{verdict['cost']['params']:,} | {verdict['macs'] / 1e9:.3f}"
            share = f"{flops / 1e12:.3g} | {100 * flops / peak:.1f}%"
            hours = verdict["hours"]["predicted"]
            lines.append(f"| {verdict['model']} | {cost} | {speed:,.0f} | {hours:.3f} | {share} |")
    return "\n".join(lines)


def main() -> None:
    """Print the peak throughput and, if there are verdicts, the share of it that each model's training reaches."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("verdicts", type=Path, nargs="?", help="file with one line of `budget-check --json` per model")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--precision", choices=DTYPES, help="of the recipe; default: fp16 on a GPU, fp32 on a CPU")
    options = parser.parse_args()
    device = torch.device(options.device)
    dtype = DTYPES[options.precision or ("fp16" if device.type == "cuda" else "fp32")]
    peak, bandwidth = matrix_throughput(device, dtype), copy_bandwidth(device)
    print(
        f"{device_name(options.device)}: {peak / 1e12:.3g} TFLOP/s in {str(dtype).removeprefix('torch.')} matrix "
        f"products, {bandwidth / 1e9:.3g} GB/s copied, n = {NUM_PEAK_WINDOWS}"
    )
    if options.verdicts is not None:
        print(f"\n{format_table([json.loads(line) for line in options.verdicts.read_text().splitlines()], peak)}")


if __name__ == "__main__":
    main()
