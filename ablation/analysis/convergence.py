"""Whether a training had come to rest when it ended, as far as its record tells."""

from collections.abc import Iterable
from math import isnan, nan

from ablation.analysis.scaling import Cell, Series
from arch.text import shorten

FITTED = 99.0  # percent of training top-1, from which on the training set has hardly anything left to teach
STILL = 0.5  # points of test top-1: twice CIFAR-100's spread over seeds, less than any change of a recipe is made for

RULE = (
    f"Converged: a training top-1 of {FITTED:.0f}% or more. Flat: the last tenth of the epochs moved test top-1 by "
    f"less than {STILL} points, in the mean over seeds; under a rate that ends near zero every curve does so, and "
    "longer training may still help."
)


def state(cell: Cell) -> str:
    """Converged, flat or not converged, as RULE has it."""
    if _mean(cell.train.values()) >= FITTED:
        return "converged"
    return "flat" if abs(_mean(cell.late_gain.values())) < STILL else "not converged"


def convergence(series: Series) -> str:
    """One sentence on all sizes that have a run."""
    if not series.measured:
        return f"{shorten(series.label)}: no run, and none that could have converged."
    told = [f"{state(cell)} at {cell.images:,} images ({_seen(cell)})" for cell in series.measured]
    return f"{shorten(series.label)}: {', '.join(told)}."


def _seen(cell: Cell) -> str:
    train, gain = _mean(cell.train.values()), _mean(cell.late_gain.values())
    shown = "training top-1 unknown" if isnan(train) else f"training top-1 {train:.2f}%"
    return f"{shown}, last tenth {'unknown' if isnan(gain) else f'{gain:+.2f} points'}"


def _mean(values: Iterable[float]) -> float:
    """NaN, of which nothing is said to be true, where there is none."""
    held = list(values)
    return sum(held) / len(held) if held else nan
