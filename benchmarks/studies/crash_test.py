"""Crash test: kill training runs at random moments, resume them, and compare them with an uninterrupted one.

`python -m benchmarks.studies.crash_test --kills 100` trains a small network on the digits repeatedly. A third of the
kills come at a random moment, a third during an evaluation, and a third while a checkpoint is written. Every training
run must end with bitwise identical weights and an identical history, except for the times. `--recipes all` repeats the
test with each recipe of `benchmarks.studies.crash_recipes`.
"""

import argparse
import hashlib
import json
import os
import random
import signal
import sys
import time
from collections import Counter
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.datasets.prepare import prepare_dataset
from benchmarks.definition.benchmark import Benchmark
from benchmarks.definition.config_parser import read_run_config
from benchmarks.definition.registry import get_benchmark
from benchmarks.execution.executor import WorkerFailed
from benchmarks.execution.local import LocalExecutor
from benchmarks.execution.progress import Progress, Report, silent
from benchmarks.records.store import RunRecord
from benchmarks.runs.run import Run
from benchmarks.studies.crash_recipes import PLAIN, RECIPES

SPEC = "resnet8+width=0.5+drop_path=0.2+dropout=0.1"  # uses every source of randomness
STAGES = ("at any moment", "evaluating", "writing a checkpoint")
# the kill comes at most this many seconds after the stage has begun
MAX_KILL_DELAY = {"at any moment": 1.5, "evaluating": 0.02, "writing a checkpoint": 0.01}


def train_with_reports(report: Report, run: Run) -> str:
    """Execute a run, reporting the start of each stage and this process's id. Return the digest of its outcome."""
    from benchmarks.runs.dispatch import execute_run
    from benchmarks.training import checkpoint, trainer

    def reporting(stage: str, function: Any) -> Any:
        def wrapped(*args: Any) -> Any:
            report(Progress(stage, os.getpid(), 0))
            return function(*args)

        return wrapped

    report(Progress("at any moment", os.getpid(), 0))
    vars(trainer)["evaluate"] = reporting("evaluating", vars(trainer)["evaluate"])
    vars(checkpoint)["replace_file"] = reporting("writing a checkpoint", vars(checkpoint)["replace_file"])
    return _digest(run, execute_run(silent, run))


def _digest(run: Run, record: RunRecord) -> str:
    """Return a hash of the final weights and of the history without its times."""
    from benchmarks.training.tensor_file import read_tensors

    tensors, _ = read_tensors(run.output_file("weights"))
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(name.encode() + tensor.numpy().tobytes())
    digest.update(json.dumps(record.numbers()).encode())
    return digest.hexdigest()


class Killer:
    """A `Report` that kills the training run that reports to it, once, in a randomly chosen stage."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.stage = rng.choice(STAGES)
        self.num_skipped = rng.randrange(4)  # occurrences of the stage before the kill
        self.has_killed = False

    def __call__(self, progress: Progress) -> None:
        if self.has_killed or progress.task != self.stage:
            return
        if self.num_skipped and self.stage != "at any moment":
            self.num_skipped -= 1
            return
        time.sleep(self.rng.random() * MAX_KILL_DELAY[self.stage])
        with suppress(ProcessLookupError):  # training has finished in the meantime
            os.kill(progress.done, signal.SIGKILL)
        self.has_killed = True


def train_until_finished(run: Run, rng: random.Random, kills: Counter[str], max_kills: int) -> str:
    """Start a training run, kill it `max_kills` times, let it finish, and return the digest of its result."""
    while True:
        killer = Killer(rng) if kills.total() < max_kills else None
        try:
            digest: str = LocalExecutor().call(
                "benchmarks.studies.crash_test:train_with_reports", killer or silent, run
            )
        except WorkerFailed as error:
            if "SIGKILL" not in str(error) or killer is None:
                raise
            kills[killer.stage] += 1
        else:
            return digest


def main(argv: list[str] | None = None) -> int:
    """Print the number of kills in each stage and the number of training runs with a different outcome."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0, help="seed for the random times of the kills")
    parser.add_argument("--benchmark", default="digits", help="a benchmark on the digits, or a TOML file")
    parser.add_argument("--recipes", nargs="+", choices=["all", *RECIPES], default=[PLAIN], help="recipes to test")
    options = parser.parse_args(argv)
    benchmark = get_benchmark(options.benchmark)
    recipe, rng, num_mismatches = replace(benchmark.recipe, epochs=options.epochs), random.Random(options.seed), 0
    for name in RECIPES if "all" in options.recipes else options.recipes:
        changed = replace(benchmark, recipe=replace(recipe, **RECIPES[name]))
        num_mismatches += count_mismatches(name, changed, rng, options.kills)
    return 1 if num_mismatches else 0


def count_mismatches(name: str, benchmark: Benchmark, rng: random.Random, max_kills: int) -> int:
    """Kill runs of a benchmark `max_kills` times in all. Return the number of runs with a different outcome.

    Args:
        name: The name of the recipe, for the output.
        benchmark: What to train.
        rng: Draws the moments of the kills.
        max_kills: Number of kills.
    """
    data, kills = prepare_dataset(benchmark.data, None), Counter[str]()
    num_trainings, num_mismatches = 0, 0
    with TemporaryDirectory() as folder:
        reference = Run(read_run_config(SPEC), benchmark, 0, data, "cpu", Path(folder, "reference"), SPEC, 0, 0, 0.0)
        expected = train_until_finished(reference, rng, kills, 0)
        while kills.total() < max_kills:
            num_trainings += 1
            run = replace(reference, out=Path(folder, str(num_trainings)))
            num_mismatches += train_until_finished(run, rng, kills, max_kills) != expected
            counts = f"{kills.total()} kills ({', '.join(f'{kills[stage]} {stage}' for stage in STAGES)})"
            print(f"{name}: {num_trainings} runs, {counts}: {num_mismatches} mismatches", flush=True)
    return num_mismatches


if __name__ == "__main__":
    sys.exit(main())
