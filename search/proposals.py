"""From a sampler's proposals to candidates that are worth training: the rest is ended at once, and learnt from."""

import random
import time
from contextlib import suppress

from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState

from arch.errors import InputError
from arch.spec import parse
from search import trial_attrs as trials
from search.candidates import Candidate, HoursPredictor, screen
from search.heartbeat import REASON, WORKER
from search.settings import SearchSettings
from search.space import ABSENT, ChoiceSpace

GIVE_UP = 200  # proposals in a row that come to nothing, after which there is no more to find
UNSAID_SECONDS = 5.0  # that a trial is waited for to say what it tries
NEIGHBOURS = 50  # of a candidate that is known, among which one that is not is looked for


class Proposals:
    """Asks a study for candidates."""

    def __init__(self, search: SearchSettings, study: Study, hours: HoursPredictor) -> None:
        self.search, self.study, self.hours = search, study, hours
        self.refusals: list[str] = []
        self.in_vain = 0  # in a row
        size = search.space.size if isinstance(search.space, ChoiceSpace) else GIVE_UP
        self.patience = min(GIVE_UP, max(20, 3 * size))

    @property
    def exhausted(self) -> bool:
        """Whether for long nothing new has been proposed that fits."""
        return self.in_vain >= self.patience

    def enqueue_base(self) -> None:
        """Lets the base be the first candidate of a new study, so that there is one to fall back on."""
        space = self.search.space
        if isinstance(space, ChoiceSpace) and not self._others(-1) and all(ABSENT in c for c in space.choices.values()):
            self.study.enqueue_trial(dict.fromkeys(space.choices, ABSENT))

    def ask(self, worker: str) -> tuple[Trial, Candidate] | None:
        """Asks for one candidate; None where it is not to be trained. worker: who will."""
        self.in_vain += 1
        trial = self.study.ask()
        trial.set_user_attr(WORKER, worker)
        try:
            spec = self.search.space.suggest(trial)
        except InputError as error:  # with some of its choices unmade, it must not be taken for a whole trial
            self.refusals.append(str(error))
            trials.fail(self.study, trial, str(error))
            return None
        candidate = screen(spec, self.search.benchmark, self.hours)
        trials.describe(trial, candidate)
        if candidate.problem:
            self.refuse(trial, candidate.problem, candidate.excess)
            return None
        twin = self._twin(trial, candidate)
        if twin is not None:
            self._end_as(twin, trial)
            return None
        self.in_vain = 0
        return trial, candidate

    def refuse(self, trial: Trial, problem: str, excess: float) -> None:
        """Ends a trial that is over the budget, by so much as a share of it."""
        self.refusals.append(problem)
        trials.refuse(self.study, trial, self.search.benchmark.budget, problem, excess)

    def _others(self, number: int) -> list[FrozenTrial]:
        return [trial for trial in self.study.get_trials(deepcopy=False) if trial.number != number]

    def _twin(self, trial: Trial, candidate: Candidate) -> FrozenTrial | None:
        """A trial of the same architecture, whose outcome this one's would be."""
        self._wait_for_older_ones(trial)
        same = [other for other in self._others(trial.number) if other.user_attrs.get(trials.KEY) == candidate.key]
        for other in same:
            at_work = other.state == TrialState.RUNNING and other.number < trial.number
            if at_work or trials.is_trained(other) or trials.is_refused(other) or trials.is_at_fault(other):
                return other
        return None

    def _wait_for_older_ones(self, trial: Trial) -> None:
        """Until the trials of others that have lower numbers have said what they try: the younger twin gives way."""
        until = time.monotonic() + UNSAID_SECONDS
        while time.monotonic() < until:
            older = [t for t in self._others(trial.number) if t.number < trial.number]
            if not any(t.state == TrialState.RUNNING and trials.KEY not in t.user_attrs for t in older):
                return
            time.sleep(0.05)

    def _end_as(self, twin: FrozenTrial, trial: Trial) -> None:
        """Ends a trial as its twin has ended, and queues an unseen neighbour in its place."""
        trial.set_user_attr(trials.DUPLICATE_OF, twin.number)
        if trials.is_refused(twin):
            self.refuse(trial, twin.user_attrs[REASON], twin.constraints.get("budget", 0.0))
            return
        if twin.values:
            trials.complete(self.study, trial, twin.values)
        elif twin.state == TrialState.FAIL:
            trials.fail(self.study, trial, twin.user_attrs[REASON])
        else:
            reason = f"trial {twin.number} is at work on the same architecture"
            trials.fail(self.study, trial, reason, at_fault=False)
        self._queue_neighbour(trial)

    def _queue_neighbour(self, trial: Trial) -> None:
        """Queues the candidate with one choice made otherwise: a sampler that repeats itself must not stand still."""
        space = self.search.space
        if not isinstance(space, ChoiceSpace):
            return
        rng = random.Random(f"{self.search.name} {trial.number}")
        taken = {other.user_attrs.get(trials.KEY) for other in self._others(-1)}
        free = [name for name, fragments in space.choices.items() if len(fragments) > 1]
        for _ in range(NEIGHBOURS if free else 0):
            name = rng.choice(free)
            chosen = {**trial.params, name: rng.choice(space.choices[name])}
            with suppress(InputError):
                if parse(space.spec(chosen), self.search.benchmark.baseline).variant().key() not in taken:
                    self.study.enqueue_trial({name: chosen[name] for name in space.choices})
                    return
