"""Check the budget of a spec as `ablate run` does before training: also compiled, with a measurement that it reuses.

    python -m benchmarks.studies.gpu_session.timed_check SPEC [--benchmark cifar100] [--data DIR] [--device cuda]

prints the verdict as JSON. `budget-check` does not use cached measurements, and compiles only a model that would
otherwise be over its hours.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path

from benchmarks.budget.profile import NO_PROFILE, with_budget_device
from benchmarks.datasets.prepare import prepare_dataset
from benchmarks.definition.registry import get_benchmark
from benchmarks.execution.device import resolve_device
from benchmarks.execution.local import LocalExecutor
from benchmarks.execution.progress import silent


def main() -> None:
    """Print the verdict."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("spec")
    parser.add_argument("--benchmark", default="cifar100")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--device", default="auto")
    parser.add_argument(
        "--max-hours", type=float, help="limit of this check; a model far over it in eager mode is not compiled"
    )
    options = parser.parse_args()
    benchmark = with_budget_device(get_benchmark(options.benchmark), NO_PROFILE)
    device = resolve_device(options.device)
    if options.max_hours is not None:
        benchmark = replace(benchmark, budget=replace(benchmark.budget, max_hours=options.max_hours))
    counts = prepare_dataset(benchmark.data, options.data).counts(benchmark.data)
    function = "benchmarks.budget.check:check_specs"
    (verdict,) = LocalExecutor().call(function, silent, {options.spec: 1}, benchmark, device, counts)
    print(json.dumps(verdict.to_json()))


if __name__ == "__main__":
    main()
