"""What a device can do at most, and what share of it training reaches: `python -m benchmarks.studies.peak_throughput VERDICTS.jsonl`.

VERDICTS.jsonl: one `budget-check --json` a line. The matrix rate is that of one large product in the precision that
trains, the bandwidth that of copying a tensor that no cache holds, reading and writing counted.
"""

import argparse
import json
import time
from pathlib import Path
from statistics import median
from typing import Any

import torch

import benchmarks.execution.preload  # noqa: F401  # no warnings of torch.jit
from benchmarks.execution.device import device_name

REPEATS = 7  # windows; the median counts
WINDOW = 0.3  # seconds a window lasts at least
SIDES = {"cuda": 8192, "cpu": 1536}  # rows and columns of the matrices
COPIED = {"cuda": 2**30, "cpu": 2**27}  # float32 numbers
TRAINING_FLOPS = 6  # per MAC: two for the forward pass, four for the backward pass


def matrix_rate(device: torch.device, dtype: torch.dtype) -> float:
    """FLOP/s of a square matrix product."""
    side = SIDES[device.type]
    left, right = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    out = torch.empty_like(left)
    return 2 * side**3 / _seconds(lambda: torch.mm(left, right, out=out), device)


def copy_bandwidth(device: torch.device) -> float:
    """Bytes/s read and written by a copy within the device's memory."""
    source = torch.ones(COPIED[device.type], device=device)
    target = torch.empty_like(source)
    return 2 * source.nbytes / _seconds(lambda: target.copy_(source), device)


def _seconds(work: Any, device: torch.device) -> float:
    """Of one call: the median over windows."""

    def window(calls: int) -> float:
        started = time.perf_counter()
        for _ in range(calls):
            work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return (time.perf_counter() - started) / calls

    window(3)
    calls = max(3, round(WINDOW / window(3)))
    return median(window(calls) for _ in range(REPEATS))


def main() -> None:
    """Prints the limits and, for each verdict that was timed, what share of the matrix rate its training reaches."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("verdicts", type=Path, nargs="?")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    device = torch.device(options.device)
    dtype = torch.float16 if device.type == "cuda" else torch.float32
    rate, bandwidth = matrix_rate(device, dtype), copy_bandwidth(device)
    name = str(dtype).removeprefix("torch.")
    print(f"{device_name(options.device)}: {rate / 1e12:.3g} TFLOP/s in {name} matrix products, ", end="")
    print(f"{bandwidth / 1e9:.3g} GB/s copied, n = {REPEATS}")
    if options.verdicts is None:
        return
    print("\n| model | params | GMACs | img/s | predicted h | TFLOP/s | of the matrix rate |")
    print("|:--|--:|--:|--:|--:|--:|--:|")
    for verdict in map(json.loads, options.verdicts.read_text().splitlines()):
        if verdict["throughput"] and verdict["macs"]:
            speed = verdict["throughput"]["training"]["median"]
            flops = TRAINING_FLOPS * verdict["macs"] * speed
            cost = f"{verdict['cost']['params']:,} | {verdict['macs'] / 1e9:.3f}"
            share = f"{flops / 1e12:.3g} | {100 * flops / rate:.1f}%"
            print(f"| {verdict['model']} | {cost} | {speed:,.0f} | {verdict['hours']['predicted']:.3f} | {share} |")


if __name__ == "__main__":
    main()
