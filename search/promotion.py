"""Decide which trained candidate is promoted, that is, trained at the next rung."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from search import trial_attrs
from search.samplers.encoding import encode
from search.samplers.study_model import StudyModel
from search.samplers.surrogate import Floats
from search.samplers.thompson import EXPLORATION

PENDING = (TrialState.RUNNING, TrialState.WAITING)
ROUNDING_ERROR = 1e-9  # hours
RELATIVE_TIME = 0.5  # time at a rung relative to the rung before: many short runs find more than a few long ones
MISLED_RELATIVE_TIME = 4.0  # the same, if the rung before does not predict the accuracies of this one


@dataclass
class Promotion:
    """Promotes candidates so that each rung takes a constant fraction of the time of the rung before.

    The candidates of a rung wait for promotion, as in asynchronous successive halving (Li et al. 2020,
    arXiv:1810.05934). The one with the best predicted accuracy at the last rung is promoted first; with several
    objectives, the oldest one on the Pareto front of the rung. No candidate is promoted before `2 * reduction_factor`
    candidates have finished the rung.

    Attributes:
        model: The model of the study.
        time_fractions: Duration of each rung as a fraction of the full training run.
        reduction_factor: Ratio of the durations of two consecutive rungs.
        relative_time: Time at a rung relative to the rung before.
        misled_rungs: Rungs that the rung before does not help to predict, according to the last model.
    """

    model: StudyModel
    time_fractions: Sequence[float]
    reduction_factor: int
    relative_time: float = RELATIVE_TIME
    misled_rungs: Sequence[int] = ()

    def choose(self, study: Study, trials: Sequence[FrozenTrial]) -> FrozenTrial | None:
        """Return the last trial of the candidate to promote now; None if no candidate is to be promoted.

        Args:
            study: The study.
            trials: Its trials.
        """
        latest = {trial.user_attrs[trial_attrs.KEY]: trial for trial in reversed(trial_attrs.ranked(trials))}
        waiting = _without_pending(latest, trials)
        hours = self._hours(latest, trials)
        scores: dict[int, float] | None = None
        for rung in reversed(range(len(self.time_fractions) - 1)):
            finished = [trial for trial in waiting if trial_attrs.last_rung(trial) == rung]
            num_finished = sum(trial_attrs.last_rung(trial) >= rung for trial in latest.values())
            if num_finished < 2 * self.reduction_factor or not self._has_time(hours, finished):
                continue
            if scores is None:
                scores = self._scores(study, waiting, trials)
            if len(study.directions) > 1:
                finished = trial_attrs.pareto_members(finished, list(latest.values()), rung)
            best = max(finished, key=lambda trial: scores[trial.number], default=None)
            if best is not None and self._has_time(hours, [best]):
                return best
        return None

    def _scores(self, study: Study, waiting: Sequence[FrozenTrial], trials: Sequence[FrozenTrial]) -> dict[int, float]:
        """Return a score for each waiting trial, larger is better."""
        if len(study.directions) > 1:
            return {trial.number: -float(trial.number) for trial in waiting}
        view, rng = self.model.view(study, trials), np.random.default_rng(len(trials))
        if not view.choices or not len(view.observed):
            return {trial.number: trial_attrs.rung_accuracies(trial)[-1] for trial in waiting}
        model = self.model.fit(view, rng)
        drawn: Floats = model.continue_scores(view.observed, rng, EXPLORATION)
        by_code = dict(zip(view.observed_codes, drawn.tolist(), strict=True))
        self.misled_rungs = model.misled_rungs
        return {trial.number: by_code.get(encode(trial.params, view.choices) or (), -np.inf) for trial in waiting}

    def _has_time(self, hours: Sequence[float], finished: Sequence[FrozenTrial]) -> bool:
        """Return whether the next rung has time for at least one of these trials, which finished the same rung."""
        if not finished:
            return False
        rung = trial_attrs.last_rung(finished[0])
        needed = self.time_fractions[rung + 1] * min(trial.user_attrs[trial_attrs.HOURS] for trial in finished)
        relative_time = MISLED_RELATIVE_TIME if rung + 1 in self.misled_rungs else self.relative_time
        return bool(hours[rung + 1] + needed <= relative_time * hours[rung] + ROUNDING_ERROR)

    def _hours(self, latest: Mapping[str, FrozenTrial], trials: Sequence[FrozenTrial]) -> list[float]:
        """Return the hours of each rung: those of finished trials and those that pending promotions will take."""
        durations = [
            (trial_attrs.rung(trial), trial.user_attrs[trial_attrs.HOURS])
            for trial in trials
            if trial_attrs.is_trained(trial)
        ]
        for promoted in trials:
            if promoted.state in PENDING and trial_attrs.rung(promoted):
                params = trial_attrs.params_of(promoted)
                same = (trial.user_attrs[trial_attrs.HOURS] for trial in latest.values() if trial.params == params)
                durations.append((trial_attrs.rung(promoted), next(same, 0.0)))
        hours = [0.0] * len(self.time_fractions)
        for rung, full_hours in durations:
            hours[rung] += self.time_fractions[rung] * full_hours
        return hours


def _without_pending(latest: Mapping[str, FrozenTrial], trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """Return the candidates that are not about to be promoted, and that did not fail when they were."""
    pending = [
        (trial_attrs.rung(trial), trial_attrs.params_of(trial))
        for trial in trials
        if trial_attrs.rung(trial) and (trial.state in PENDING or trial_attrs.is_permanent_failure(trial))
    ]
    return [trial for trial in latest.values() if (trial_attrs.last_rung(trial) + 1, trial.params) not in pending]
