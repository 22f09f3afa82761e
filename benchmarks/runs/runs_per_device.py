"""Choose by measurement how many runs train on a GPU at once, since one small network leaves a large GPU mostly idle.

`python -m benchmarks.runs.runs_per_device resnet8 resnet18` prints the throughput for several numbers.
"""

import argparse
import sys
from pathlib import Path

from benchmarks.budget.verdict import Verdict
from benchmarks.datasets.prepare import prepare_dataset
from benchmarks.definition.config_parser import read_run_config
from benchmarks.definition.registry import get_benchmark
from benchmarks.execution.device import resolve_device
from benchmarks.execution.local import LocalExecutor
from benchmarks.execution.progress import Progress, Report, silent
from benchmarks.execution.worker_process import PROCESS_CONTEXT
from benchmarks.runs.run import Run

CANDIDATES = (2, 4, 8)  # numbers of runs per device, tried in this order while each is fast enough
MIN_SPEEDUP = 1.1  # total images/s relative to the next smaller number
CONTEXT_BYTES = 2**29  # CUDA's own memory in each process
MEMORY_SHARE = 0.8  # fraction of the device's free memory, for all runs together


def best_runs_per_device(run: Run, verdict: Verdict, num_runs: int, report: Report) -> int:
    """Return how many of `num_runs` runs like `run` should train on the device at once.

    The result is 1 on a CPU, whose cores one run keeps busy (measured: benchmarks/results/), and for a single run. The
    measured speeds are kept with those of a single run.

    Args:
        run: The run that needs the most memory.
        verdict: The budget check of its model, with the throughput of one training run.
        num_runs: The number of runs to come.
        report: Called with progress updates of the measurements.
    """
    if not run.device.startswith("cuda") or num_runs == 1 or verdict.throughput is None:
        return 1
    best, best_throughput = 1, verdict.throughput.training.median
    image_counts = run.data.counts(run.benchmark.data, split=run.split)
    peak_memory = (verdict.throughput.peak_memory or 0) + run.benchmark.bytes_on_device(image_counts) + CONTEXT_BYTES
    cached = read_cached_throughputs(run, peak_memory)
    throughputs = dict(cached)
    for number in (number for number in CANDIDATES if number <= num_runs):
        if number not in throughputs:
            task, note = "measuring runs per device", f"{number} at once"
            report(Progress(task, CANDIDATES.index(number), len(CANDIDATES), note))
            throughputs[number] = measure_total_throughput(run, number, peak_memory)
        throughput = throughputs[number]
        if throughput < MIN_SPEEDUP * best_throughput:
            break
        best, best_throughput = number, throughput
    if throughputs != cached:
        cache_throughputs(run, throughputs)
    return best


def read_cached_throughputs(run: Run, peak_memory: int) -> dict[int, float]:
    """Return the total images/s that were measured before, by the number of runs, of those that fit on the device now.

    Args:
        run: What to train.
        peak_memory: See `measure_total_throughput`.
    """
    function = "benchmarks.runs.shared_device_timing:read_cached"
    shared: dict[str, float] = LocalExecutor().call(function, silent, run, peak_memory, MEMORY_SHARE)
    return {int(number): throughput for number, throughput in shared.items()}


def cache_throughputs(run: Run, throughputs: dict[int, float]) -> None:
    """Keep the total images/s for the next command, except for numbers of runs that did not fit on the device."""
    shared = {str(number): throughput for number, throughput in throughputs.items() if throughput}
    LocalExecutor().call(
        "benchmarks.budget.measurement:write_shared", silent, run.config, run.benchmark, run.device, shared
    )


def measure_total_throughput(run: Run, number: int, peak_memory: int) -> float:
    """Return the total images/s of `number` concurrent runs; 0 if they do not fit on the device.

    Args:
        run: What to train.
        number: The number of runs.
        peak_memory: Peak memory of one training run with its images and its process, in bytes.
    """
    barrier = PROCESS_CONTEXT.Barrier(number)
    function = "benchmarks.runs.shared_device_timing:images_per_second"
    total = 0.0
    with LocalExecutor().session(number) as session:
        for _ in range(number):
            session.submit(function, run, barrier, MEMORY_SHARE / number, peak_memory)
        while futures := session.wait():
            for future in futures:
                # Returning closes the session, which kills the other processes. They would wait at the barrier.
                if isinstance(future.outcome, Exception):
                    print(f"{number} runs per device are not possible: {future.outcome}", file=sys.stderr)
                    return 0.0
                total += future.outcome
    return total


def main() -> None:
    """Print a table of throughputs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("specs", nargs="+")
    parser.add_argument("--benchmark", default="cifar100")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--numbers", type=int, nargs="+", default=[1, *CANDIDATES])
    options = parser.parse_args()
    benchmark = get_benchmark(options.benchmark)
    dataset, device = prepare_dataset(benchmark.data, options.data), resolve_device(options.device)
    print("| spec | runs per device | total images/s | relative to 1 run |", "|:--|--:|--:|--:|", sep="\n")
    for spec in options.specs:
        run = Run(read_run_config(spec, benchmark.baseline), benchmark, 0, dataset, device, Path(), spec, 0, 0, 0.0)
        single = measure_total_throughput(run, 1, 0)
        for number in options.numbers:
            total = single if number == 1 else measure_total_throughput(run, number, 0)
            ratio = f"{total / single:.2f}" if single else ""
            print(f"| {spec} | {number} | {total:,.0f} | {ratio} |", flush=True)


if __name__ == "__main__":
    main()
