"""Least-squares fit of scale * (n / n0)**-b + c to many data sets at once, without a starting point."""

from collections.abc import Sequence
from math import nan, sqrt
from typing import NamedTuple

import numpy as np

from ablation.analysis.statistics import ALPHA, NUM_RESAMPLES, Values

MIN_EXPONENT, MAX_EXPONENT = 0.001, 5.0  # range of the search; those of Hestness et al. 2017 are from 0.07 to 0.35
GRID_STEPS = 80  # exponents on the initial grid, 11% apart
GOLDEN_STEPS = 35  # golden-section steps, each of which narrows the interval to 0.618 of its width
GOLDEN_RATIO = (5**0.5 - 1) / 2
MAX_LOG_RATIO = 50.0  # stands for an infinite n / n0, so that quantiles are finite; far beyond any training set


class Curves(NamedTuple):
    """One curve per data set: scale * (n / n0)**-b + c, where n0 is the smallest n.

    If the values do not decrease, the best curve is flat, with scale and b equal to 0.
    """

    scale: Values
    b: Values
    c: Values

    def at(self, ratio: Values) -> Values:
        """Return the values of each curve (rows) at each n / n0 (columns)."""
        return self.scale[:, None] * ratio ** -self.b[:, None] + self.c[:, None]

    def parameters(self, smallest: float) -> Values:
        """Return (a, b, c) of a * n**-b + c for each curve, where `smallest` is n0."""
        return np.stack([self.scale * float(smallest) ** self.b, self.b, self.c], 1)

    def log_ratio_at(self, value: float) -> Values:
        """Return log(n / n0) at which each curve falls to a value, clipped to +-MAX_LOG_RATIO.

        It is the maximum if the curve stays above the value, and the minimum if a flat curve is below it.
        """
        with np.errstate(divide="ignore", invalid="ignore"):
            log_ratio = (np.log(self.scale) - np.log(value - self.c)) / self.b
        log_ratio = np.where(self.scale > 0, log_ratio, -np.inf)
        return np.where(self.c < value, log_ratio, np.inf).clip(-MAX_LOG_RATIO, MAX_LOG_RATIO)


def fit_curves(ratio: Values, values: Values, weights: Values) -> Curves:
    """Return the best-fitting curve of each data set, with scale >= 0, c >= 0 and b within the range of the search.

    For a given b, the best scale and c are known in closed form (variable projection: Golub and Pereyra 1973, SIAM
    Journal on Numerical Analysis 10). Therefore only b is searched for: on a grid, then by golden section around the
    best grid point. A joint search of all three parameters needs a starting point for each and can stop in a valley
    where b and c compensate for each other.

    Args:
        ratio: n / n0 of each size, ascending from 1.
        values: Shape (data sets, sizes), non-negative.
        weights: Weight of each size, such as the number of runs whose mean the value is.
    """
    grid = np.geomspace(MIN_EXPONENT, MAX_EXPONENT, GRID_STEPS)

    def loss(b: Values) -> Values:
        return np.asarray((_best_given(b, ratio, values, weights).at(ratio) - values) ** 2 @ weights)

    best = np.stack([loss(grid[i : i + 1]) for i in range(GRID_STEPS)]).argmin(0)
    low, high = np.log(grid[np.maximum(best - 1, 0)]), np.log(grid[np.minimum(best + 1, GRID_STEPS - 1)])
    for _ in range(GOLDEN_STEPS):
        inner = high - GOLDEN_RATIO * (high - low), low + GOLDEN_RATIO * (high - low)
        is_left = loss(np.exp(inner[0])) <= loss(np.exp(inner[1]))
        low, high = np.where(is_left, low, inner[0]), np.where(is_left, inner[1], high)
    curves = _best_given(np.exp((low + high) / 2), ratio, values, weights)
    is_flat = curves.scale <= 1e-9 * values.max(1)  # within rounding error
    mean = values @ weights / weights.sum()
    return Curves(np.where(is_flat, 0, curves.scale), np.where(is_flat, 0, curves.b), np.where(is_flat, mean, curves.c))


def _best_given(b: Values, ratio: Values, values: Values, weights: Values) -> Curves:
    """Return the best scale and c for the exponent of each data set, or for one exponent shared by all.

    If the unconstrained optimum is outside of the allowed range, the best curve on its boundary is returned.
    """
    powers = ratio ** -b[:, None]
    share = weights / weights.sum()
    x, y = powers @ share, values @ share
    variance = ((powers - x[:, None]) ** 2) @ share
    scale = ((powers - x[:, None]) * (values - y[:, None])) @ share / variance
    c = y - scale * x
    scale_without_floor = (powers * values) @ share / (powers**2 @ share)
    scale = np.where(c < 0, scale_without_floor, np.maximum(scale, 0))
    return Curves(scale, b, np.where(c < 0, 0, y - scale * x))


def resampled_means(samples: Sequence[Values]) -> Values:
    """Return bootstrap means, shape (resamples, samples); the same random draws are used in every call.

    The distance of a resampled mean from the sample mean is multiplied by sqrt(n / (n - 1)), because resampling n
    values underestimates their standard deviation by this factor (Hesterberg 2015, arXiv:1411.5279, section 3.3).

    Args:
        samples: Percentages, at least two per sample.
    """
    draw = np.random.default_rng(0)
    columns = []
    for values in samples:
        count, mean = len(values), values.mean()
        means = values[draw.integers(0, count, (NUM_RESAMPLES, count))].mean(1)
        columns.append(mean + sqrt(count / (count - 1)) * (means - mean))
    return np.stack(columns, 1).clip(0, 100)


def percentile_level(samples: Sequence[Values]) -> float:
    """Return the level at which bootstrap percentiles are as wide as Student's 95% interval (Hesterberg 2015)."""
    from scipy import stats

    degrees = sum(len(values) - 1 for values in samples)
    return float(1 - 2 * stats.norm.sf(stats.t.isf(ALPHA / 2, degrees))) if degrees else nan
