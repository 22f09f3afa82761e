"""Carries a search out: asks for candidates, refuses what is over the budget, trains the rest rung by rung."""

import math
import time
from collections import deque
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from typing import Any

from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState

from arch.errors import InputError
from benchmarks.budget.verdict import Verdict, format_hours
from benchmarks.execution.local import Outcomes, WorkerFailed
from benchmarks.execution.progress import Display, Progress
from benchmarks.records.store import RecordStore, RunRecord
from benchmarks.runs.run import Run, default_time_limit, record_outcome
from search import trial_attrs
from search.candidates import Candidate, HoursPredictor
from search.heartbeat import Heartbeat, StaleTrialReaper
from search.proposals import Proposals
from search.rungs import SEARCH_SPLIT
from search.settings import TRAINING_OVERHEAD_SECONDS, SearchSettings

FAILURES = 20  # in a row, after which it is not the candidates that fail
TIE = 1e-4  # points by which a net that takes all of the budget's hours is behind one that takes none
WAIT_SECONDS = 0.5  # between two looks at what other workers are at
SCREENING_SECONDS = 2.0  # at a time: trainings at work have to be looked after

Work = tuple[Any, ...]  # the name of what `search.jobs` is to do, and its arguments


class NothingFits(Exception):
    """No candidate of the space is inside the budget."""


@dataclass
class Job:
    """A trial at work: which rung is next, and what the finished ones said."""

    trial: Trial
    candidate: Candidate
    inside: bool  # whether it is taken to be inside the budget's hours
    timed: bool = False  # and whether that is known
    accuracies: list[float] = field(default_factory=list)
    compile_mode: str = "eager"

    @property
    def rung(self) -> int:
        """The one to train."""
        return len(self.accuracies)


class SearchRunner:
    """Runs a study until it has its trials, its time is up, or its space is exhausted."""

    def __init__(
        self, search: SearchSettings, study: Study, store: RecordStore, display: Display, deadline: float
    ) -> None:
        """deadline: by the monotonic clock, for the whole command."""
        self.search, self.study, self.store, self.display, self.deadline = search, study, store, display, deadline
        self.hours = HoursPredictor()
        self.counts = search.data.counts(search.benchmark.data)
        self.known = {result.run_id: result for result in store.results()}
        self.jobs: dict[int, Job] = {}  # at work, by the engine's number
        self.waiting: deque[Job] = deque()  # to go on, with the next rung
        self.started = 0  # pieces of work, as the executor counts them
        self.proposals = Proposals(search, study, self.hours)
        self.closed = False  # no new candidate is started
        self.failed: list[str] = []  # why, in a row
        self.too_long: list[str] = []  # for the time that is left
        self.reaper = StaleTrialReaper(study)
        for trial in self.trials():
            if trial_attrs.HOURS in trial.user_attrs:
                self.hours.add(trial.user_attrs[trial_attrs.MACS], trial.user_attrs[trial_attrs.HOURS])

    def trials(self) -> list[FrozenTrial]:
        """All there are, those of other workers included."""
        return self.study.get_trials(deepcopy=False)

    def carry_out(self) -> None:
        """Raises NothingFits where not one candidate is inside the budget, InputError where there is no time for one,
        WorkerFailed where none could be trained, and what the store raises.
        """
        with Heartbeat(self.study) as self.worker:
            self._say(self.reaper.reap())
            self.proposals.enqueue_base()
            try:
                while not self.closed or self.waiting:
                    with closing(self._outcomes()) as outcomes:
                        for number, outcome in outcomes:
                            self._ended(self.jobs[number], outcome)
                            del self.jobs[number]  # only now: what hinders us here leaves it to be handed back
            finally:  # at work only where the command was asked to stop, or could not go on
                for job in [*self.jobs.values(), *self.waiting]:
                    self._hand_back(job)
        if len(self.failed) >= FAILURES:
            self.display.say(f"{len(self.failed)} trainings in a row failed: the search ends")
        elif self._time_is_up():
            trained = sum(map(trial_attrs.is_trained, self.trials()))
            self.display.say(f"--timeout: no further candidate would end in time, {trained} are trained")
        elif self.proposals.exhausted:
            last = self.proposals.max_misses
            self.display.say(f"the last {last} proposals were over the budget or known: the search ends")
        if not any(trial_attrs.is_trained(trial) for trial in self.trials()):
            self._explain_nothing()

    def _outcomes(self) -> Outcomes:
        self.started = 0
        return self.search.executor.call_each(
            "search.jobs:work", self._pieces(), self.search.workers, self._report, self._limit
        )

    def _say(self, lines: list[str]) -> None:
        for line in lines:
            self.display.say(line)

    # what to do next

    def _pieces(self) -> Iterator[Work | None]:
        """The next piece of work each time one is asked for; None while there is nothing to do."""
        while True:
            alone = any(not job.inside for job in self.jobs.values())  # one is timed, and nothing must run beside it
            job = None if alone else self.waiting.popleft() if self.waiting else self._new()
            if job is not None and not job.inside and self.jobs:
                self.waiting.append(job)
                job = None
            if job is None:
                yield None
                continue
            self.jobs[self.started] = job
            self.started += 1
            self.worker.expect_progress_within(2 * max(self._limit(number) for number in self.jobs))
            yield self._piece(job)

    def _piece(self, job: Job) -> Work:
        search = self.search
        if not job.inside:
            return "time", job.candidate.spec, search.benchmark, search.device, self.counts
        return "train", self._unit(job)

    def _unit(self, job: Job) -> Run:
        search, candidate = self.search, job.candidate
        return Run(
            config=candidate.config,
            benchmark=search.rungs.benchmarks[job.rung],
            seed=0,  # the same for all: they differ by their architecture alone
            data=search.data,
            device=search.device,
            out=search.out.resolve(),
            plan=candidate.spec,
            params=candidate.params,
            macs=candidate.macs,
            predicted_hours=candidate.hours * search.rungs.time_fraction(job.rung),
            compile_mode=job.compile_mode,  # type: ignore[arg-type]  # as a verdict had it
            runs_per_device=search.workers,
            split=SEARCH_SPLIT,
            if_changed="restart",
            keep_weights=False,
        )

    def _new(self) -> Job | None:
        """The next candidate worth training; None where there is none for now."""
        began = time.monotonic()
        while not self.closed and time.monotonic() - began < SCREENING_SECONDS:
            self._say(self.reaper.reap())
            if self._is_over():
                self.closed = not self.jobs and not self._others_at_work()
                return None
            try:
                if job := self._ask():
                    return job
            except UpdateFinishedTrialError:  # by another worker, which took this one for dead
                continue
        return None

    def _is_over(self) -> bool:
        """Whether no new candidate is to be started; one that is at work may still fail, and its place be free."""
        enough = sum(map(trial_attrs.counts_toward_total, self.trials())) >= self.search.trials
        in_vain = self.proposals.exhausted or max(len(self.failed), len(self.too_long)) >= FAILURES
        return enough or in_vain or self._time_is_up()

    def _others_at_work(self) -> bool:
        """Whether other workers' trials are: they end by themselves, or are buried, as long as there is time."""
        running = [t for t in self.trials() if t.state == TrialState.RUNNING]
        if not running or self._time_is_up():
            return False
        time.sleep(WAIT_SECONDS)
        return True

    def _ask(self) -> Job | None:
        """Asks for one candidate; None where it is not to be trained, or has been."""
        asked = self.proposals.ask(self.worker.name)
        if asked is None:
            return None
        trial, candidate = asked
        inside = self.hours.clearly_within(candidate.macs, self.search.benchmark.budget.max_hours)
        job = self._go_on(Job(trial, candidate, inside))
        return job if job and self._has_time(job) else None

    def _has_time(self, job: Job) -> bool:
        """Whether its next rung would end in time, and its whole training if it were to win; ends its trial if not."""
        hours = job.candidate.hours
        whole = 3600 * hours if self.search.finalists else 0.0
        in_time = time.monotonic() + TRAINING_OVERHEAD_SECONDS + whole <= self.deadline
        if in_time and not self._is_late(
            TRAINING_OVERHEAD_SECONDS + 3600 * hours * self.search.rungs.time_fraction(job.rung)
        ):
            return True
        self.too_long.append(f"one whole training of {job.candidate.spec} takes {format_hours(hours)}")
        trial_attrs.tell_failed(self.study, job.trial, "it would not have ended before --timeout", permanent=False)
        return False

    def _time_is_up(self) -> bool:
        """Whether no further candidate would end in time; without a deadline nothing has to be read for that."""
        return self.deadline < math.inf and self._is_late(self._typical_seconds())

    def _is_late(self, seconds: float) -> bool:
        """Whether a training of so many seconds would not end in time."""
        return time.monotonic() + seconds + self._kept_back() > self.deadline

    def _kept_back(self) -> float:
        """Seconds for the finale: half of the time at most, but one whole training of the best at least."""
        if self.search.timeout is None or not self.search.finalists:
            return 0.0
        leaders = trial_attrs.ranked(self.trials())[: self.search.finalists]
        training = TRAINING_OVERHEAD_SECONDS + 3600 * max(
            (t.user_attrs[trial_attrs.HOURS] for t in leaders), default=0.0
        )
        return max(training, min(self.search.final_selection_seconds(training), self.search.timeout / 2))

    def _typical_seconds(self) -> float:
        """That a candidate's first rung takes."""
        found = sorted(h for trial in self.trials() if (h := trial.user_attrs.get(trial_attrs.HOURS)))
        return TRAINING_OVERHEAD_SECONDS + (
            3600 * found[len(found) // 2] * self.search.rungs.time_fraction(0) if found else 0.0
        )

    def _go_on(self, job: Job) -> Job | None:
        """The job, unless what it needs is recorded already: then that is taken for its outcome."""
        while job.inside and (result := self.known.get(self._unit(job).id)) is not None:
            if not self._learn(job, result):
                return None
        return job

    # what became of it

    def _limit(self, number: int) -> float:
        """Seconds after which a piece of work hangs."""
        job = self.jobs[number]
        predicted = job.candidate.hours * self.search.rungs.time_fraction(job.rung) if job.inside else 0.0
        limit = self.search.time_limit or default_time_limit(predicted, self.search.workers)
        return max(1.0, min(limit, self.deadline - time.monotonic()))

    def _ended(self, job: Job, outcome: Verdict | RunRecord | Exception) -> None:
        if isinstance(outcome, RunRecord) and not math.isfinite(outcome.top1):
            outcome = WorkerFailed(f"its accuracy is {outcome.top1}")
        try:
            if isinstance(outcome, Exception):
                self.display.say(f"trial {job.trial.number} ({job.candidate.spec}) failed: {outcome}")
                if job.inside:
                    record_outcome(self.store, self._unit(job), outcome)
                in_time = time.monotonic() < self.deadline
                self.failed += [str(outcome)] * in_time
                trial_attrs.tell_failed(self.study, job.trial, str(outcome), permanent=in_time)
            elif isinstance(outcome, Verdict):
                self._timed(job, outcome)
            else:
                record_outcome(self.store, self._unit(job), outcome)
                self.known[outcome.run_id] = outcome
                self.failed.clear()
                if self._learn(job, outcome) and (next_job := self._go_on(job)):
                    self.waiting.append(next_job)
        except (UpdateFinishedTrialError, ValueError):  # the latter by `tell`
            self.display.say(f"trial {job.trial.number} was ended by another worker, which took this one for dead")

    def _timed(self, job: Job, verdict: Verdict) -> None:
        """Its hours are known now: it is over the budget, or goes on to its first rung."""
        hours = verdict.hours.predicted if verdict.hours else 0.0
        if verdict.cost.macs is not None:
            self.hours.add(job.candidate.macs, hours)
        if not verdict.passed or verdict.unjudged:
            excess = hours / self.search.benchmark.budget.max_hours - 1
            self.proposals.reject(job.trial, verdict.conclusion, excess)
            return
        job.candidate = replace(job.candidate, hours=hours)
        job.inside = job.timed = True
        job.compile_mode = verdict.throughput.compile_mode if verdict.throughput else "eager"
        if (next_job := self._go_on(job)) and self._has_time(next_job):
            self.waiting.append(next_job)

    def _learn(self, job: Job, result: RunRecord) -> bool:
        """Puts a rung's accuracy on the trial; returns whether it goes on to the next, and ends it where not."""
        trial, rung, rungs = job.trial, job.rung, self.search.rungs
        hours = job.candidate.hours if job.timed else result.hours / rungs.time_fraction(rung)
        self.hours.add(job.candidate.macs, hours)
        job.candidate = replace(job.candidate, hours=hours)
        if hours > self.search.benchmark.budget.max_hours and not job.timed:
            job.inside = False  # its training says otherwise than its MACs: it is timed, and judged by that
            return True
        job.accuracies.append(result.top1)
        trial.set_user_attr(trial_attrs.ACCURACIES, job.accuracies)
        trial.set_user_attr(trial_attrs.HOURS, hours)
        if self._is_promoted(job, rung) and not self._is_late(
            3600 * hours * rungs.time_fraction(rung + 1) + TRAINING_OVERHEAD_SECONDS
        ):
            return True
        values = [job.accuracies[-1], hours, float(job.candidate.params)]
        trial_attrs.tell_complete(self.study, trial, values[: len(self.study.directions)])
        return False

    def _is_promoted(self, job: Job, rung: int) -> bool:
        """By Optuna's pruner; with several objectives, which pruners do not know: while it is on its rung's front."""
        step, last = self.search.rungs.step(rung), rung + 1 == len(self.search.rungs)
        if len(self.study.directions) == 1:
            cost = job.candidate.hours / self.search.benchmark.budget.max_hours
            job.trial.report(job.accuracies[-1] - TIE * cost, step)  # of equals, only the cheapest go on
            return not last and not job.trial.should_prune()
        others = [
            t for t in self.trials() if len(trial_attrs.rung_accuracies(t)) > rung and t.number != job.trial.number
        ]
        mine = (-job.accuracies[-1], job.candidate.hours, float(job.candidate.params))
        return not last and trial_attrs.pareto_mask([mine, *(trial_attrs.objectives(t, rung) for t in others)])[0]

    def _hand_back(self, job: Job) -> None:
        """Ends a trial that was not finished, and queues its candidate: it goes on from its records and checkpoint."""
        with suppress(UpdateFinishedTrialError, OSError, StorageInternalError):
            trial_attrs.tell_failed(
                self.study, job.trial, "the search was stopped while it was at work", permanent=False
            )
            self.study.enqueue_trial(
                job.trial.params, user_attrs={trial_attrs.RETRIES: job.trial.user_attrs.get(trial_attrs.RETRIES, 0)}
            )

    def _explain_nothing(self) -> None:
        if self.failed:
            raise WorkerFailed(f"no candidate could be trained: {self.failed[-1]}")
        if self.too_long:
            what = f"--timeout leaves no time for a winner: {self.too_long[0]}"
            raise InputError(f"{what}; give more time, or --finalists 0")
        if not self.proposals.rejections:
            raise NothingFits("there was no time for a single candidate: give a longer --timeout")
        most = max(set(self.proposals.rejections), key=self.proposals.rejections.count)
        number = len(self.proposals.rejections)
        raise NothingFits(f"none of {number} candidates is inside the budget; most often: {most}")

    # what is said

    def _report(self, number: int, progress: Progress) -> None:
        job = self.jobs.get(number)
        if job is None:
            return
        if progress.warning:
            self.display(replace(progress, task=job.candidate.spec))
            return
        try:
            everything = self.trials()
        except StorageInternalError:  # a line of progress is not worth an end
            return
        done = [trial for trial in everything if trial_attrs.is_trained(trial)]
        refused = sum(map(trial_attrs.is_infeasible, everything))
        note = f"{refused} of {len(done) + refused} proposals over the budget" if refused else ""
        with suppress(IndexError):
            told = trial_attrs.rung_accuracies(trial_attrs.ranked(done)[0])
            epochs = self.search.rungs.benchmarks[len(told) - 1].recipe.epochs
            note = f"best {told[-1]:.2f} after {epochs} epoch(s){', ' * bool(note)}{note}"
        self.display(Progress("candidates", len(done), self.search.trials, note))


def describe_plan(search: SearchSettings) -> str:
    """One line that says what is about to be done."""
    budget = search.benchmark.budget
    epochs = ", ".join(str(rung.recipe.epochs) for rung in search.rungs.benchmarks)
    limits = f"{budget.max_params:,} parameters and {format_hours(budget.max_hours)} each"
    text = f"{search.name} on {search.device}: {search.trials} candidates within {limits}, trained for {epochs} epochs"
    first = 2 * search.rungs.reduction_factor
    return text + (f"; the first {first} stop at the first of these" if len(search.rungs) > 1 else "")
