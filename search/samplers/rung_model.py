"""`RungModel`: predicts the accuracy of candidates at the last rung from their choices, costs and shorter trainings."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
from scipy.stats import spearmanr

from search.samplers.surrogate import Floats, Inputs, Slopes, Surrogate, normal_scores

SIZE_SLOPES = (0.125, 0.125, 0.0)  # expected effects of parameters, MACs and hours: larger candidates are better
SLOPE_VARIANCE = 0.25  # prior variance of each effect
SHORT_SLOPE = 1.0  # expected effect of the score at the rung before
MIN_OBSERVATIONS = 2  # at a rung, before a surrogate is fitted to it
MIN_TEST_OBSERVATIONS = 6  # at a rung, before its relation to the rung before is questioned
EVIDENCE_AGAINST = 2.0  # log Bayes factor from which a rung counts as misleading
MISLEADING_CORRELATION = 0.3  # rank correlation of two rungs below which a rung may count as misleading


@dataclass(frozen=True)
class Observations:
    """The trained candidates of a study.

    Attributes:
        inputs: Their choices and costs.
        accuracies: (candidates, rungs): NaN for rungs that a candidate has not finished; -inf at the first rung for
            failed candidates.
    """

    inputs: Inputs
    accuracies: Floats

    def __len__(self) -> int:
        return len(self.inputs)

    @property
    def num_rungs(self) -> int:
        """The number of rungs that at least one candidate has finished."""
        return int(self.accuracies.shape[1])

    @cached_property
    def scores(self) -> Floats:
        """The rank of each accuracy at its rung, as a quantile of a normal distribution; NaN where there is none."""
        scores = np.full(self.accuracies.shape, np.nan)
        for rung in range(self.num_rungs):
            rows = ~np.isnan(self.accuracies[:, rung])
            scores[rows, rung] = normal_scores(self.accuracies[rows, rung])
        return scores


@dataclass(frozen=True)
class _Level:
    """The relation of one rung to the rung before."""

    surrogate: Surrogate | None  # None without enough observations
    slopes: Slopes

    @property
    def is_misled(self) -> bool:
        """Whether the rung before does not help to predict this one."""
        return bool(self.slopes.means[0] == 0)

    def draw(self, inputs: Inputs, scores: Floats, rng: np.random.Generator, exploration: float) -> Floats:
        """Draw the score of each candidate at this rung, given its score at the rung before."""
        extended = inputs.with_feature(scores)
        if self.surrogate is None:
            return np.asarray(extended.features @ self.slopes.means)
        return _draw(self.surrogate, extended, rng, exploration)


@dataclass(frozen=True)
class RungModel:
    """One surrogate of the scores at each rung; that of a later rung has the score at the rung before as a feature."""

    first: Surrogate
    later: Sequence[_Level]

    @classmethod
    def fit(cls, observed: Observations, rng: np.random.Generator, size_slopes: Sequence[float] = SIZE_SLOPES) -> Self:
        """Fit the model.

        Args:
            observed: At least one observation.
            rng: Selects observations if there are many.
            size_slopes: The expected effect of each cost.
        """
        slopes = Slopes(np.array(size_slopes), np.full(len(size_slopes), SLOPE_VARIANCE))
        known = ~np.isnan(observed.scores[:, 0])
        model = cls(Surrogate.fit(observed.inputs[known], observed.scores[known, 0], slopes, rng), ())
        for rung in range(1, observed.num_rungs):
            before = model.continue_scores(observed, rng, 0.0)
            model = cls(model.first, (*model.later, _fit_level(observed, before, rung, rng)))
        return model

    @property
    def misled_rungs(self) -> list[int]:
        """The rungs whose accuracies the rung before does not help to predict."""
        return [rung for rung, level in enumerate(self.later, 1) if level.is_misled]

    def draw(self, inputs: Inputs, rng: np.random.Generator, exploration: float) -> Floats:
        """Draw the score of each candidate at the last rung.

        Args:
            inputs: Candidates that have not been trained.
            rng: Random numbers.
            exploration: Factor of the standard deviation of each draw; 0 returns means.
        """
        scores = _draw(self.first, inputs, rng, exploration)
        for level in self.later:
            scores = level.draw(inputs, scores, rng, exploration)
        return scores

    def continue_scores(self, observed: Observations, rng: np.random.Generator, exploration: float) -> Floats:
        """Draw the score of each observed candidate at the last rung of the model, unless it is known.

        The score at each rung that a candidate has finished is used to predict the next one.
        """
        scores = observed.scores[:, 0].copy()
        if (unknown := np.isnan(scores)).any():
            scores[unknown] = _draw(self.first, observed.inputs[unknown], rng, exploration)
        for rung, level in enumerate(self.later, 1):
            scores, before = observed.scores[:, rung].copy(), scores
            if (unknown := np.isnan(scores)).any():
                scores[unknown] = level.draw(observed.inputs[unknown], before[unknown], rng, exploration)
        return scores


def _fit_level(observed: Observations, before: Floats, rung: int, rng: np.random.Generator) -> _Level:
    """Relate a rung to the scores at the rung before, unless the observations speak against it."""
    variances = np.full(1 + len(SIZE_SLOPES), SLOPE_VARIANCE)
    related = Slopes(np.array([SHORT_SLOPE, *SIZE_SLOPES]), variances)
    rows = ~np.isnan(observed.scores[:, rung])
    inputs = observed.inputs[rows].with_feature(before[rows])
    if len(inputs) < MIN_OBSERVATIONS:
        return _Level(None, related)
    fitted = Surrogate.fit(inputs, observed.scores[rows, rung], related, rng)
    is_weak = _correlation(before[rows], observed.scores[rows, rung]) < MISLEADING_CORRELATION
    if is_weak and len(inputs) >= MIN_TEST_OBSERVATIONS:
        unrelated = Slopes(np.array([0.0, *SIZE_SLOPES]), np.array([0.0, *variances[1:]]))
        alternative = Surrogate.fit(inputs, observed.scores[rows, rung], unrelated, rng)
        if alternative.log_evidence > fitted.log_evidence + EVIDENCE_AGAINST:
            return _Level(alternative, unrelated)
    return _Level(fitted, related)


def _correlation(left: Floats, right: Floats) -> float:
    """Return the rank correlation; 0 if all values on one side are equal."""
    if not (np.ptp(left) and np.ptp(right)):
        return 0.0
    return float(spearmanr(left, right).statistic)


def _draw(surrogate: Surrogate, inputs: Inputs, rng: np.random.Generator, exploration: float) -> Floats:
    mean, deviation = surrogate.predict(inputs)
    return np.asarray(mean + exploration * deviation * rng.standard_normal(len(mean)))
