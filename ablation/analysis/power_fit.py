"""Least squares of scale * (n / n0)**-b + c, for many sets of points at once and without a start, and its bootstrap."""

from collections.abc import Sequence
from math import nan, sqrt
from typing import NamedTuple

import numpy as np

from ablation.analysis.statistics import ALPHA, RESAMPLES, Values

LEAST_B, LARGEST_B = 0.001, 5.0  # exponents looked at; those of Hestness et al. 2017 lie between 0.07 and 0.35
STEPS = 80  # exponents on the grid that the search begins with, 11% apart
NARROWINGS = 35  # of the golden section, each to 0.618 of the room before
GOLDEN = (5**0.5 - 1) / 2


class Curves(NamedTuple):
    """One curve for each set of points: scale * (n / n0)**-b + c, with n0 the smallest n.

    A flat one, the best where the points do not fall, has scale and b 0.
    """

    scale: Values
    b: Values
    c: Values

    def at(self, ratio: Values) -> Values:
        """Their values, a line a curve, where n / n0 is this."""
        return self.scale[:, None] * ratio ** -self.b[:, None] + self.c[:, None]


def fit_curves(ratio: Values, points: Values, weights: Values) -> Curves:
    """The curves that are nearest to the points, with scale >= 0, c >= 0 and b of LEAST_B to LARGEST_B.

    ratio: n / n0 of each size, from 1 on and ascending. points: a line a set, with one value a size, none below 0.
    weights: how much a size counts, as the number of values that its point is the mean of.

    For a given b the best scale and c are known in closed form (variable projection: Golub and Pereyra 1973, SIAM
    Journal on Numerical Analysis 10), so b alone is searched for: on a grid, then by golden section beside its best.
    A search of all three at once needs a start for each and can stay in a valley where b and c make up for each other.
    """
    grid = np.geomspace(LEAST_B, LARGEST_B, STEPS)

    def loss(b: Values) -> Values:
        return np.asarray((_given(b, ratio, points, weights).at(ratio) - points) ** 2 @ weights)

    best = np.stack([loss(grid[i : i + 1]) for i in range(STEPS)]).argmin(0)
    low, high = np.log(grid[np.maximum(best - 1, 0)]), np.log(grid[np.minimum(best + 1, STEPS - 1)])
    for _ in range(NARROWINGS):
        inner = high - GOLDEN * (high - low), low + GOLDEN * (high - low)
        left = loss(np.exp(inner[0])) <= loss(np.exp(inner[1]))
        low, high = np.where(left, low, inner[0]), np.where(left, inner[1], high)
    curves = _given(np.exp((low + high) / 2), ratio, points, weights)
    flat = curves.scale <= 1e-9 * points.max(1)  # no more than the computer's rounding
    mean = points @ weights / weights.sum()
    return Curves(np.where(flat, 0, curves.scale), np.where(flat, 0, curves.b), np.where(flat, mean, curves.c))


def _given(b: Values, ratio: Values, points: Values, weights: Values) -> Curves:
    """The best scale and c for each set's b, or for one b of all; on the edge of what is allowed if they lie beyond."""
    powers = ratio ** -b[:, None]
    share = weights / weights.sum()
    x, y = powers @ share, points @ share
    spread = ((powers - x[:, None]) ** 2) @ share
    scale = ((powers - x[:, None]) * (points - y[:, None])) @ share / spread
    c = y - scale * x
    through_zero = (powers * points) @ share / (powers**2 @ share)
    scale = np.where(c < 0, through_zero, np.maximum(scale, 0))
    return Curves(scale, b, np.where(c < 0, 0, y - scale * x))


def resampled_means(samples: Sequence[Values]) -> Values:
    """The mean of each sample, of its values drawn with replacement: a line a draw, the same draws each time.

    samples: percentages, two or more each. Their means' distance from the sample's is widened by sqrt(n / (n - 1)), as
    resampling n values has a spread as much too small (Hesterberg 2015, arXiv:1411.5279, section 3.3).
    """
    draw = np.random.default_rng(0)
    columns = []
    for values in samples:
        count, mean = len(values), values.mean()
        means = values[draw.integers(0, count, (RESAMPLES, count))].mean(1)
        columns.append(mean + sqrt(count / (count - 1)) * (means - mean))
    return np.stack(columns, 1).clip(0, 100)


def level_of(samples: Sequence[Values]) -> float:
    """The level at which percentiles of the bootstrap reach as far as Student's 95% do (Hesterberg 2015, as above)."""
    from scipy import stats

    degrees = sum(len(values) - 1 for values in samples)
    return float(1 - 2 * stats.norm.sf(stats.t.isf(ALPHA / 2, degrees))) if degrees else nan
