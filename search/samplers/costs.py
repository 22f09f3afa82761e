"""`CostModel`: predicts the cost of candidates that have not been counted."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from search.samplers.surrogate import Codes, Floats, differences

DECAY_GRID = (0.01, 0.03, 0.1, 0.3)  # decrease of the log-correlation of costs per choice that differs
NOISE = 1e-3  # relative variance that the kernel cannot explain
MAX_COUNTED = 600  # latest counted candidates to fit
MAX_TUNING_COUNTED = 200  # latest counted candidates used to select the decay and the scale
TOLERANCE = 1e-9
MIN_LIMIT = 1e-9  # in place of 0, whose logarithm is not finite
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
class _CostFunction:
    """Kernel ridge regression of one cost, or of its logarithm."""

    rows: NDArray[np.int64]  # the counted candidates with a known cost
    weights: Floats  # (rows,)
    intercept: float
    decay: float
    is_log: bool
    min_cost: float

    @classmethod
    def fit(cls, distance: Floats, costs: Floats) -> Self:
        """Fit the function, with the decay and the scale that have the smallest relative leave-one-out error.

        Args:
            distance: The number of choices that differ between two counted candidates.
            costs: (counted candidates,), positive; NaN where unknown.
        """
        rows = np.flatnonzero(~np.isnan(costs))
        if not len(rows):
            return cls(rows, np.zeros(0), math.nan, DECAY_GRID[0], True, math.nan)
        distance, costs, recent = distance[np.ix_(rows, rows)], costs[rows], slice(-MAX_TUNING_COUNTED, None)
        settings = [(decay, is_log) for decay in DECAY_GRID for is_log in (True, False)]
        errors = [_leave_one_out_error(distance[recent, recent], costs[recent], *setting) for setting in settings]
        decay, is_log = settings[int(np.argmin(errors))]
        values = np.log(costs) if is_log else costs
        kernel = np.exp(-decay * distance) + NOISE * np.eye(len(rows))
        weights = np.linalg.solve(kernel, values - values.mean())
        return cls(rows, weights, float(values.mean()), decay, is_log, float(costs.min()))

    def log_cost(self, distance: Floats) -> Floats:
        """Return the logarithm of the predicted cost, of shape (candidates,); NaN if no cost is known.

        Args:
            distance: (candidates, counted candidates)
        """
        known = distance if len(self.rows) == distance.shape[1] else distance[:, self.rows]  # no copy if all are known
        values = self.intercept + np.exp(-self.decay * known) @ self.weights
        return np.asarray(values if self.is_log else np.log(np.maximum(values, self.min_cost)))


def _leave_one_out_error(distance: Floats, costs: Floats, decay: float, is_log: bool) -> float:
    """Return the mean squared leave-one-out error, relative to the variance."""
    values = np.log(costs) if is_log else costs
    inverse = np.linalg.inv(np.exp(-decay * distance) + NOISE * np.eye(len(costs)))
    errors = inverse @ (values - values.mean()) / np.diag(inverse)
    return float((errors**2).mean() / (values.var() or 1.0))


@dataclass(frozen=True)
class CostModel:
    """Kernel ridge regression of each cost.

    The kernel is exp(-decay * number of choices that differ), which is nearly additive for a small decay. Effects of
    width and depth multiply, so that they add up on a logarithmic scale; those of the operations of a cell add up.
    """

    codes: Codes  # (counted candidates, choices)
    functions: Sequence[_CostFunction]  # one per cost
    center: Floats  # (costs,): mean of the logarithms over the sample
    spread: Floats  # (costs,): their standard deviation
    log_limits: Floats  # (costs,): infinity without a limit

    @classmethod
    def fit(cls, codes: Codes, costs: Floats, num_sampled: int) -> Self:
        """Fit the model.

        Args:
            codes: (counted candidates, choices): random candidates first, then others, the latest last.
            costs: (counted candidates, costs): NaN or infinity where unknown.
            num_sampled: The number of random candidates, which define the scale of the features.
        """
        logs = log_of(costs)
        center, spread = np.zeros(logs.shape[1]), np.ones(logs.shape[1])
        for column, values in enumerate(logs.T):
            sampled = values[:num_sampled][~np.isnan(values[:num_sampled])]
            known = sampled if len(sampled) else values[~np.isnan(values)]
            if len(known):
                center[column], spread[column] = known.mean(), known.std() or 1.0
        codes, known_costs = codes[-MAX_COUNTED:], np.exp(logs[-MAX_COUNTED:])
        distance = differences(codes, codes)
        functions = [_CostFunction.fit(distance, column) for column in known_costs.T]
        return cls(codes, functions, center, spread, np.full(logs.shape[1], np.inf))

    def with_limits(self, limits: Costs) -> Self:
        """Return the model with these maximum costs of a candidate; NaN means no limit."""
        return replace(self, log_limits=np.nan_to_num(np.log(np.maximum(limits, MIN_LIMIT)), nan=np.inf))

    def log_costs(self, codes: Codes) -> Floats:
        """Return the logarithm of each predicted cost, of shape (candidates, costs); NaN where unknown."""
        distance = differences(codes, self.codes)
        return np.stack([function.log_cost(distance) for function in self.functions], axis=1)

    def features(self, log_costs: Floats) -> Floats:
        """Return the standardized logarithm of each cost, clipped, of shape (candidates, costs); 0 where unknown."""
        return np.clip(self._standardize(log_costs), -MAX_STANDARDIZED, MAX_STANDARDIZED)

    def sizes(self, log_costs: Floats) -> Floats:
        """Return the mean of the standardized logarithms of parameters and MACs, of shape (candidates,)."""
        return np.asarray(self._standardize(log_costs)[:, :2].mean(1))

    def _standardize(self, log_costs: Floats) -> Floats:
        return np.nan_to_num((log_costs - self.center) / self.spread)

    def fits(self, log_costs: Floats) -> NDArray[np.bool_]:
        """Return whether candidates with these costs are within the limits; unknown costs are."""
        return np.asarray(~(log_costs > self.log_limits + TOLERANCE).any(1))

    def excesses(self, log_costs: Floats) -> Floats:
        """Return the largest log-ratio of a cost to its limit, of shape (candidates,); -inf if none is known."""
        return np.asarray(np.nan_to_num(log_costs - self.log_limits, nan=-np.inf, neginf=-np.inf).max(1))
