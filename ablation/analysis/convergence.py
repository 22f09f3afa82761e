"""Check whether the runs of a data-size study had converged when they ended."""

from collections.abc import Iterable, Sequence
from math import isnan, nan

from ablation.analysis.datasize_series import Series, SizePoint
from arch.text import shorten
from benchmarks.definition.recipe import Recipe

MIN_CONVERGED_TRAIN_TOP1 = 99.0  # percent; above it, little is left to learn from the training set
MAX_FLAT_GAIN = 0.5  # points of test top-1; twice CIFAR-100's spread over seeds, less than a recipe change should gain


def convergence_rule(series: Sequence[Series], recipe: Recipe) -> str:
    """Return sentences that define the words of `describe_convergence`.

    Args:
        series: The series of the study, with at least one run.
        recipe: The recipe of the runs.
    """
    late_epochs = {point.late_epochs for one in series for point in one.measured}
    late = _last_epochs(*late_epochs) if len(late_epochs) == 1 else "last tenth of the epochs"
    decay = "Every curve is flat when the learning rate ends near zero, so longer training may still help."
    return " ".join(
        [
            f"Converged: training top-1 of at least {MIN_CONVERGED_TRAIN_TOP1:.0f}%. Training top-1 is the mean during "
            "the last epoch and not an evaluation after it.",
            f"Flat: the {late} changed test top-1 by less than {MAX_FLAT_GAIN} points (mean over seeds).",
            *([decay] if _ends_with_low_rate(recipe) else []),
        ]
    )


def convergence_state(point: SizePoint) -> str:
    """Return "converged", "flat" or "not converged", as `convergence_rule` defines them."""
    if _mean(point.train.values()) >= MIN_CONVERGED_TRAIN_TOP1:
        return "converged"
    return "flat" if abs(_mean(point.late_gain.values())) < MAX_FLAT_GAIN else "not converged"


def describe_convergence(series: Series) -> str:
    """Return one sentence on all sizes that have a run, of which there must be one."""
    states = ", ".join(
        f"{convergence_state(point)} at {point.images:,} images ({_evidence(point)})" for point in series.measured
    )
    return f"{shorten(series.label)}: {states}."


def _evidence(point: SizePoint) -> str:
    train, gain = _mean(point.train.values()), _mean(point.late_gain.values())
    train_text = "training top-1 unknown" if isnan(train) else f"training top-1 {train:.2f}%"
    return f"{train_text}, {_last_epochs(point.late_epochs)} {'unknown' if isnan(gain) else f'{gain:+.2f} points'}"


def _last_epochs(number: int) -> str:
    return "last epoch" if number == 1 else f"last {number} epochs"


def _ends_with_low_rate(recipe: Recipe) -> bool:
    """Return whether the learning rate decays before the training ends."""
    if recipe.schedule in ("cosine", "polynomial"):
        return recipe.min_lr < recipe.lr
    first_decay = {"step": [recipe.decay_epochs], "multistep": recipe.milestones}.get(recipe.schedule, [])
    return recipe.decay_rate < 1 and any(epoch < recipe.epochs for epoch in first_decay)


def _mean(values: Iterable[float]) -> float:
    """Return the mean; without values, NaN, for which every comparison is false."""
    numbers = list(values)
    return sum(numbers) / len(numbers) if numbers else nan
