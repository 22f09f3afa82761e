"""Kills trainings at random moments until they end, and compares them with an unbroken one.

`python -m benchmarks.studies.crash_test --kills 100` trains a small net on real digits over and over. A third of the kills come at
any moment, a third while it evaluates, a third while it writes a checkpoint. What it ends in must be equal to the bit:
the weights, and the history but for the times.
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

from benchmarks.datasets.cache import prepare
from benchmarks.definition.benchmark import get_benchmark
from benchmarks.definition.overrides import read_run_config
from benchmarks.execution import local
from benchmarks.execution.progress import Progress, Report
from benchmarks.records.store import RunRecord
from benchmarks.runs.run import Run

SPEC = "resnet8+width=0.5+drop_path=0.2+dropout=0.1"  # random draws of each kind
STAGES = ("at any moment", "evaluating", "writing a checkpoint")
SPREAD = {"at any moment": 1.5, "evaluating": 0.02, "writing a checkpoint": 0.01}  # seconds after a stage has begun


def train_telling(report: Report, run: Run) -> tuple[str, RunRecord]:
    """Runs the run, and reports when it begins to evaluate or to write. Returns the hash of what it ended in."""
    from benchmarks.runs.dispatch import execute_run
    from benchmarks.training import checkpoint, trainer

    def told(stage: str, work: Any) -> Any:
        def wrapped(*arguments: Any) -> Any:
            report(Progress(stage, os.getpid(), 0))
            return work(*arguments)

        return wrapped

    report(Progress("at any moment", os.getpid(), 0))
    trainer.evaluate = told("evaluating", trainer.evaluate)
    vars(checkpoint)["replace_file"] = told("writing a checkpoint", vars(checkpoint)["replace_file"])
    result = execute_run(lambda progress: None, run)
    return _digest(run, result), result


def _digest(run: Run, result: RunRecord) -> str:
    """Of the final weights and of the history without its times."""
    from benchmarks.training.checkpoint import read_tensors

    tensors, _ = read_tensors(run.kept("weights"))
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(name.encode() + tensor.numpy().tobytes())
    digest.update(json.dumps(result.numbers()).encode())
    return digest.hexdigest()


class Killer:
    """Kills the training that it is told of, once, in a stage chosen by chance."""

    def __init__(self, rng: random.Random, stages: tuple[str, ...] = STAGES) -> None:
        self.rng = rng
        self.stage = rng.choice(stages)
        self.skip = rng.randrange(4)  # times that the stage is left alone
        self.killed = False

    def __call__(self, number: int, progress: Progress) -> None:
        if self.killed or progress.task != self.stage:
            return
        if self.skip and self.stage != "at any moment":
            self.skip -= 1
            return
        time.sleep(self.rng.random() * SPREAD[self.stage])
        with suppress(ProcessLookupError):  # it has come to its end meanwhile
            os.kill(progress.done, signal.SIGKILL)
        self.killed = True


def until_it_ends(run: Run, rng: random.Random, kills: Counter[str], wanted: int) -> str:
    """Starts the training again and again, until `wanted` kills are done and it comes to its end."""
    while True:
        killer = Killer(rng) if kills.total() < wanted else (lambda number, progress: None)
        [(_, outcome)] = local.call_each("benchmarks.studies.crash_test:train_telling", [(run,)], 1, killer)
        if isinstance(outcome, tuple):
            return str(outcome[0])
        if "SIGKILL" not in str(outcome) or not isinstance(killer, Killer):
            raise outcome
        kills[killer.stage] += 1


def main(argv: list[str] | None = None) -> int:
    """Prints how many kills there were in each stage, and how many trainings ended in something else."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0, help="of when and where to kill")
    options = parser.parse_args(argv)
    benchmark = get_benchmark("digits")
    benchmark = replace(benchmark, recipe=replace(benchmark.recipe, epochs=options.epochs))
    data, rng, kills = prepare(benchmark.data, None), random.Random(options.seed), Counter[str]()
    with TemporaryDirectory() as folder:
        whole = Run(read_run_config(SPEC), benchmark, 0, data, "cpu", Path(folder, "whole"), SPEC, 0, 0, 0.0)
        expected = until_it_ends(whole, rng, kills, 0)
        trainings, others = 0, 0
        while kills.total() < options.kills:
            trainings += 1
            run = replace(whole, out=Path(folder, str(trainings)))
            others += until_it_ends(run, rng, kills, options.kills) != expected
            stages = ", ".join(f"{kills[stage]} {stage}" for stage in STAGES)
            print(f"{trainings} trainings, {kills.total()} kills ({stages}): {others} mismatches", flush=True)
    return 1 if others else 0


if __name__ == "__main__":
    sys.exit(main())
