"""A power law of test error against the number of training images.

The law is error(images) = a * images**-b + c in percent, where c is the error floor: Hestness et al. 2017,
arXiv:1712.00409, and for the floor Rosenfeld et al. 2020, arXiv:1909.12673. It describes the measurements and is drawn
between the smallest and the largest measured size only.
"""

from dataclasses import dataclass
from math import isnan, nan

import numpy as np

from ablation.analysis.datasize_series import Series, SizePoint
from ablation.analysis.power_law_fit import MAX_EXPONENT, Curves, fit_curves, percentile_level, resampled_means
from ablation.analysis.statistics import Values
from arch.text import plural

MIN_SIZES = 3  # because the law has three parameters
MAX_FLOOR_WIDTH = 0.75  # fraction of [0, lowest error]; if the interval is wider, c is not identified
NUM_CURVE_POINTS = 61
EXACT_FIT = 0.01  # points; a curve with a smaller deviation from each mean passes through the means


@dataclass(frozen=True)
class Estimate:
    """A number and its 95% CI, which is NaN if a size has only one seed."""

    value: float
    low: float = nan
    high: float = nan


@dataclass(frozen=True)
class PowerLaw:
    """error(images) = a * images**-b + c in percent, fitted to the runs of one series.

    The intervals are pointwise, consider the variation over seeds only, and assume that the error follows the law.

    Attributes:
        a: The scale, in percent: the error at one image above the floor, which is not a prediction.
        b: The exponent.
        c: The error floor, in percent.
        images: The positions of `error`, from the smallest to the largest measured size.
        error: The fitted error at `images`, in percent.
        sizes: The number of measured sizes.
        seeds: The smallest number of seeds of any size.
        max_deviation: The largest distance of the curve from the mean of a size, in points.
        lowest_error: The lowest mean error of a size, in percent.
    """

    a: Estimate
    b: Estimate
    c: Estimate
    images: tuple[float, ...]
    error: tuple[Estimate, ...]
    sizes: int
    seeds: int
    max_deviation: float
    lowest_error: float

    @property
    def identifies_floor(self) -> bool:
        """Whether the interval of c excludes a substantial part of its possible values."""
        return self.c.high - self.c.low < MAX_FLOOR_WIDTH * self.lowest_error

    def describe(self) -> str:
        """Return the law and its limitations as one sentence without a period."""
        first, last = self.images[0], self.images[-1]
        law = f"error = {_number(self.a.value)} x images^-{self.b.value:.3f} + {self.c.value:.2f} percent"
        parts = [f"{law}, valid from {first:,.0f} to {last:,.0f} images only", self._fit_quality()]
        if self.seeds < 2:
            return "; ".join([*parts, "no CIs, because a size has only one seed"])
        intervals = ", ".join(f"{name} {_interval(getattr(self, name))}" for name in "abc")
        few = "" if self.seeds > 2 else "only "
        parts.append(f"95% CIs from a bootstrap over {few}{plural(self.seeds, 'seed')} per size: {intervals}")
        if self.b.low == 0:
            parts.append("not shown that the error decreases at all")
        if not self.identifies_floor:
            parts.append("c is not identified, because its CI covers nearly all possible values")
        elif self.c.low == 0:
            parts.append("not shown that the error floor is above zero")
        return "; ".join(parts)

    def _fit_quality(self) -> str:
        if self.sizes > MIN_SIZES or self.max_deviation > EXACT_FIT:
            return f"largest deviation from the mean of a size {self.max_deviation:.2f} points"
        return "three sizes determine three parameters, so the fit has no residual"


def fit_power_law(series: Series) -> PowerLaw | None:
    """Return the least-squares fit to all runs, each with the same weight; None if `why_no_law` gives a reason."""
    if why_no_law(series):
        return None
    ratio, errors, weights = _mean_errors(series)
    law, smallest = fit_curves(ratio, errors[None], weights), series.measured[0].images
    grid = np.geomspace(ratio[0], ratio[-1], NUM_CURVE_POINTS)
    seeds = min(len(point.test) for point in series.measured)
    samples = [_errors(point) for point in series.measured]
    resampled = fit_curves(ratio, resampled_means(samples), weights) if seeds > 1 else None
    level = percentile_level(samples)
    a, b, c = _estimates(
        _parameters(law, smallest)[0], None if resampled is None else _parameters(resampled, smallest), level
    )
    error = _estimates(law.at(grid)[0], None if resampled is None else resampled.at(grid), level)
    return PowerLaw(
        a,
        b,
        c,
        images=tuple(float(value) for value in smallest * grid),
        error=tuple(error),
        sizes=len(ratio),
        seeds=seeds,
        max_deviation=float(np.abs(law.at(ratio)[0] - errors).max()),
        lowest_error=float(errors.min()),
    )


def why_no_law(series: Series) -> str:
    """Return why no power law can be fitted to a series; empty if one can."""
    if len(series.measured) < MIN_SIZES:
        return f"{len(series.measured)} of the required {MIN_SIZES} sizes have a run"
    ratio, errors, weights = _mean_errors(series)
    law = fit_curves(ratio, errors[None], weights)
    if not law.scale[0]:
        return "the error does not decrease with the number of images"
    if law.b[0] > 0.99 * MAX_EXPONENT:
        return "the error decreases only at the smallest sizes, which does not determine an exponent"
    return ""


def _estimates(values: Values, resampled: Values | None, level: float) -> list[Estimate]:
    """Return the values with percentile intervals of their resamples, shape (resamples, values), if there are any."""
    if resampled is None:
        return [Estimate(float(value)) for value in values]
    low, high = np.quantile(resampled, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return [Estimate(*map(float, numbers)) for numbers in zip(values, low, high, strict=True)]


def _mean_errors(series: Series) -> tuple[Values, Values, Values]:
    """Return the ratio of each size to the smallest, the mean error and the number of runs.

    The curve that fits these weighted means best also fits the individual runs best.
    """
    points = series.measured
    images = np.array([point.images for point in points], float)
    means = np.array([_errors(point).mean() for point in points])
    return images / images[0], means, np.array([len(point.test) for point in points], float)


def _errors(point: SizePoint) -> Values:
    """Return the errors in percent, sorted by seed."""
    return 100 - np.array([point.test[seed] for seed in sorted(point.test)], float)


def _parameters(curves: Curves, smallest: int) -> Values:
    """Return (a, b, c) of each curve."""
    return np.stack([curves.scale * float(smallest) ** curves.b, curves.b, curves.c], 1)


def _number(value: float) -> str:
    return f"{value:,.0f}" if 100 <= value < 1e6 else f"{value:.3g}"


def _interval(estimate: Estimate) -> str:
    return "" if isnan(estimate.low) else f"[{_number(estimate.low)}, {_number(estimate.high)}]"
