"""`CostModel`: predicts the cost of candidates that have not been counted."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from search.samplers.surrogate import Codes, Floats, differences

DECAY = 0.1  # decrease of the log-correlation of costs per choice that differs
NOISE = 1e-3  # relative variance that the kernel cannot explain
MAX_COUNTED = 600  # latest counted candidates to fit
TOLERANCE = 1e-9
MAX_STANDARDIZED = 3.0  # features are clipped to this range, because the surrogate extrapolates linearly


class Costs(NamedTuple):
    """Costs of a candidate; NaN where unknown."""

    params: float
    macs: float
    hours: float  # of the full training run on the device that the budget names


UNKNOWN = Costs(math.nan, math.nan, math.nan)


class CountedCandidate(NamedTuple):
    """The parameters of a candidate, and its costs."""

    chosen: Mapping[str, Any]
    costs: Costs


@dataclass(frozen=True)
class CostSample:
    """Random candidates of a space, counted before a search starts.

    Attributes:
        candidates: They define the scale of the features.
        limits: Maximum costs of a candidate; NaN without a limit.
        num_feasible: How many of the candidates are within the limits.
        count: Counts another candidate, given its parameters.
    """

    candidates: Sequence[CountedCandidate] = ()
    limits: Costs = UNKNOWN
    num_feasible: int = 0
    count: Callable[[Mapping[str, Any]], Costs] = lambda chosen: UNKNOWN


def log_of(costs: Floats) -> Floats:
    """Return the logarithms of costs; NaN where unknown."""
    return np.asarray(np.log(np.where(np.isfinite(costs) & (costs > 0), costs, np.nan)))


@dataclass(frozen=True)
class CostModel:
    """Kernel ridge regression of the logarithm of each cost.

    The kernel is exp(-DECAY * number of choices that differ), which is nearly additive: effects of width and depth
    multiply, so that they add up on a logarithmic scale.
    """

    codes: Codes  # (counted candidates, choices)
    weights: Floats  # (counted candidates, costs)
    intercept: Floats  # (costs,)
    center: Floats  # (costs,): mean of the logarithms over the sample
    spread: Floats  # (costs,): their standard deviation
    log_limits: Floats  # (costs,): infinity without a limit

    @classmethod
    def fit(cls, codes: Codes, costs: Floats, num_sampled: int, limits: Costs) -> Self:
        """Fit the model.

        Args:
            codes: (counted candidates, choices): random candidates first, then others, the latest last.
            costs: (counted candidates, costs): NaN or infinity where unknown.
            num_sampled: The number of random candidates, which define the scale of the features.
            limits: Maximum costs of a candidate; NaN without a limit.
        """
        logs = log_of(costs)
        center, spread = np.zeros(logs.shape[1]), np.ones(logs.shape[1])
        for column, values in enumerate(logs.T):
            sampled = values[:num_sampled][~np.isnan(values[:num_sampled])]
            known = sampled if len(sampled) else values[~np.isnan(values)]
            if len(known):
                center[column], spread[column] = known.mean(), known.std() or 1.0
        codes, logs = codes[-MAX_COUNTED:], logs[-MAX_COUNTED:]
        kernel = np.exp(-DECAY * differences(codes, codes)) + NOISE * np.eye(len(codes))
        weights, intercept = np.zeros(logs.shape), center.copy()
        for column, values in enumerate(logs.T):
            known = ~np.isnan(values)
            if known.any():
                intercept[column] = values[known].mean()
                weights[known, column] = np.linalg.solve(
                    kernel[np.ix_(known, known)], values[known] - intercept[column]
                )
        log_limits = np.nan_to_num(np.log(np.array(limits)), nan=np.inf)
        return cls(codes, weights, intercept, center, spread, log_limits)

    def log_costs(self, codes: Codes) -> Floats:
        """Return the logarithm of each predicted cost, of shape (candidates, costs)."""
        if not len(self.codes):
            return np.tile(self.intercept, (len(codes), 1))
        return np.asarray(self.intercept + np.exp(-DECAY * differences(codes, self.codes)) @ self.weights)

    def features(self, codes: Codes) -> Floats:
        """Return the standardized logarithm of each cost, clipped, of shape (candidates, costs)."""
        return np.clip(self._standardize(self.log_costs(codes)), -MAX_STANDARDIZED, MAX_STANDARDIZED)

    def sizes(self, log_costs: Floats) -> Floats:
        """Return the mean of the standardized logarithms of parameters and MACs, of shape (candidates,)."""
        return np.asarray(np.nan_to_num(self._standardize(log_costs)[:, :2]).mean(1))

    def _standardize(self, log_costs: Floats) -> Floats:
        return np.asarray((log_costs - self.center) / self.spread)

    def fits(self, log_costs: Floats) -> NDArray[np.bool_]:
        """Return whether candidates with these costs are within the limits; unknown costs are."""
        return np.asarray(~(log_costs > self.log_limits + TOLERANCE).any(1))
