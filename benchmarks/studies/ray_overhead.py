"""The overhead of Ray for one run: an empty function, called on a local Ray cluster and in worker processes.

`python -m benchmarks.studies.ray_overhead --calls 24` starts a cluster in processes of this computer.
"""

import argparse
import os
import secrets
import statistics
import time

from benchmarks.execution.executor import Executor
from benchmarks.execution.local import LocalExecutor
from benchmarks.execution.progress import Report, silent
from benchmarks.execution.ray_cluster import RayExecutor


def do_nothing(report: Report) -> None:
    """Return at once. Called in worker processes."""


def seconds_per_call(executor: Executor, calls: int) -> float:
    """Return the mean duration of calls that run one after another."""
    started = time.perf_counter()
    for _ in range(calls):
        executor.call("benchmarks.studies.ray_overhead:do_nothing", silent)
    return (time.perf_counter() - started) / calls


def main() -> None:
    """Print both durations and their difference, as medians over rounds, after a first call that loads torch."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=24, help="per round")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    cluster.add_node(num_cpus=1)
    os.environ["RAY_ADDRESS"] = cluster.address
    try:
        with RayExecutor() as ray_executor:
            executors: dict[str, Executor] = {"worker processes": LocalExecutor(), "Ray": ray_executor}
            for name, executor in executors.items():
                print(
                    f"{name}: {seconds_per_call(executor, 1):.2f} s for the first call, which loads torch", flush=True
                )
            rounds = [
                {name: seconds_per_call(executor, options.calls) for name, executor in executors.items()}
                for _ in range(options.rounds)
            ]
    finally:
        cluster.shutdown()
    medians = {name: statistics.median(seconds[name] for seconds in rounds) for name in executors}
    for name, seconds in medians.items():
        print(f"{name}: {seconds:.3f} s per call (median of {options.rounds} rounds of {options.calls} calls)")
    print(f"overhead of Ray: {medians['Ray'] - medians['worker processes']:.3f} s per call")


if __name__ == "__main__":
    main()
