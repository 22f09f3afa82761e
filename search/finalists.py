"""The final selection: train the finalists with the full recipe on several seeds, select the winner and test it.

The selection uses only the validation split. The last runs of the winner are the same as those of `ablate run`:
they use all training images and the test split, under the benchmark's own id.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import mean

from optuna.trial import FrozenTrial

from arch.errors import InputError
from arch.spec import parse
from arch.text import plural
from benchmarks.budget.verdict import Verdict
from benchmarks.definition.benchmark import Split
from benchmarks.definition.overrides import RunConfig
from benchmarks.execution.executor import WorkerFailed
from benchmarks.execution.progress import Display, silent
from benchmarks.records.store import RecordStore, RunRecord
from benchmarks.runs.execute_runs import execute_runs
from benchmarks.runs.overall_progress import OverallProgress
from benchmarks.runs.run import Run, cost_fields, default_time_limit, record_outcome
from search import trial_attrs
from search.rungs import SEARCH_SPLIT
from search.settings import TRAINING_OVERHEAD_SECONDS, SearchSettings
from search.space import ChoiceSpace


@dataclass(frozen=True)
class Finalist:
    """A candidate that passed the budget check of `ablate run`, and its runs with the full recipe.

    Attributes:
        config: The architecture.
        verdict: The result of the budget check.
        validation: The records on the validation split, one for each seed that did not fail.
        test: The records on the test split; empty except for the winner.
        seeds: The number of seeds on the validation split, including those that failed.
    """

    config: RunConfig
    verdict: Verdict
    validation: tuple[RunRecord, ...] = ()
    test: tuple[RunRecord, ...] = ()
    seeds: int = 0

    @property
    def spec(self) -> str:
        """The spec of the architecture."""
        return str(self.config)

    @property
    def seconds(self) -> float:
        """The predicted duration of one full training run."""
        hours = self.verdict.hours_at_hand
        return TRAINING_OVERHEAD_SECONDS + (3600 * hours.predicted if hours else 0.0)


class FinalSelection:
    """Selects the winner of a search among its best trials, and tests it.

    Args:
        search: The settings.
        store: Where the runs are recorded.
        display: Shows messages and progress.
        deadline: When the command must have finished, by the monotonic clock. It reduces the number of finalists and
            seeds, but there is always a winner.
    """

    def __init__(self, search: SearchSettings, store: RecordStore, display: Display, deadline: float) -> None:
        self.search, self.store, self.display, self.deadline = search, store, display, deadline
        self.records = {record.run_id: record for record in store.records()}

    def select(self, trials: Sequence[FrozenTrial]) -> list[Finalist]:
        """Train the finalists and test the winner.

        Args:
            trials: Trained trials, the best first.

        Returns:
            The finalists, the best first. The first one is the winner, and has test records.

        Raises:
            WorkerFailed: If no candidate can be trained.
            OSError: If a record cannot be written.
        """
        finalists = self._check(self._with_base(trials))
        seconds_left = self.deadline - time.monotonic()
        if finalists[0].seconds > seconds_left:  # prefer the best candidates for which there is time
            finalists.sort(key=lambda finalist: max(finalist.seconds, seconds_left))
        number, seeds = self._affordable(finalists)
        requested = min(len(finalists), max(1, self.search.finalists))
        if (number, seeds) != (requested, self.search.seeds):
            self.display.say(
                f"--timeout leaves time for {number} of {plural(requested, 'finalist')} "
                f"and {seeds} of {plural(self.search.seeds, 'seed')}"
            )
        finalists = finalists[:number]
        if number > 1:
            records = self._train(finalists, seeds, SEARCH_SPLIT)
            finalists = [replace(finalist, validation=records[finalist.spec], seeds=seeds) for finalist in finalists]
            # a finalist with a failed seed ranks below finalists without one
            finalists.sort(key=lambda finalist: (-len(finalist.validation), -mean_top1(finalist.validation)))
        return self._test(finalists, seeds)

    def _test(self, finalists: list[Finalist], seeds: int) -> list[Finalist]:
        """Test the first finalist that can be trained on all images. Return it first, followed by the others."""
        for index, finalist in enumerate(finalists):
            if test := self._train([finalist], seeds, "test")[finalist.spec]:
                return [replace(finalist, test=test), *finalists[:index], *finalists[index + 1 :]]
        raise WorkerFailed(f"no finalist could be trained; see failed_runs.jsonl in {self.search.out}")

    def _with_base(self, trials: Sequence[FrozenTrial]) -> Sequence[FrozenTrial]:
        """Move the trial of the base to the second place, so that the winner is not known to be worse than the base."""
        space = self.search.space
        if not isinstance(space, ChoiceSpace) or space.base_choices is None or self.search.finalists < 2:
            return trials
        base = parse(space.spec(space.base_choices), self.search.benchmark.baseline).architecture.key()
        ranked = sorted(trials[1:], key=lambda trial: trial.user_attrs[trial_attrs.KEY] != base)
        return [*trials[:1], *ranked]

    def _check(self, trials: Sequence[FrozenTrial]) -> list[Finalist]:
        """Return the first trials that pass the budget check, at most one for each architecture."""
        finalists: dict[str, Finalist] = {}
        for trial in trials:
            spec = trial.user_attrs[trial_attrs.SPEC]
            config = RunConfig(parse(spec, self.search.benchmark.baseline))
            if config.key in finalists:
                continue
            verdict = self._verdict(spec)
            if isinstance(verdict, Verdict) and verdict.passed and not verdict.unjudged:
                finalists[config.key] = Finalist(config, verdict)
            else:
                reason = verdict.conclusion if isinstance(verdict, Verdict) else verdict
                self.display.say(f"{spec} is not a finalist: {reason}")
            if len(finalists) == max(1, self.search.finalists):
                break
        if not finalists:
            raise WorkerFailed("no candidate passes the final budget check; use a larger budget, or search longer")
        return list(finalists.values())

    def _verdict(self, spec: str) -> Verdict | Exception:
        """Return the verdict of the budget check of `ablate run`, or the error that prevented it."""
        search = self.search
        counts = search.data.counts(search.benchmark.data)
        args = {spec: max(1, search.seeds)}, search.benchmark, search.device, counts
        limit = search.time_limit or default_time_limit(0.0, 1)
        try:
            verdicts: list[Verdict] = search.executor.call(
                "benchmarks.budget.check:check_specs", silent, *args, time_limit=limit
            )
        except (InputError, WorkerFailed) as error:
            return error
        return verdicts[0]

    def _affordable(self, finalists: Sequence[Finalist]) -> tuple[int, int]:
        """Return how many finalists and seeds the remaining time allows. A single finalist needs no validation."""
        search, seconds_left = self.search, self.deadline - time.monotonic()
        for seeds in range(search.seeds, 0, -1):
            for number in range(len(finalists), 1, -1):
                reduced = replace(search, seeds=seeds, finalists=number)
                longest = max(finalist.seconds for finalist in finalists[:number])
                if reduced.final_selection_seconds(longest) <= seconds_left:
                    return number, seeds
        for seeds in range(search.seeds, 0, -1):
            if seeds * finalists[0].seconds <= seconds_left:
                return 1, seeds
        return 1, 1

    def _train(self, finalists: Sequence[Finalist], seeds: int, split: Split) -> dict[str, tuple[RunRecord, ...]]:
        """Train finalists with all seeds, unless they are recorded. Return the records of each by its spec."""
        runs = {
            finalist.spec: [self._make_run(finalist, seed, split) for seed in range(seeds)] for finalist in finalists
        }
        by_seed = [spec_runs[seed] for seed in range(seeds) for spec_runs in runs.values()]
        self._execute([run for run in by_seed if run.id not in self.records], split)
        return {
            spec: tuple(self.records[run.id] for run in spec_runs if run.id in self.records)
            for spec, spec_runs in runs.items()
        }

    def _execute(self, runs: Sequence[Run], split: Split) -> None:
        """Train runs and record them."""
        names = {run.id: f"{run.spec} seed {run.seed}" for run in runs}
        stage = "testing the winner" if split == "test" else "finalists"
        progress = OverallProgress(
            runs, names, self.display, f"{stage}, {plural(len(runs), 'full training run')}, epochs"
        )
        longest = max((default_time_limit(run.predicted_hours, run.runs_per_device) for run in runs), default=0.0)

        def on_finished(run: Run, outcome: RunRecord | Exception) -> None:
            record_outcome(self.store, run, outcome)
            progress.finish(run)
            if isinstance(outcome, Exception):
                self.display.say(f"{names[run.id]} failed: {outcome}")
            else:
                self.records[outcome.run_id] = outcome

        execute_runs(runs, self.search.executor, self.search.time_limit or longest, progress.update, on_finished)

    def _make_run(self, finalist: Finalist, seed: int, split: Split) -> Run:
        search = self.search
        return Run(
            config=finalist.config,
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


def mean_top1(records: Sequence[RunRecord]) -> float:
    """Return the mean top-1 over the seeds; -1 without records."""
    return mean(record.top1 for record in records) if records else -1.0
