"""The search loop: propose candidates, reject those over the budget and train the others rung by rung."""

import math
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from arch.errors import InputError
from arch.text import plural
from benchmarks.budget.verdict import Verdict, format_hours
from benchmarks.definition.recipe import Recipe
from benchmarks.execution.executor import WorkerFailed
from benchmarks.execution.progress import Display, Progress
from benchmarks.records.store import RecordStore, RunRecord
from benchmarks.runs.execute_runs import Job, execute_jobs
from benchmarks.runs.run import default_time_limit, record_outcome
from benchmarks.training.compile_mode import untimed_mode
from search import trial_attrs
from search.active_trial import ActiveTrial
from search.candidates import Candidate, HoursPredictor
from search.deadline import Deadline
from search.heartbeat import Heartbeat, StaleTrialReaper
from search.messages import describe_misled_rung, overall_progress
from search.promotion import Promotion
from search.proposals import Proposals
from search.rung_outcome import finish_rung
from search.samplers.study_model import StudyModel
from search.samplers.thompson import ThompsonSampler
from search.settings import SearchSettings

MAX_CONSECUTIVE_FAILURES = 20  # this many indicate that the candidates are not the cause
OTHER_WORKERS_POLL_SECONDS = 0.5
MAX_PROGRESS_AGE_SECONDS = 1.0  # progress is shown from trials that were read at most this long ago
MAX_SCREENING_SECONDS = 2.0  # screen proposals for at most this long before handling running jobs


class NothingFits(Exception):
    """No candidate of the space is within the budget."""


class SearchRunner:
    """Runs a study until it has its trials, its time is up or its space is exhausted.

    Args:
        search: The settings.
        study: The study, which other workers may share.
        store: Where the runs are recorded.
        display: Shows messages and progress.
        deadline: When the whole command must have finished, by the monotonic clock.
    """

    def __init__(
        self, search: SearchSettings, study: Study, store: RecordStore, display: Display, deadline: float
    ) -> None:
        self.search, self.study, self.store, self.display = search, study, store, display
        self.deadline = Deadline(search, study, deadline)
        self.predictor = HoursPredictor()
        self.image_counts = search.data.counts(search.benchmark.data)
        self.records = {record.run_id: record for record in store.records()}
        self.running: list[ActiveTrial] = []
        self.waiting: deque[ActiveTrial] = deque()  # timed candidates to train, or candidates to time alone
        self.heartbeat = Heartbeat(study)
        self.reaper = StaleTrialReaper(study)
        self.proposals = Proposals(search, study, self.predictor)
        fractions = [search.rungs.time_fraction(rung) for rung in range(len(search.rungs))]
        self.model = study.sampler.model if isinstance(study.sampler, ThompsonSampler) else StudyModel(search.sample)
        self.promotion = Promotion(self.model, fractions, search.rungs.reduction_factor)
        self.misled_rungs: set[int] = set()  # those that have been reported
        self.untimed_mode = untimed_mode(search.device, search.benchmark.recipe)
        self.is_complete = False  # if True, no new candidate is started
        self.failures: list[str] = []  # reasons for the consecutive failures
        self.too_long: list[str] = []  # candidates for which there was no time
        self._last_trials: list[FrozenTrial] = []
        self._last_read = -math.inf  # by the monotonic clock
        for trial in self.trials():
            if {trial_attrs.MACS, trial_attrs.HOURS} <= trial.user_attrs.keys():
                self.predictor.add(trial.user_attrs[trial_attrs.MACS], trial.user_attrs[trial_attrs.HOURS])

    def trials(self) -> list[FrozenTrial]:
        """Return all trials of the study, including those of other workers."""
        self._last_trials, self._last_read = self.study.get_trials(deepcopy=False), time.monotonic()
        return self._last_trials

    def run(self) -> None:
        """Run the search.

        Raises:
            NothingFits: If no candidate is within the budget.
            InputError: If there is no time for any candidate, or the recipe's optimizer is not valid.
            WorkerFailed: If no candidate could be trained.
            OSError: If a record cannot be written.
        """
        search, recipe = self.search, self.search.benchmark.recipe
        if recipe.optimizer != Recipe.optimizer or recipe.optimizer_options:  # otherwise, every candidate would fail
            search.executor.call("benchmarks.budget.check:check_recipe", self.display, recipe)
        with self.heartbeat:
            self._reap_stale_trials()
            self.proposals.enqueue_base()
            try:
                while not self.is_complete or self.waiting:
                    execute_jobs(self._next_job, search.executor, search.workers, self._on_progress, self._on_finished)
            finally:  # some trials remain if the command was asked to stop, or an exception was raised
                for active in [*self.running, *self.waiting]:
                    self._requeue(active)
        self._explain_end()
        if not any(trial_attrs.is_trained(trial) for trial in self.trials()):
            self._raise_reason()

    def _reap_stale_trials(self) -> None:
        for line in self.reaper.reap():
            self.display.say(line)

    # Choosing the next job

    def _next_job(self) -> Job[ActiveTrial] | None:
        """Return the next job, a run or a timing; None if there is nothing to start until another job has finished."""
        if any(
            not active.within_hours for active in self.running
        ):  # a candidate is being timed, and nothing else may run
            return None
        active = self.waiting.popleft() if self.waiting else self._new_trial()
        if active is None:
            return None
        if not active.within_hours and self.running:
            self.waiting.append(active)
            return None
        self.running.append(active)
        self.heartbeat.expect_progress_within(2 * max(map(self._time_limit, self.running)))
        return self._make_job(active)

    def _make_job(self, active: ActiveTrial) -> Job[ActiveTrial]:
        search, time_limit = self.search, self._time_limit(active)
        if active.within_hours:
            run = active.run(search)
            return Job(active, "benchmarks.runs.dispatch:execute_run", (run,), time_limit)
        args = {active.candidate.spec: 1}, search.benchmark, search.device, self.image_counts
        return Job(active, "benchmarks.budget.check:check_specs", args, time_limit)

    def _time_limit(self, active: ActiveTrial) -> float:
        """Return the seconds after which a job is considered hung, or exceeds the remaining time of the search."""
        fraction = self.search.rungs.time_fraction(active.rung)
        predicted_hours = active.candidate.hours * fraction if active.within_hours else 0.0
        limit = self.search.time_limit or default_time_limit(predicted_hours, self.search.workers)
        return max(1.0, min(limit, self.deadline.seconds_left()))

    def _new_trial(self) -> ActiveTrial | None:
        """Return the next candidate worth training; None if there is none for now."""
        started = time.monotonic()
        while not self.is_complete and time.monotonic() - started < MAX_SCREENING_SECONDS:
            self._reap_stale_trials()
            self._limit_macs()
            trials = self.trials()
            is_promoting, has_enough = self._enqueue_promotion(trials), self._has_enough(trials)
            if has_enough and not is_promoting:
                self.is_complete = not self.running and not self._wait_for_other_workers()
                return None
            try:
                if not is_promoting:
                    self.proposals.enqueue(trials)
                if active := self._ask(only_promoted=has_enough):
                    return active
            except UpdateFinishedTrialError:  # another worker considered this one dead and failed its trial
                continue
        return None

    def _has_enough(self, trials: Sequence[FrozenTrial]) -> bool:
        """Return whether to start no new candidate for now. If a running candidate fails, another one can start."""
        num_trials = sum(map(trial_attrs.counts_toward_total, trials))
        is_failing = max(len(self.failures), len(self.too_long)) >= MAX_CONSECUTIVE_FAILURES
        is_futile = self.proposals.exhausted or is_failing or self._is_out_of_patience(trials)
        return num_trials >= self.search.trials or is_futile or self.deadline.has_passed()

    def _is_out_of_patience(self, trials: Sequence[FrozenTrial]) -> bool:
        patience = self.search.patience
        return patience is not None and trial_attrs.num_without_improvement(trials) >= patience

    def _wait_for_other_workers(self) -> bool:
        """Wait a moment if other workers run trials, which will end or become stale. Return whether there are any."""
        running = any(trial.state == TrialState.RUNNING for trial in self.trials())
        if not running or self.deadline.has_passed():
            return False
        time.sleep(OTHER_WORKERS_POLL_SECONDS)
        return True

    def _limit_macs(self) -> None:
        """Let the sampler prefer candidates whose full training run fits into the time of the search."""
        rate = self.predictor.predict(1)
        if rate and self.search.timeout is not None:
            self.model.limits = self.search.sample.limits._replace(macs=self.deadline.affordable_hours() / rate)

    def _enqueue_promotion(self, trials: Sequence[FrozenTrial]) -> bool:
        """Queue the candidate to promote now, if there is one and its training would finish in time."""
        promoted = self.promotion.choose(self.study, trials)
        for rung in set(self.promotion.misled_rungs) - self.misled_rungs:
            self.misled_rungs.add(rung)
            self.display.say(describe_misled_rung(self.search, rung, trials))
        if promoted is None:
            return False
        fraction = self.search.rungs.time_fraction(trial_attrs.last_rung(promoted) + 1)
        hours = promoted.user_attrs[trial_attrs.HOURS] * fraction
        if not self.deadline.has_time_for(hours):
            return False
        trial_attrs.enqueue_promotion(self.study, promoted)
        return True

    def _ask(self, only_promoted: bool) -> ActiveTrial | None:
        """Ask for one trial. Return None if its candidate cannot or need not be trained."""
        proposal = self.proposals.ask(self.heartbeat.name, only_promoted)
        if proposal is None:
            return None
        trial, candidate, earlier = proposal
        within_hours = self._is_within_hours(candidate)
        accuracies: Sequence[float] = ()
        if earlier is not None:  # it has been trained, at the rung before
            within_hours, accuracies = True, trial_attrs.rung_accuracies(earlier)
            candidate = replace(candidate, hours=earlier.user_attrs[trial_attrs.HOURS])
        active = ActiveTrial(trial, candidate, within_hours, accuracies=accuracies, compile_mode=self.untimed_mode)
        unrecorded = self._use_records(active)
        return unrecorded if unrecorded and self._has_time(unrecorded) else None

    def _is_within_hours(self, candidate: Candidate) -> bool:
        """Return whether to train a candidate without timing it.

        If the budget names another device, the profile of that device has decided about the hours. The first candidate
        is timed nevertheless, since time limits are based on the speed of the device at hand.
        """
        if candidate.reference_hours is not None:
            return self.predictor.predict(candidate.macs) > 0
        return self.predictor.clearly_within(candidate.macs, self.search.benchmark.budget.max_hours)

    def _use_records(self, active: ActiveTrial) -> ActiveTrial | None:
        """Complete a trial whose run is already recorded. Return None if there was one."""
        record = self.records.get(active.run(self.search).id) if active.within_hours else None
        return None if record is not None and self._finish_rung(active, record) else active

    def _finish_rung(self, active: ActiveTrial, record: RunRecord) -> bool:
        return finish_rung(active, record, self.search, self.study, self.predictor)

    def _has_time(self, active: ActiveTrial) -> bool:
        """Return whether the next rung, and a full run if it wins, would finish in time; otherwise fail the trial."""
        hours = active.candidate.hours
        rung_hours = hours * self.search.rungs.time_fraction(active.rung)
        if self.deadline.has_time_for_winner(hours) and self.deadline.has_time_for(rung_hours):
            self.too_long.clear()
            return True
        self.too_long.append(f"one full training run of {active.candidate.spec} takes {format_hours(hours)}")
        trial_attrs.tell_failed(self.study, active.trial, "it would not finish before --timeout", permanent=False)
        return False

    # Handling outcomes

    def _on_finished(self, active: ActiveTrial, outcome: Any) -> None:
        """Handle the outcome of a job: a record, a list with one verdict, or an exception."""
        if isinstance(outcome, RunRecord) and not math.isfinite(outcome.top1):
            outcome = WorkerFailed(f"its accuracy is {outcome.top1}")
        try:
            if isinstance(outcome, Exception):
                self._fail(active, outcome)
            elif isinstance(outcome, RunRecord):
                record_outcome(self.store, active.run(self.search), outcome)
                self.records[outcome.run_id] = outcome
                self.failures.clear()
                if not self._finish_rung(active, outcome):
                    self.waiting.append(active)
            else:
                self._judge(active, *outcome)
        except (UpdateFinishedTrialError, ValueError):  # ValueError: raised by Optuna's `tell`
            self.display.say(f"trial {active.trial.number} was ended by another worker, which considered this one dead")
        self.running.remove(active)  # done last, so that the trial is queued again after an exception

    def _fail(self, active: ActiveTrial, error: Exception) -> None:
        self.display.say(f"trial {active.trial.number} ({active.candidate.spec}) failed: {error}")
        if active.within_hours:
            record_outcome(self.store, active.run(self.search), error)
        in_time = self.deadline.seconds_left() > 0
        self.failures += [str(error)] * in_time
        trial_attrs.tell_failed(self.study, active.trial, str(error), permanent=in_time)

    def _judge(self, active: ActiveTrial, verdict: Verdict) -> None:
        """Reject a timed candidate that is over the budget; otherwise, queue it for training."""
        hours = verdict.hours_at_hand.predicted if verdict.hours_at_hand else 0.0
        if verdict.cost.macs is not None:
            self.predictor.add(active.candidate.macs, hours)
        if not verdict.passed or verdict.unjudged:
            limited = verdict.hours.predicted if verdict.hours else 0.0
            excess = limited / self.search.benchmark.budget.max_hours - 1
            self.proposals.reject(active.trial, verdict.conclusion, excess)
            return
        active.candidate = replace(active.candidate, hours=hours)
        active.within_hours = active.is_timed = True
        active.compile_mode = verdict.throughput.compile_mode if verdict.throughput else "eager"
        if self._use_records(active) and self._has_time(active):
            self.waiting.append(active)

    def _requeue(self, active: ActiveTrial) -> None:
        """Fail an unfinished trial and queue its candidate, which then resumes from its records and checkpoint."""
        trial = active.trial
        with suppress(UpdateFinishedTrialError, OSError, StorageInternalError):
            trial_attrs.tell_failed(self.study, trial, "the search was stopped while it was running", permanent=False)
            trial_attrs.enqueue_again(self.study, self.trials()[trial.number])

    # Messages

    def _explain_end(self) -> None:
        """Report why the search ends before all trials are finished."""
        if len(self.failures) >= MAX_CONSECUTIVE_FAILURES:
            self.display.say(f"the search ends: {len(self.failures)} consecutive training runs failed")
        elif self.deadline.has_passed():
            num_trained = sum(map(trial_attrs.is_trained, self.trials()))
            self.display.say(f"the search ends at --timeout with {plural(num_trained, 'trained candidate')}")
        elif self._is_out_of_patience(self.trials()):
            idle = plural(trial_attrs.num_without_improvement(self.trials()), "candidate")
            self.display.say(f"the search ends: the last {idle} have not raised the best accuracy of any rung")
        elif self.proposals.exhausted:
            number = self.proposals.max_misses
            self.display.say(f"the search ends: the last {number} proposals were over the budget or duplicates")

    def _raise_reason(self) -> None:
        """Raise an error with the reason why no candidate was trained."""
        if self.failures:
            raise WorkerFailed(f"no candidate could be trained: {self.failures[-1]}")
        if self.too_long:
            raise InputError(f"--timeout is too short: {self.too_long[0]}; use a longer one, or --finalists 0")
        if not self.proposals.rejections:
            raise NothingFits("--timeout is too short for a single candidate; use a longer one")
        rejections = self.proposals.rejections
        reason = max(set(rejections), key=rejections.count)
        raise NothingFits(
            f"none of {plural(len(rejections), 'candidate')} is within the budget; most frequent reason: {reason}"
        )

    def _on_progress(self, active: ActiveTrial, progress: Progress) -> None:
        if progress.warning:
            self.display(replace(progress, task=active.candidate.spec))
            return
        with suppress(StorageInternalError):  # a failure to report progress must not end the search
            is_recent = time.monotonic() - self._last_read < MAX_PROGRESS_AGE_SECONDS
            trials = self._last_trials if is_recent else self.trials()
            self.display(overall_progress(self.search, trials, self.deadline.seconds_left()))
