"""What a search costs beside training: seconds a trial with many finished ones in the study.

    python -m search.overhead --finished 1000 --trials 50 --sampler thompson

The engine is made up: it answers at once. What is left is proposing, counting, judging, storing and recording.
"""

import argparse
import itertools
import math
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import optuna

from benchmarks.budget.verdict import ModelCost, PredictedHours, Verdict
from benchmarks.datasets.cache import prepare
from benchmarks.definition.benchmark import BENCHMARKS, Benchmark, identify
from benchmarks.execution.local import Outcomes
from benchmarks.execution.progress import Display, Progress, Report
from benchmarks.records.store import RecordStore, RunRecord
from benchmarks.runs.run import Run
from search import trial_attrs
from search.candidates import drop_useless_fragments
from search.rungs import Rungs
from search.runner import SearchRunner
from search.samplers.registry import SAMPLERS, successive_halving
from search.settings import DIRECTIONS, SearchSettings
from search.space import ChoiceSpace, all_parts_space
from search.storage import open_storage, open_study


class Instant:
    """An engine that trains nothing and takes no time."""

    at_work = 0  # pieces, while one of them is asked for its outcome

    def call(self, function: str, report: Report, *args: Any) -> Any:
        """See `benchmarks.execution.local.call`; nothing here asks for it."""
        raise NotImplementedError

    def call_each(
        self,
        function: str,
        arguments: Iterable[tuple[Any, ...] | None],
        runs_per_device: int,
        report: Callable[[int, Progress], None],
        time_limit: float | Callable[[int], float] | None = None,
    ) -> Outcomes:
        """See `benchmarks.execution.local.call_each`."""
        waiting, started = iter(arguments), itertools.count()
        running: dict[int, tuple[Any, ...]] = {}
        while True:
            while len(running) < runs_per_device and (args := next(waiting, None)) is not None:
                number = next(started)
                running[number] = args
                if callable(time_limit):
                    time_limit(number)
                report(number, Progress("training", 0, 1))
            if not running:
                return
            self.at_work = len(running)
            number = min(running)
            yield number, self.outcome(running.pop(number))

    def outcome(self, args: tuple[Any, ...]) -> Verdict | RunRecord | Exception:
        """Of one piece of work, as `search.jobs` gets it."""
        if args[0] == "time":
            return made_up_verdict(args[1], args[2], hours=1e-4)
        run: Run = args[1]
        return made_up_result(run, top1=50.0 + int(run.key, 16) % 4000 / 100, hours=1e-4)


def made_up_verdict(spec: str, benchmark: Benchmark, hours: float) -> Verdict:
    """On a net of a million MACs whose whole training takes so many hours."""
    limit = benchmark.budget.max_hours
    problems = (f"{hours} h > {limit} h",) if hours > limit else ()
    cost, told = ModelCost(1000, 1000, macs_torch=10**6), PredictedHours(hours, hours, hours)
    return Verdict(spec, benchmark.name, benchmark.budget, 8, 64, cost, hours=told, problems=problems)


def made_up_result(run: Run, top1: float, hours: float) -> RunRecord:
    """What this run's training might have ended in."""
    line = {"epoch": 1, "train_loss": 2.0, "train_top1": 20.0, "loss": 2.0, "top1": top1, "top5": 100.0}
    return RunRecord(
        spec=run.spec,
        key=run.key,
        seed=run.seed,
        benchmark=run.benchmark.name,
        benchmark_id=identify(run.definition),
        definition=run.definition,
        baseline=run.benchmark.baseline,
        plan=run.plan,
        params=run.params,
        macs=run.macs,
        predicted_hours=run.predicted_hours,
        hours=hours,
        images_per_second=1000.0,
        images_seen=100,
        top1=top1,
        top5=100.0,
        per_class={},
        curve=[line],
        device="none",
        versions={},
        commit="",
        finished="2026-01-01T00:00:00+00:00",
    )


def fill(study: optuna.Study, space: ChoiceSpace, number: int) -> None:
    """Gives a study so many finished trials, as a search leaves them."""
    sampler = optuna.samplers.RandomSampler(seed=0)
    drawn = optuna.create_study(sampler=sampler)
    for count in range(number):
        trial = drawn.ask()
        space.suggest(trial)
        attributes = {
            trial_attrs.SPEC: "resnet8",
            trial_attrs.KEY: f"made up {count}",
            trial_attrs.PARAMS: 1000,
            trial_attrs.MACS: 10**6,
        }
        attributes |= {trial_attrs.HOURS: 1e-4, trial_attrs.FEASIBLE: True, trial_attrs.ACCURACIES: [50.0 + count % 40]}
        study.add_trial(
            optuna.create_trial(
                params=trial.params,
                distributions=trial.distributions,
                value=50.0 + count % 40,
                intermediate_values={1: 50.0 + count % 40},
                user_attrs=attributes,
                system_attrs={"completed_rung_0": 50.0 + count % 40},
            )
        )


def main() -> int:
    """Prints the seconds a trial."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--finished", type=int, default=1000)
    parser.add_argument("--trials", type=int, default=50)
    parser.add_argument("--sampler", choices=SAMPLERS, default="thompson")
    options = parser.parse_args()
    benchmark = BENCHMARKS["digits"]
    with tempfile.TemporaryDirectory() as folder, Display() as display:
        space, out = drop_useless_fragments(all_parts_space(), benchmark), Path(folder)
        search = SearchSettings(
            benchmark=benchmark,
            data=prepare(benchmark.data, None),
            device="cpu",
            out=out,
            space=space,
            rungs=Rungs.for_benchmark(benchmark),
            trials=options.finished + options.trials,
            executor=Instant(),
        )
        storage = open_storage(f"sqlite:///{out / 'search.db'}")
        study = open_study(
            storage,
            search.name,
            DIRECTIONS["accuracy"],
            successive_halving(search.rungs.reduction_factor),
            resume=False,
        )
        study.sampler = SAMPLERS[options.sampler](0)
        fill(study, space, options.finished)
        store = RecordStore(out)
        store.create()
        candidates = SearchRunner(search, study, store, display, math.inf)
        _screen_once()
        started = time.perf_counter()
        candidates.carry_out()
        seconds = time.perf_counter() - started
        rows = len(study.get_trials(deepcopy=False)) - options.finished
        storage.engine.dispose()
    each = seconds / rows
    print(f"{options.sampler}: {each:.3f} s a trial ({rows} trials, of which {options.trials} were trained)")
    return 0


def _screen_once() -> None:
    """Imports what the first candidate would import."""
    from search.candidates import HoursPredictor, screen

    screen("resnet8", BENCHMARKS["digits"], HoursPredictor())


if __name__ == "__main__":
    sys.exit(main())
