"""How many trainings share a GPU best: one small net does not fill a big one. Found by measuring; the parent's side."""

import argparse
import sys
from pathlib import Path
from typing import Any

from benchmarks.execution import local
from benchmarks.definition.benchmark import get_benchmark
from benchmarks.budget.verdict import Verdict
from benchmarks.execution.device import resolve_device
from benchmarks.execution.progress import Progress, Report
from benchmarks.datasets.cache import prepare
from benchmarks.definition.overrides import read_run_config
from benchmarks.runs.run import Run

NUMBERS = (2, 4, 8)  # tried one after the other, as long as each is worth it
WORTH = 1.1  # times the images/s of all together that a larger number has to bring
MEMORY_SHARE = 0.8  # of the device's memory that all together may take


def best_number(run: Run, verdict: Verdict, runs: int, report: Report) -> int:
    """How many of `runs` trainings like `run`'s to run at once.

    1 on a CPU, whose cores one training uses already (measured: benchmarks/results/), and for a single run.
    """
    if not run.device.startswith("cuda") or runs == 1 or verdict.throughput is None:
        return 1
    best, speed = 1, verdict.throughput.training.median
    peak = verdict.throughput.peak_memory or 0
    for number in (number for number in NUMBERS if number <= runs):
        report(Progress("timing trainings side by side", NUMBERS.index(number), len(NUMBERS), f"{number} at once"))
        together = measure(run, number, peak)
        if together < WORTH * speed:
            break
        best, speed = number, together
    return best


def measure(run: Run, number: int, peak: int) -> float:
    """Images/s of so many trainings together; 0 where they do not fit.

    peak: bytes that one takes at its highest.
    """
    meeting = local.CONTEXT.Barrier(number)
    arguments: list[tuple[Any, ...]] = [(run, meeting, MEMORY_SHARE / number, peak)] * number
    together = 0.0
    for _, outcome in local.call_each("benchmarks.runs.shared_device_timing:images_per_second", arguments, number, _ignore):
        if not isinstance(outcome, float):  # leaving ends the others, which would wait for it
            print(f"{number} trainings side by side cannot run: {outcome}", file=sys.stderr)
            return 0.0
        together += outcome
    return together


def _ignore(number: int, progress: Progress) -> None:
    """Nothing of it is worth saying."""


def main() -> None:
    """Prints the images/s of several numbers of trainings: `python -m benchmarks.runs.runs_per_device resnet8 resnet18`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("specs", nargs="+")
    parser.add_argument("--benchmark", default="cifar100")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--numbers", type=int, nargs="+", default=[1, *NUMBERS])
    options = parser.parse_args()
    benchmark = get_benchmark(options.benchmark)
    cached, device = prepare(benchmark.data, options.data), resolve_device(options.device)
    print("| spec | trainings | img/s together | against one |", "|:--|--:|--:|--:|", sep="\n")
    for spec in options.specs:
        run = Run(read_run_config(spec, benchmark.baseline), benchmark, 0, cached, device, Path(), spec, 0, 0, 0.0)
        alone = measure(run, 1, 0)
        for number in options.numbers:
            together = alone if number == 1 else measure(run, number, 0)
            ratio = f"{together / alone:.2f}" if alone else ""
            print(f"| {spec} | {number} | {together:,.0f} | {ratio} |", flush=True)


if __name__ == "__main__":
    main()
