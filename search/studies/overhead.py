"""The overhead of a search besides training: seconds per trial in a study with many finished trials.

    python -m search.studies.overhead --finished 1000 --trials 50 --sampler thompson

Training is replaced by made-up outcomes; what remains is proposing, counting, checking, storing and recording.
"""

import argparse
import math
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import optuna

from benchmarks.budget.verdict import ModelCost, PredictedHours, Verdict
from benchmarks.datasets.prepare import prepare_dataset
from benchmarks.definition.benchmark import Benchmark, identify
from benchmarks.definition.registry import BENCHMARKS
from benchmarks.execution.executor import Executor, Future, Session
from benchmarks.execution.progress import Display, Progress, Report, silent
from benchmarks.records.store import RecordStore, RunRecord
from benchmarks.runs.run import Run
from search import trial_attrs
from search.candidates import Candidate, HoursPredictor, drop_useless_fragments, screen
from search.cost_sample import count_sample
from search.promotion import RELATIVE_TIME
from search.rungs import Rungs
from search.runner import SearchRunner
from search.samplers.registry import OTHER_SAMPLERS, create_sampler
from search.settings import DIRECTIONS, SearchSettings
from search.space import ChoiceSpace, all_parts_space
from search.storage import open_storage, open_study


class InstantExecutor(Executor):
    """Makes up the outcomes of training runs and budget checks, which takes no time."""

    num_running = 0  # calls in progress while `outcome` is called

    @contextmanager
    def session(self, runs_per_device: int = 1) -> Iterator["InstantSession"]:
        """See `Executor.session`."""
        yield InstantSession(self, runs_per_device)

    def outcome(self, function: str, *args: Any) -> Any:
        """Return the simulated outcome of a call."""
        if function == "benchmarks.budget.check:check_specs":
            specs, benchmark = args[:2]
            return [make_up_verdict(spec, benchmark, hours=1e-4) for spec in specs]
        run: Run = args[0]
        return make_up_record(run, top1=50.0 + int(run.key, 16) % 4000 / 100, hours=1e-4)


class InstantSession(Session):
    """Calls of an `InstantExecutor`, which finish in the order in which they were submitted."""

    def __init__(self, executor: InstantExecutor, max_calls: int) -> None:
        self.executor, self.max_calls = executor, max_calls
        self.calls: dict[Future, partial[Any]] = {}

    @property
    def has_capacity(self) -> bool:
        """See `Session.has_capacity`."""
        return len(self.calls) < self.max_calls

    def submit(
        self, function: str, *args: Any, time_limit: float | None = None, on_progress: Report = silent
    ) -> Future:
        """See `Session.submit`."""
        future = Future()
        self.calls[future] = partial(self.executor.outcome, function, *args)
        on_progress(Progress("training", 0, 1))
        return future

    def wait(self) -> list[Future]:
        """See `Session.wait`."""
        self.executor.num_running = len(self.calls)
        for future in self.calls:
            future.outcome = self.calls.pop(future)()
            return [future]
        return []


def make_up_verdict(spec: str, benchmark: Benchmark, hours: float) -> Verdict:
    """Return the verdict on a model with a million MACs whose full training run takes this many hours."""
    limit = benchmark.budget.max_hours
    problems = (f"{hours} h > {limit} h",) if hours > limit else ()
    cost, predicted = ModelCost(1000, 1000, macs_torch=10**6), PredictedHours(hours, hours, hours)
    return Verdict(spec, benchmark.name, benchmark.budget, 8, 64, cost, hours=predicted, problems=problems)


def make_up_record(run: Run, top1: float, hours: float) -> RunRecord:
    """Return a plausible record of a run."""
    epoch = {"epoch": 1, "train_loss": 2.0, "train_top1": 20.0, "loss": 2.0, "top1": top1, "top5": 100.0}
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
        curve=[epoch],
        device="none",
        versions={},
        commit="",
        finished="2026-01-01T00:00:00+00:00",
    )


def add_finished_trials(study: optuna.Study, space: ChoiceSpace, benchmark: Benchmark, number: int) -> None:
    """Add finished trials of random candidates within the budget, with the attributes that a search sets.

    As in a search, each rung has taken about half of the time of the rung before.
    """
    random_study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    rungs = Rungs.for_benchmark(benchmark)
    fractions = [RELATIVE_TIME**rung * rungs.time_fraction(0) / rungs.time_fraction(rung) for rung in range(len(rungs))]
    numbers = [round(number * fraction / sum(fractions)) for fraction in fractions]
    feasible: list[tuple[optuna.Trial, Candidate]] = []
    while len(feasible) < numbers[0]:
        trial = random_study.ask()
        candidate = screen(space.suggest(trial), benchmark, HoursPredictor())
        if isinstance(candidate, Candidate):
            feasible.append((trial, candidate))
    for rung, num_finished in enumerate(numbers):
        for count, (trial, candidate) in enumerate(feasible[:num_finished]):
            accuracies = [50.0 + count % 40 + finished for finished in range(rung + 1)]
            study.add_trial(
                optuna.create_trial(
                    params=trial.params,
                    distributions=trial.distributions,
                    value=accuracies[-1],
                    intermediate_values={rungs.step(rung): accuracies[-1]},
                    user_attrs={
                        trial_attrs.SPEC: candidate.spec,
                        trial_attrs.KEY: candidate.key,
                        trial_attrs.PARAMS: candidate.params,
                        trial_attrs.MACS: candidate.macs,
                        trial_attrs.HOURS: 1e-4,
                        trial_attrs.FEASIBLE: True,
                        trial_attrs.RUNG: rung,
                        trial_attrs.ACCURACIES: accuracies,
                    },
                )
            )


def seconds_per_trial(sampler: str, num_finished: int, num_trials: int) -> tuple[float, int]:
    """Continue the study, and return the seconds per new trial and the number of new trials."""
    benchmark = BENCHMARKS["digits"]
    screen("resnet8", benchmark, HoursPredictor())  # imports what the first candidate needs
    with tempfile.TemporaryDirectory() as folder, Display() as display:
        space, out = drop_useless_fragments(all_parts_space(), benchmark), Path(folder)
        search = SearchSettings(
            benchmark=benchmark,
            data=prepare_dataset(benchmark.data, None),
            device="cpu",
            out=out,
            space=space,
            rungs=Rungs.for_benchmark(benchmark),
            trials=num_trials,
            sample=count_sample(space, benchmark, None),
            executor=InstantExecutor(),
        )
        storage = open_storage(str(out / "search.journal"))
        study = open_study(storage, search.name, DIRECTIONS["accuracy"], resume=False)
        study.sampler = create_sampler(sampler, 0, search.sample)
        add_finished_trials(study, space, benchmark, num_finished)
        before = study.get_trials(deepcopy=False)
        search = replace(search, trials=num_trials + sum(map(trial_attrs.counts_toward_total, before)))
        store = RecordStore(out)
        store.create()
        runner = SearchRunner(search, study, store, display, math.inf)
        started = time.perf_counter()
        runner.run()
        seconds = time.perf_counter() - started
        count = len(study.get_trials(deepcopy=False)) - len(before)
    return seconds / count, count


def main() -> int:
    """Print the seconds per trial."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--finished", type=int, default=1000)
    parser.add_argument("--trials", type=int, default=50)
    parser.add_argument("--sampler", choices=["thompson", *OTHER_SAMPLERS], default="thompson")
    options = parser.parse_args()
    seconds, count = seconds_per_trial(options.sampler, options.finished, options.trials)
    print(f"{options.sampler}: {seconds:.3f} s per trial ({count} trials, {options.trials} of them trained)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
