"""Proposals of the sampler: candidates worth training are returned, and other trials are finished immediately."""

import random
import time
from collections.abc import Sequence
from contextlib import suppress

from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState

from arch.errors import InputError
from arch.spec import parse
from search import trial_attrs
from search.candidates import Candidate, HoursPredictor, InfeasibleCandidate, screen
from search.samplers.thompson import ThompsonSampler
from search.settings import SearchSettings
from search.space import ChoiceSpace

MAX_MISSES = 200  # after this many infeasible or duplicate proposals in a row, the space is exhausted
MIN_MISSES = 20
CLAIM_TIMEOUT_SECONDS = 5.0  # time for an older running trial to store its architecture
POLL_SECONDS = 0.05
MAX_NEIGHBOR_DRAWS = 50  # random neighbors of a duplicate to try when searching for an unseen candidate


class Proposals:
    """Asks a study for candidates to train."""

    def __init__(self, search: SearchSettings, study: Study, predictor: HoursPredictor) -> None:
        self.search, self.study, self.predictor = search, study, predictor
        self.rejections: list[str] = []  # reasons for the infeasible proposals
        self.misses = 0  # consecutive proposals without a candidate to train
        size = search.space.size if isinstance(search.space, ChoiceSpace) else MAX_MISSES
        self.max_misses = min(MAX_MISSES, max(MIN_MISSES, 3 * size))

    @property
    def exhausted(self) -> bool:
        """Whether the last `max_misses` proposals were all infeasible or duplicates."""
        return self.misses >= self.max_misses

    def enqueue_base(self) -> None:
        """Queue the base as the first candidate of a new study, so that there is a candidate to fall back on."""
        space = self.search.space
        started = [t for t in self._other_trials(-1) if t.state != TrialState.WAITING]
        if not isinstance(space, ChoiceSpace) or any(trial_attrs.WARM_START not in t.user_attrs for t in started):
            return
        if space.base_choices is not None:
            self.study.enqueue_trial(space.base_choices)

    def enqueue(self, trials: Sequence[FrozenTrial]) -> None:
        """Queue the proposal of `ThompsonSampler` with its parameters, unless a trial is waiting.

        Args:
            trials: The trials of the study.
        """
        sampler = self.study.sampler
        is_queued = any(trial.state == TrialState.WAITING for trial in trials)
        if is_queued or not isinstance(sampler, ThompsonSampler):
            return
        if params := sampler.propose(self.study, trials, len(trials)):
            search_space = sampler.model.search_space(trials)
            trial_attrs.enqueue_params(self.study, params, {name: search_space[name] for name in params})

    def ask(self, worker: str, only_promoted: bool = False) -> tuple[Trial, Candidate, FrozenTrial | None] | None:
        """Ask the study for one trial.

        Args:
            worker: The name of the worker that would train it.
            only_promoted: Whether a new candidate, which may be queued before a promoted one, stays in the queue.

        Returns:
            The trial, its candidate, and for a promoted candidate its trial at the rung before. None if the trial was
            finished because its candidate is infeasible or a duplicate.
        """
        trial = self.study.ask()
        rung = trial.user_attrs.get(trial_attrs.RUNG, 0)
        if only_promoted and not rung:
            trial_attrs.enqueue_again(self.study, self._frozen(trial))
            trial_attrs.tell_failed(self.study, trial, "enough candidates are trained", permanent=False)
            return None
        self.misses += 1
        trial.set_user_attr(trial_attrs.WORKER, worker)
        try:
            spec = self.search.space.suggest(trial)
        except InputError as error:  # some parameters may be missing, so that a complete trial would mislead samplers
            self.rejections.append(str(error))
            trial_attrs.tell_failed(self.study, trial, str(error))
            return None
        candidate = screen(spec, self.search.benchmark, self.predictor, self.search.reference)
        trial_attrs.set_candidate(trial, candidate)
        if isinstance(candidate, InfeasibleCandidate):
            self.reject(trial, candidate.reason, candidate.excess)
            return None
        others = self._wait_for_older_trials(trial)
        twin = _find_twin(others, trial, candidate, rung)
        if twin is not None:
            self._finish_as(twin, trial)
            return None
        earlier = _find_earlier(others, candidate, rung)
        if rung and earlier is None:
            trial_attrs.tell_failed(self.study, trial, "it has not finished the rung before")
            return None
        self.misses = 0
        return trial, candidate, earlier

    def reject(self, trial: Trial, reason: str, excess: float) -> None:
        """Finish a trial as infeasible. `excess` is the relative excess over the limit."""
        self.rejections.append(reason)
        trial_attrs.tell_infeasible(self.study, trial, self.search.benchmark.budget, reason, excess)

    def _frozen(self, trial: Trial) -> FrozenTrial:
        return self.study.get_trials(deepcopy=False)[trial.number]

    def _other_trials(self, number: int) -> list[FrozenTrial]:
        return [trial for trial in self.study.get_trials(deepcopy=False) if trial.number != number]

    def _wait_for_older_trials(self, trial: Trial) -> list[FrozenTrial]:
        """Return the other trials when all older running ones have stored their architecture.

        Otherwise, two workers could train twins; of these, the newer one is dropped.
        """
        deadline = time.monotonic() + CLAIM_TIMEOUT_SECONDS
        while True:
            others = self._other_trials(trial.number)
            running = (other for other in others if other.state == TrialState.RUNNING and other.number < trial.number)
            if all(trial_attrs.KEY in other.user_attrs for other in running) or time.monotonic() > deadline:
                return others
            time.sleep(POLL_SECONDS)

    def _finish_as(self, twin: FrozenTrial, trial: Trial) -> None:
        """Finish a trial with the outcome of its twin, and queue an unseen neighbor in its place."""
        trial.set_user_attr(trial_attrs.DUPLICATE_OF, twin.number)
        if trial_attrs.is_infeasible(twin):
            self.reject(trial, twin.user_attrs[trial_attrs.REASON], twin.constraints.get("budget", 0.0))
            return
        if twin.values:
            trial_attrs.tell_complete(self.study, trial, twin.values)
        elif twin.state == TrialState.FAIL:
            trial_attrs.tell_failed(self.study, trial, twin.user_attrs[trial_attrs.REASON])
        else:
            reason = f"trial {twin.number} is running with the same architecture"
            trial_attrs.tell_failed(self.study, trial, reason, permanent=False)
        if not trial.user_attrs.get(trial_attrs.RUNG):
            self._queue_neighbor(trial)

    def _queue_neighbor(self, trial: Trial) -> None:
        """Queue an unseen candidate that differs in one choice, so that a repetitive sampler makes progress."""
        space = self.search.space
        if not isinstance(space, ChoiceSpace):
            return
        rng = random.Random(f"{self.search.name} {trial.number}")
        seen_keys = {other.user_attrs.get(trial_attrs.KEY) for other in self._other_trials(-1)}
        varied = [name for name, fragments in space.choices.items() if len(fragments) > 1]
        for _ in range(MAX_NEIGHBOR_DRAWS if varied else 0):
            name = rng.choice(varied)
            chosen = {**trial.params, name: rng.choice(space.choices[name])}
            with suppress(InputError):
                if parse(space.spec(chosen), self.search.benchmark.baseline).architecture.key() not in seen_keys:
                    self.study.enqueue_trial({choice: chosen[choice] for choice in space.choices})
                    return


def _find_earlier(others: Sequence[FrozenTrial], candidate: Candidate, rung: int) -> FrozenTrial | None:
    """Return the trial of a candidate at the rung before this one; None if there is none."""
    for other in others if rung else ():
        is_same = trial_attrs.is_trained(other) and other.user_attrs.get(trial_attrs.KEY) == candidate.key
        if is_same and trial_attrs.last_rung(other) + 1 == rung:
            return other
    return None


def _find_twin(others: Sequence[FrozenTrial], trial: Trial, candidate: Candidate, rung: int) -> FrozenTrial | None:
    """Return another trial of the same architecture and rung whose outcome also holds for this one."""
    for other in others:
        if other.user_attrs.get(trial_attrs.KEY) != candidate.key or trial_attrs.rung(other) != rung:
            continue
        is_older_and_running = other.state == TrialState.RUNNING and other.number < trial.number
        has_outcome = trial_attrs.is_trained(other) or trial_attrs.is_infeasible(other)
        if is_older_and_running or has_outcome or trial_attrs.is_permanent_failure(other):
            return other
    return None
