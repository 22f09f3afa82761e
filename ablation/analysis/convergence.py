"""Check whether the runs of a data-size study had converged when they ended."""

from collections.abc import Iterable
from math import isnan, nan

from ablation.analysis.datasize_series import Series, SizePoint
from arch.text import shorten

MIN_CONVERGED_TRAIN_TOP1 = 99.0  # percent; above it, little is left to learn from the training set
MAX_FLAT_GAIN = 0.5  # points of test top-1; twice CIFAR-100's spread over seeds, less than a recipe change should gain

RULE = (
    f"Converged: training top-1 of at least {MIN_CONVERGED_TRAIN_TOP1:.0f}%. "
    f"Flat: the last tenth of the epochs changed test top-1 by less than {MAX_FLAT_GAIN} points (mean over seeds). "
    "Every curve is flat when the learning rate ends near zero, so longer training may still help."
)


def convergence_state(point: SizePoint) -> str:
    """Return "converged", "flat" or "not converged", as RULE defines them."""
    if _mean(point.train.values()) >= MIN_CONVERGED_TRAIN_TOP1:
        return "converged"
    return "flat" if abs(_mean(point.late_gain.values())) < MAX_FLAT_GAIN else "not converged"


def describe_convergence(series: Series) -> str:
    """Return one sentence on all sizes that have a run."""
    if not series.measured:
        return f"{shorten(series.label)}: no runs."
    states = ", ".join(
        f"{convergence_state(point)} at {point.images:,} images ({_evidence(point)})" for point in series.measured
    )
    return f"{shorten(series.label)}: {states}."


def _evidence(point: SizePoint) -> str:
    train, gain = _mean(point.train.values()), _mean(point.late_gain.values())
    train_text = "training top-1 unknown" if isnan(train) else f"training top-1 {train:.2f}%"
    return f"{train_text}, last tenth of the epochs {'unknown' if isnan(gain) else f'{gain:+.2f} points'}"


def _mean(values: Iterable[float]) -> float:
    """Return the mean; without values, NaN, for which every comparison is false."""
    numbers = list(values)
    return sum(numbers) / len(numbers) if numbers else nan
