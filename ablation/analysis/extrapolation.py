"""How well the power law of the smaller sizes predicts the accuracy at the largest size."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isnan

import numpy as np

from ablation.analysis.datasize_series import Series, SizePoint
from ablation.analysis.fitted_curves import Estimate, FittedCurves, fit_points, run_errors, with_intervals
from ablation.analysis.power_law import MIN_SIZES, why_no_law
from ablation.analysis.power_law_fit import percentile_level, resampled_means
from ablation.analysis.statistics import Values
from arch.text import shorten

TOO_FEW_SIZES = f"The extrapolation of a power law is only judged for models with at least {MIN_SIZES + 1} sizes."


@dataclass(frozen=True)
class ExtrapolationScore:
    """The predicted and the measured mean top-1 at the largest size, in percent.

    Attributes:
        fitted_images: The largest size that the law was fitted to.
        images: The size of the prediction.
        predicted: The prediction, with a 95% prediction interval for the measured mean.
        measured: The measured mean.
    """

    fitted_images: int
    images: int
    predicted: Estimate
    measured: float

    @property
    def error(self) -> float:
        """The predicted minus the measured top-1, in points."""
        return self.predicted.value - self.measured

    @property
    def is_within_interval(self) -> bool:
        """Whether the interval, if there is one, contains the measured mean."""
        return self.predicted.low <= self.measured <= self.predicted.high

    def describe(self) -> str:
        """Return the score as one sentence without a period."""
        low, high = self.predicted.low, self.predicted.high
        interval, within = "", ""
        if not isnan(low):
            interval = f" (95% prediction interval [{low:.2f}, {high:.2f}])"
            within = f", {'within' if self.is_within_interval else 'outside'} the interval"
        return (
            f"fitted to the sizes up to {self.fitted_images:,} images, the power law predicts "
            f"{self.predicted.value:.2f}%{interval} at {self.images:,} images; the measured mean is "
            f"{self.measured:.2f}% (error {self.error:+z.2f} points{within})"
        )


def score_extrapolation(points: Sequence[SizePoint]) -> ExtrapolationScore:
    """Fit a power law to all sizes but the largest, and compare its prediction with the measured mean there.

    The interval considers the variation over seeds of both: the runs that the law is fitted to, and those at the
    largest size.

    Args:
        points: Sizes with runs. All but the largest have a power law (see `why_no_law`).
    """
    fitted, last = fit_points(points[:-1]), points[-1]
    ratio = np.array([last.images / fitted.smallest])
    samples = [run_errors(point) for point in points]
    [error] = with_intervals(
        fitted.curve.at(ratio)[0], _resampled_errors(fitted, ratio, samples), percentile_level(samples)
    )
    top1 = Estimate(100 - error.value, 100 - error.high, 100 - error.low)
    return ExtrapolationScore(points[-2].images, last.images, top1, last.mean_top1)


def describe_extrapolations(series: Sequence[Series]) -> list[str]:
    """Return one sentence for each series with at least four sizes, and a note if a series has only three."""
    sentences = [_describe(one) for one in series if len(one.measured) > MIN_SIZES]
    has_three_sizes = any(len(one.measured) == MIN_SIZES for one in series)
    return [*sentences, TOO_FEW_SIZES] if has_three_sizes else sentences


def _describe(series: Series) -> str:
    name, points = shorten(series.label), series.measured
    if reason := why_no_law(Series(series.label, tuple(points[:-1]))):
        return f"{name}: no score of the extrapolation, because up to {points[-2].images:,} images {reason}."
    return f"{name}: {score_extrapolation(points).describe()}."


def _resampled_errors(fitted: FittedCurves, ratio: Values, samples: Sequence[Values]) -> Values | None:
    """Return predictions of resampled runs, shape (resamples, 1), with the deviation of a resampled measured mean.

    The draws of `resampled_means` for the last size follow those of the others, which are the draws of the fit.
    """
    if fitted.resampled is None or len(samples[-1]) < 2:
        return None
    return np.asarray(fitted.resampled.at(ratio) + resampled_means(samples)[:, -1:] - samples[-1].mean())
