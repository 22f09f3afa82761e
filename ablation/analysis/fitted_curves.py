"""The curve that fits the errors of a series, with bootstrap intervals of the quantities that it determines."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import exp, nan

import numpy as np

from ablation.analysis.datasize_series import SizePoint
from ablation.analysis.power_law_fit import Curves, fit_curves, percentile_level, resampled_means
from ablation.analysis.statistics import Values


@dataclass(frozen=True)
class Estimate:
    """A number and its 95% CI, which is NaN if a size has only one seed."""

    value: float
    low: float = nan
    high: float = nan


@dataclass(frozen=True)
class FittedCurves:
    """The curve that fits the mean errors of several sizes, and the curves that fit their bootstrap resamples.

    Attributes:
        curve: The curve that fits the measured means.
        resampled: The curves that fit the resampled means; None if a size has only one seed.
        level: The level of the percentile intervals.
        smallest: The smallest size, in images.
    """

    curve: Curves
    resampled: Curves | None
    level: float
    smallest: int

    def parameters(self) -> list[Estimate]:
        """Return a, b and c of error(images) = a * images**-b + c."""
        return self._estimate(lambda curves: curves.parameters(self.smallest))

    def errors_at(self, images: Values) -> list[Estimate]:
        """Return the errors in percent at these numbers of images."""
        return self._estimate(lambda curves: curves.at(images / self.smallest))

    def images_needed(self, error: float) -> Estimate:
        """Return the number of images at which the error falls to `error` percent.

        The interval contains the sizes at which the pointwise interval of the error contains `error`, because every
        curve decreases. The number is very large (see `MAX_LOG_RATIO`) if the curve does not fall to the error.
        """
        [log] = self._estimate(lambda curves: curves.log_ratio_at(error)[:, None])
        return Estimate(*(self.smallest * exp(ratio) for ratio in (log.value, log.low, log.high)))

    def _estimate(self, quantities_of: Callable[[Curves], Values]) -> list[Estimate]:
        """Return estimates of the quantities, shape (curves, quantities), that a function derives from curves."""
        values = quantities_of(self.curve)[0]
        return with_intervals(values, self.resampled and quantities_of(self.resampled), self.level)


def fit_points(points: Sequence[SizePoint]) -> FittedCurves:
    """Return the least-squares fit to all runs of some sizes, each run with the same weight."""
    ratio, errors, weights = mean_errors(points)
    samples = [run_errors(point) for point in points]
    has_intervals = min(map(len, samples)) > 1
    return FittedCurves(
        fit_curves(ratio, errors[None], weights),
        fit_curves(ratio, resampled_means(samples), weights) if has_intervals else None,
        percentile_level(samples),
        points[0].images,
    )


def with_intervals(values: Values, resampled: Values | None, level: float) -> list[Estimate]:
    """Return the values with percentile intervals of their resamples, shape (resamples, values), if there are any."""
    if resampled is None:
        return [Estimate(float(value)) for value in values]
    low, high = np.quantile(resampled, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return [Estimate(*map(float, numbers)) for numbers in zip(values, low, high, strict=True)]


def mean_errors(points: Sequence[SizePoint]) -> tuple[Values, Values, Values]:
    """Return the ratio of each size to the smallest, the mean error and the number of runs.

    The curve that fits these weighted means best also fits the individual runs best.
    """
    images = np.array([point.images for point in points], float)
    means = np.array([run_errors(point).mean() for point in points])
    return images / images[0], means, np.array([len(point.test) for point in points], float)


def run_errors(point: SizePoint) -> Values:
    """Return the errors of the runs of one size in percent, sorted by seed."""
    return 100 - np.array([point.test[seed] for seed in sorted(point.test)], float)
