"""Accuracy against the size of the training set: the runs of a model, and a power law of its test error.

The law is error(images) = a * images**-b + c in percent, falling to c: Hestness et al. 2017, arXiv:1712.00409, and with
the floor c Rosenfeld et al. 2020, arXiv:1909.12673. It describes what was measured and is drawn between the smallest
and the largest size only.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from math import isnan, nan

import numpy as np

from ablation.analysis.power_fit import LARGEST_B, Curves, fit_curves, level_of, resampled_means
from ablation.analysis.statistics import Values

FEWEST_SIZES = 3  # as many as the law has parameters
SPANS = 0.75  # of what c could be, from 0 to the lowest error measured: an interval as wide says nothing of c
DRAWN = 61  # points of the drawn curve
EXACT = 0.01  # points: a curve that misses no mean by more passes through them


@dataclass(frozen=True)
class Cell:
    """All runs of one model on one size of training set. Accuracies in percent by seed, of the final epoch.

    Raises ValueError for accuracies that are no percentages.
    """

    images: int  # trained on
    test: Mapping[int, float]  # top-1
    train: Mapping[int, float]  # top-1 over the samples seen in the last epoch
    late_gain: Mapping[int, float]  # points of test top-1 gained over the last tenth of the epochs (one at least)

    def __post_init__(self) -> None:
        if not all(0 <= top1 <= 100 for top1 in (*self.test.values(), *self.train.values())):
            raise ValueError(f"an accuracy on {self.images:,} images is not between 0 and 100 percent")


@dataclass(frozen=True)
class Series:
    """One model (or one initialisation of it) over ascending sizes of the training set.

    Raises ValueError where the sizes do not ascend from 1 or more.
    """

    label: str
    cells: tuple[Cell, ...]

    def __post_init__(self) -> None:
        sizes = [0, *(cell.images for cell in self.cells)]
        if not all(before < after for before, after in pairwise(sizes)):
            raise ValueError(f"the sizes of the training set do not ascend: {sizes[1:]}")

    @property
    def measured(self) -> list[Cell]:
        """The cells that have a run."""
        return [cell for cell in self.cells if cell.test]


@dataclass(frozen=True)
class Estimate:
    """A number and its 95% interval; without one where some size has one seed."""

    value: float
    low: float = nan
    high: float = nan


@dataclass(frozen=True)
class PowerLaw:
    """error(images) = a * images**-b + c in percent, fitted to the runs of one series.

    The intervals and the band are pointwise, know the spread over seeds only, and hold if the error is such a curve.
    """

    a: Estimate  # percent at one image, where nothing was measured: a scale, not a prediction
    b: Estimate
    c: Estimate  # percent
    images: tuple[float, ...]  # from the smallest to the largest size measured; nothing is extrapolated
    error: tuple[Estimate, ...]  # percent, of the curve at `images`
    sizes: int
    seeds: int  # of the size that has fewest
    misses: float  # points by which the curve misses a size's mean, at most
    lowest: float  # percent, of the sizes' mean errors

    @property
    def c_is_known(self) -> bool:
        """Whether the interval of c leaves out a good part of what it could be."""
        return self.c.high - self.c.low < SPANS * self.lowest

    def line(self) -> str:
        """The law in words, with all that it cannot claim."""
        law = f"error = {_number(self.a.value)} x images^-{self.b.value:.3f} + {self.c.value:.2f} percent"
        told = [f"{law}, from {self.images[0]:,.0f} to {self.images[-1]:,.0f} images and not beyond", self._fit()]
        if self.seeds < 2:
            return "; ".join([*told, "no interval, as a size has one seed only"])
        seeds = f"a bootstrap over {'' if self.seeds > 2 else 'only '}{self.seeds} seeds a size"
        ranges = ", ".join(f"{name} {_range(getattr(self, name))}" for name in "abc")
        told.append(f"95% intervals by {seeds}: {ranges}")
        if self.b.low == 0:
            told.append("that the error falls at all is not shown")
        if not self.c_is_known:
            told.append("c is not identified, its interval spans nearly all that it could be")
        elif self.c.low == 0:
            told.append("that the error has a floor above zero is not shown")
        return "; ".join(told)

    def _fit(self) -> str:
        if self.sizes > FEWEST_SIZES or self.misses > EXACT:
            return f"it misses the mean of a size by at most {self.misses:.2f} points"
        return "three sizes for three parameters: it passes through the means and has no residual to be judged by"


def power_law(series: Series) -> PowerLaw | None:
    """The least-squares fit to all runs, each run counting alike; None where `why_no_law` says why."""
    if why_no_law(series):
        return None
    ratio, errors, weights = _points(series)
    law, first = fit_curves(ratio, errors[None], weights), series.measured[0].images
    grid = np.geomspace(ratio[0], ratio[-1], DRAWN)
    seeds = min(len(cell.test) for cell in series.measured)
    samples = [_errors(cell) for cell in series.measured]
    drawn = fit_curves(ratio, resampled_means(samples), weights) if seeds > 1 else None
    level = level_of(samples)

    def estimates(best: Values, others: Values | None) -> list[Estimate]:
        if others is None:
            return [Estimate(float(value)) for value in best]
        low, high = np.quantile(others, [(1 - level) / 2, (1 + level) / 2], axis=0)
        return [Estimate(*map(float, of)) for of in zip(best, low, high, strict=True)]

    a, b, c = estimates(_parameters(law, first)[0], None if drawn is None else _parameters(drawn, first))
    error = estimates(law.at(grid)[0], None if drawn is None else drawn.at(grid))
    misses = float(np.abs(law.at(ratio)[0] - errors).max())
    images = tuple(float(value) for value in first * grid)
    return PowerLaw(a, b, c, images, tuple(error), len(ratio), seeds, misses, float(errors.min()))


def why_no_law(series: Series) -> str:
    """Why a series has none, in words; empty if it has one."""
    if len(series.measured) < FEWEST_SIZES:
        return f"{len(series.measured)} of the {FEWEST_SIZES} sizes that it takes have a run"
    ratio, errors, weights = _points(series)
    law = fit_curves(ratio, errors[None], weights)
    if not law.scale[0]:
        return "the error does not fall with the images"
    if law.b[0] > 0.99 * LARGEST_B:
        return "the error falls at the smallest sizes and no more after them, which tells no exponent"
    return ""


def _points(series: Series) -> tuple[Values, Values, Values]:
    """Of each size its ratio to the smallest, the mean error and the number of runs.

    The curve that is nearest to these means, so weighted, is the one nearest to the single runs.
    """
    cells = series.measured
    images = np.array([cell.images for cell in cells], float)
    means = np.array([_errors(cell).mean() for cell in cells])
    return images / images[0], means, np.array([len(cell.test) for cell in cells], float)


def _errors(cell: Cell) -> Values:
    """In percent, by seed."""
    return 100 - np.array([cell.test[seed] for seed in sorted(cell.test)], float)


def _parameters(curves: Curves, first: int) -> Values:
    """(a, b, c) of each curve."""
    return np.stack([curves.scale * float(first) ** curves.b, curves.b, curves.c], 1)


def _number(value: float) -> str:
    return f"{value:,.0f}" if 100 <= value < 1e6 else f"{value:.3g}"


def _range(of: Estimate) -> str:
    return "" if isnan(of.low) else f"[{_number(of.low)}, {_number(of.high)}]"
