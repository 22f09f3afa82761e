"""A power law of test error against the number of training images.

The law is error(images) = a * images**-b + c in percent, where c is the error floor: Hestness et al. 2017,
arXiv:1712.00409, and for the floor Rosenfeld et al. 2020, arXiv:1909.12673. It is drawn between the smallest and the
largest measured size only. `images_needed` extrapolates it, and `extrapolation` scores its extrapolation.
"""

from dataclasses import dataclass, field
from math import isnan

import numpy as np

from ablation.analysis.datasize_series import Series
from ablation.analysis.fitted_curves import Estimate, FittedCurves, fit_points, mean_errors
from ablation.analysis.power_law_fit import MAX_EXPONENT, fit_curves
from arch.text import plural

MIN_SIZES = 3  # because the law has three parameters
MAX_FLOOR_WIDTH = 0.75  # fraction of [0, lowest error]; if the interval is wider, c is not identified
NUM_CURVE_POINTS = 61
EXACT_FIT = 0.01  # points; a curve with a smaller deviation from each mean passes through the means


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
        curves: The fitted curve and those of the resamples.
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
    curves: FittedCurves = field(compare=False, repr=False)

    @property
    def identifies_floor(self) -> bool:
        """Whether the interval of c excludes a substantial part of its possible values."""
        return self.c.high - self.c.low < MAX_FLOOR_WIDTH * self.lowest_error

    def describe(self) -> str:
        """Return the law and its limitations as one sentence without a period."""
        first, last = self.images[0], self.images[-1]
        floor = f" + {self.c.value:.2f}" if round(self.c.value, 2) else ""
        law = f"error = {_number(self.a.value)} x images^-{self.b.value:.3f}{floor} percent"
        parts = [f"{law}, fitted to {first:,.0f} to {last:,.0f} images", self._fit_quality()]
        if self.seeds < 2:
            return "; ".join([*parts, "no CIs, because one of the sizes has only one seed"])
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
    points = series.measured
    ratio, errors, _ = mean_errors(points)
    curves, images = fit_points(points), points[0].images * np.geomspace(ratio[0], ratio[-1], NUM_CURVE_POINTS)
    a, b, c = curves.parameters()
    return PowerLaw(
        a,
        b,
        c,
        images=tuple(map(float, images)),
        error=tuple(curves.errors_at(images)),
        sizes=len(points),
        seeds=min(len(point.test) for point in points),
        max_deviation=float(np.abs(curves.curve.at(ratio)[0] - errors).max()),
        lowest_error=float(errors.min()),
        curves=curves,
    )


def why_no_law(series: Series) -> str:
    """Return why no power law can be fitted to a series; empty if one can."""
    if len(series.measured) < MIN_SIZES:
        return f"{len(series.measured)} of the required {MIN_SIZES} sizes have a run"
    ratio, errors, weights = mean_errors(series.measured)
    law = fit_curves(ratio, errors[None], weights)
    if not law.scale[0]:
        return "the error does not decrease with the number of images"
    if law.b[0] > 0.99 * MAX_EXPONENT:
        return "the error decreases only at the smallest sizes, which does not determine an exponent"
    return ""


def _number(value: float) -> str:
    return f"{value:,.0f}" if 100 <= value < 1e6 else f"{value:.3g}"


def _interval(estimate: Estimate) -> str:
    return "" if isnan(estimate.low) else f"[{_number(estimate.low)}, {_number(estimate.high)}]"
