"""Measure a device's peak throughput, and the share of it that training reaches.

    python -m benchmarks.studies.peak_throughput [VERDICTS.jsonl] [--device cuda] [--precision fp16]

VERDICTS.jsonl contains one line of `budget-check --json` per model. The peak is that of one large matrix product in the
training precision. The memory bandwidth is that of copying a tensor that is too large for any cache, counting both
reads and writes.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import torch

import benchmarks.execution.preload  # noqa: F401  # suppresses warnings of torch.jit
from benchmarks.budget.memory import free_memory
from benchmarks.budget.peak import DTYPES, NUM_PEAK_WINDOWS, matrix_throughput, seconds_per_call
from benchmarks.budget.performance import training_flops
from benchmarks.execution.device import device_name

COPY_SIZES = {"cuda": 2**30, "cpu": 2**27}  # float32 elements, if the device has enough memory
MAX_SHARE_OF_MEMORY = 1 / 16  # of the free memory, for each of the two tensors that are copied


def copy_bandwidth(device: torch.device) -> float:
    """Return the memory bandwidth of a copy within the device's memory: bytes read plus bytes written, per second."""
    limit = int(MAX_SHARE_OF_MEMORY * free_memory(str(device))) // torch.float32.itemsize
    source = torch.ones(min(COPY_SIZES[device.type], limit), device=device)
    target = torch.empty_like(source)
    return 2 * source.nbytes / seconds_per_call(lambda: target.copy_(source), device)


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
            flops = training_flops(verdict["macs"], speed)
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
    parser.add_argument("--json", action="store_true", help="print the peak as JSON")
    options = parser.parse_args()
    device = torch.device(options.device)
    precision = options.precision or ("fp16" if device.type == "cuda" else "fp32")
    dtype = DTYPES[precision]
    peak, bandwidth = matrix_throughput(device, dtype), copy_bandwidth(device)
    if options.json:
        figures = {"flops": peak, "precision": precision, "bytes_per_second": bandwidth, "n": NUM_PEAK_WINDOWS}
        print(json.dumps({"device": device_name(options.device), **figures}))
        return
    print(
        f"{device_name(options.device)}: {peak / 1e12:.3g} TFLOP/s in {str(dtype).removeprefix('torch.')} matrix "
        f"products, {bandwidth / 1e9:.3g} GB/s copied, n = {NUM_PEAK_WINDOWS}"
    )
    if options.verdicts is not None:
        print(f"\n{format_table([json.loads(line) for line in options.verdicts.read_text().splitlines()], peak)}")


if __name__ == "__main__":
    main()
