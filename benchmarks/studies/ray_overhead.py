"""What Ray costs a unit: the same empty work on a local Ray cluster and in our own children, one after the other.

`python -m benchmarks.studies.ray_overhead --units 24` starts a head and one node in processes of this computer.
"""

import argparse
import os
import secrets
import statistics
import time

from benchmarks.execution import local
from benchmarks.execution.local import Executor
from benchmarks.execution.progress import Progress, Report
from benchmarks.execution.ray_cluster import RayExecutor


def nothing(report: Report, number: int) -> int:
    """The work."""
    return number


def seconds_each(runner: Executor, units: int) -> float:
    """Of a unit, when they run one after the other."""
    started = time.perf_counter()
    done = sum(
        1 for _ in runner.call_each("benchmarks.studies.ray_overhead:nothing", [(n,) for n in range(units)], 1, _ignore)
    )
    return (time.perf_counter() - started) / done


def _ignore(number: int, progress: Progress) -> None:
    """There is none."""


def main() -> None:
    """Prints both and their difference, as the median of several turns; the first turn, which loads torch, apart."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--units", type=int, default=24)
    parser.add_argument("--turns", type=int, default=5)
    options = parser.parse_args()
    os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    from ray.cluster_utils import Cluster as Processes

    processes = Processes(initialize_head=True, head_node_args={"num_cpus": 0})
    processes.add_node(num_cpus=1)
    os.environ["RAY_ADDRESS"] = processes.address
    try:
        with RayExecutor() as cluster:
            runners: dict[str, Executor] = {"children": local, "Ray": cluster}
            for name, runner in runners.items():
                print(f"{name}: {seconds_each(runner, 1):.2f} s for the first unit, which loads torch", flush=True)
            turns = [
                {name: seconds_each(runner, options.units) for name, runner in runners.items()}
                for _ in range(options.turns)
            ]
    finally:
        processes.shutdown()
    median = {name: statistics.median(turn[name] for turn in turns) for name in runners}
    for name, seconds in median.items():
        print(f"{name}: {seconds:.3f} s a unit (median of {options.turns} turns of {options.units})")
    print(f"Ray's overhead: {median['Ray'] - median['children']:.3f} s a unit")


if __name__ == "__main__":
    main()
