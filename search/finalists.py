"""The end of a search: the finalists are trained wholly over several seeds, one is chosen, and only then is it tested.

What chooses sees the validation split alone. The winner's last trainings are those of `ablate run`: on all training
images, evaluated on the test split, under the benchmark's own id.
"""

import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from statistics import mean

from optuna.trial import FrozenTrial

from arch.spec import parse
from arch.variant import Variant
from benchmarks.budget.verdict import Verdict
from benchmarks.definition.benchmark import Split
from benchmarks.definition.overrides import read_run_config
from benchmarks.execution.local import WorkerFailed
from benchmarks.execution.progress import Display, Progress
from benchmarks.records.store import RecordStore, RunRecord
from benchmarks.runs.run import Run, cost_fields, default_time_limit, record_outcome
from search import trial_attrs
from search.rungs import SEARCH_SPLIT
from search.settings import TRAINING_OVERHEAD_SECONDS, SearchSettings


@dataclass(frozen=True)
class Finalist:
    """A candidate inside the budget by the check that `ablate run` makes, and its whole trainings, one a seed."""

    spec: str
    variant: Variant
    verdict: Verdict
    validation: tuple[RunRecord, ...] = ()
    test: tuple[RunRecord, ...] = ()  # of the winner alone
    seeds: int = 0  # that it was trained with on the validation split

    @property
    def seconds(self) -> float:
        """That one whole training takes, as predicted."""
        return TRAINING_OVERHEAD_SECONDS + (3600 * self.verdict.hours.predicted if self.verdict.hours else 0.0)


class FinalSelection:
    """Chooses the winner of a search among the best of its trials, and tests it."""

    def __init__(self, search: SearchSettings, store: RecordStore, display: Display, deadline: float) -> None:
        """deadline: by the monotonic clock; it makes finalists and seeds fewer, but never none."""
        self.search, self.store, self.display, self.deadline = search, store, display, deadline
        self.known = {result.run_id: result for result in store.results()}

    def carry_out(self, found: Sequence[FrozenTrial]) -> list[Finalist]:
        """found: trained trials, the best first. Returns the finalists, the winner first, with its test results.

        Raises WorkerFailed where none can be trained, and OSError where a record cannot be written.
        """
        finalists = self._checked(found)
        left = self.deadline - time.monotonic()
        if finalists[0].seconds > left:  # there must be a winner: the best of those for which there is time
            finalists.sort(key=lambda f: max(f.seconds, left))
        number, seeds = self._affordable(finalists)
        asked = min(len(finalists), max(1, self.search.finalists))
        if (number, seeds) != (asked, self.search.seeds):
            self.display.say(
                f"--timeout leaves time for {number} of {asked} finalists, {seeds} of {self.search.seeds} seeds"
            )
        finalists = finalists[:number]
        if number > 1:
            finalists = [
                replace(f, validation=v, seeds=seeds) for f, v in self._trained(finalists, seeds, SEARCH_SPLIT)
            ]
            finalists.sort(key=lambda f: (-len(f.validation), -mean_top1(f.validation)))  # a failed seed counts
        return self._tested(finalists, seeds)

    def _tested(self, finalists: list[Finalist], seeds: int) -> list[Finalist]:
        """The finalists with the first one that can be trained on all images in front, tested."""
        for place, finalist in enumerate(finalists):
            [(_, test)] = self._trained([finalist], seeds, "test")
            if test:
                return [replace(finalist, test=test), *finalists[:place], *finalists[place + 1 :]]
        raise WorkerFailed(f"no finalist could be trained: failures.jsonl in {self.search.out} says why")

    def _checked(self, found: Sequence[FrozenTrial]) -> list[Finalist]:
        """The first of them that are inside the budget, timed; each architecture once."""
        finalists: dict[str, Finalist] = {}
        for trial in found:
            spec = trial.user_attrs[trial_attrs.SPEC]
            variant = parse(spec, self.search.benchmark.baseline).variant()
            if variant.key() in finalists:
                continue
            verdict = self._timed(spec)
            if isinstance(verdict, Verdict) and verdict.passed and not verdict.unjudged:
                finalists[variant.key()] = Finalist(spec, variant, verdict)
            else:
                why = verdict.conclusion if isinstance(verdict, Verdict) else verdict
                self.display.say(f"{spec} is no finalist: {why}")
            if len(finalists) == max(1, self.search.finalists):
                break
        if not finalists:
            raise WorkerFailed("no candidate is inside the budget when it is timed: give more, or search longer")
        return list(finalists.values())

    def _timed(self, spec: str) -> Verdict | Exception:
        """What `ablate run` would judge, or why that cannot be said."""
        search = self.search
        counts = search.data.counts(search.benchmark.data)
        work = [("time", spec, search.benchmark, search.device, counts)]
        limit = self.search.time_limit or default_time_limit(0.0, 1)
        with closing(search.executor.call_each("search.jobs:work", work, 1, self._say_nothing, limit)) as outcomes:
            [(_, outcome)] = outcomes
        verdict: Verdict | Exception = outcome
        return verdict

    def _say_nothing(self, number: int, progress: Progress) -> None:
        """Timing takes some seconds."""

    def _affordable(self, finalists: Sequence[Finalist]) -> tuple[int, int]:
        """(finalists, seeds): as many as the time that is left holds; a single finalist needs no validation."""
        search, left = self.search, self.deadline - time.monotonic()
        for seeds in range(search.seeds, 0, -1):
            for number in range(len(finalists), 1, -1):
                needed = replace(search, seeds=seeds, finalists=number)
                if needed.final_selection_seconds(max(f.seconds for f in finalists[:number])) <= left:
                    return number, seeds
        for seeds in range(search.seeds, 0, -1):
            if seeds * finalists[0].seconds <= left:
                return 1, seeds
        return 1, 1

    def _trained(
        self, finalists: Sequence[Finalist], seeds: int, split: Split
    ) -> list[tuple[Finalist, tuple[RunRecord, ...]]]:
        """Each of them with its results; what is recorded is not trained again."""
        runs = [self._unit(finalist, seed, split) for seed in range(seeds) for finalist in finalists]
        missing = [run for run in runs if run.id not in self.known]
        what = f"{'testing the winner' if split == 'test' else 'finalists'}, {len(missing)} whole trainings, epochs"
        longest = max((default_time_limit(u.predicted_hours, self.search.workers) for u in missing), default=0.0)
        progress = _Overall(what, len(missing), self.search.benchmark.recipe.epochs, self.display)
        outcomes = self.search.executor.call_each(
            "benchmarks.runs.dispatch:execute_run",
            [(run,) for run in missing],
            self.search.workers,
            progress,
            self.search.time_limit or longest,
        )
        with closing(outcomes):
            for number, outcome in outcomes:
                record_outcome(self.store, missing[number], outcome)
                if isinstance(outcome, Exception):
                    self.display.say(f"{missing[number].spec} seed {missing[number].seed} failed: {outcome}")
                else:
                    self.known[outcome.run_id] = outcome
        of_each = [[self.known.get(self._unit(f, seed, split).id) for seed in range(seeds)] for f in finalists]
        return [(f, tuple(result for result in own if result)) for f, own in zip(finalists, of_each, strict=True)]

    def _unit(self, finalist: Finalist, seed: int, split: Split) -> Run:
        search = self.search
        return Run(
            config=read_run_config(finalist.spec, search.benchmark.baseline),
            benchmark=search.benchmark,
            seed=seed,
            data=search.data,
            device=search.device,
            out=search.out.resolve(),
            plan=finalist.spec,
            **cost_fields(finalist.verdict),
            runs_per_device=search.workers,
            split=split,
            if_changed="restart",
            keep_weights=split == "test",
        )


def mean_top1(results: Sequence[RunRecord]) -> float:
    """Over the seeds; -1 without any."""
    return mean(result.top1 for result in results) if results else -1.0


class _Overall:
    """The progress of all trainings as one, in epochs."""

    def __init__(self, what: str, number: int, epochs: int, display: Display) -> None:
        self.what, self.total, self.display = what, number * epochs, display
        self.done = [0] * number

    def __call__(self, number: int, progress: Progress) -> None:
        if progress.warning:
            self.display(progress)
            return
        self.done[number] = progress.done
        self.display(Progress(self.what, sum(self.done), self.total, progress.note))
