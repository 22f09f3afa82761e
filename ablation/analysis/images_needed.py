"""The number of training images that a model needs for a top-1 accuracy, according to its power law."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isnan

from ablation.analysis.datasize_series import Series, SizePoint
from ablation.analysis.fitted_curves import Estimate
from ablation.analysis.power_law import PowerLaw
from arch.text import shorten

MAX_EXTRAPOLATION = 100  # times the largest measured size; the law is not extrapolated further


@dataclass(frozen=True)
class Target:
    """A top-1 accuracy in percent, and the name of the model whose best mean it is, if it is one."""

    top1: float
    model: str = ""

    def __str__(self) -> str:
        return f"{self.top1:.2f}% top-1" + (f", the best mean of {shorten(self.model)}" if self.model else "")


def best_of_others(series: Sequence[Series], index: int) -> Target | None:
    """Return the best mean top-1 of all other series at any size; None if they have no runs."""
    others = (other for position, other in enumerate(series) if position != index)
    targets = (Target(point.mean_top1, other.label) for other in others for point in other.measured)
    return max(targets, key=lambda target: target.top1, default=None)


def describe_images_needed(series: Series, law: PowerLaw, target: Target) -> str:
    """Return a sentence on the number of images that a series needs for a target."""
    name, measured = shorten(series.label), series.measured
    smallest, largest = measured[0].images, measured[-1].images
    reached = next((point for point in measured if point.mean_top1 >= target.top1), None)
    if reached == measured[0]:
        return f"{name} reaches {target}, at its smallest size ({_measurement(reached)})."
    needed = law.curves.images_needed(100 - target.top1)
    number = f"{name} needs about {_round(needed.value)} images{_interval(needed, series)} for {target}"
    if smallest <= needed.value <= largest:
        return f"{number}, by interpolation with its power law ({_measurement(reached or measured[-1])})."
    if reached:
        return f"{name} needs at most {reached.images:,} images for {target} ({_measurement(reached)})."
    if needed.value > MAX_EXTRAPOLATION * largest:
        return f"{_unreachable(series, law, target)}{_interval_start(needed, series)}."
    times = f"{needed.value / largest:.1f} times its largest size"
    return f"{number}, by extrapolation of its power law to {times}, where the law may not hold."


def _unreachable(series: Series, law: PowerLaw, target: Target) -> str:
    """Return why the law gives no number of images for a target, without a period."""
    name, asymptote = shorten(series.label), 100 - law.c.value
    if target.top1 >= asymptote:
        interval = "" if isnan(law.c.low) else f" (95% CI [{100 - law.c.high:.2f}, {100 - law.c.low:.2f}])"
        return f"{name} does not reach {target}, because its power law approaches {asymptote:.2f}%{interval}"
    limit = MAX_EXTRAPOLATION * series.measured[-1].images
    return (
        f"{name} needs more than {limit:,} images for {target}; its power law is not extrapolated beyond "
        f"{MAX_EXTRAPOLATION} times its largest size"
    )


def _interval(needed: Estimate, series: Series) -> str:
    """Return the 95% CI; an end outside of the range of the law is replaced by the end of that range."""
    if isnan(needed.low):
        return ""
    smallest, limit = series.measured[0].images, MAX_EXTRAPOLATION * series.measured[-1].images
    low = f"below {smallest:,}" if needed.low < smallest else _round(needed.low)
    high = f"above {limit:,}" if needed.high > limit else _round(needed.high)
    return f" (95% CI [{low}, {high}])"


def _interval_start(needed: Estimate, series: Series) -> str:
    """Return the lower end of the 95% CI of a number that is not extrapolated, if this end can be."""
    smallest, limit = series.measured[0].images, MAX_EXTRAPOLATION * series.measured[-1].images
    if not needed.low <= limit:
        return ""
    return f"; the 95% CI of the number of images starts at {_round(max(needed.low, smallest))}"


def _measurement(point: SizePoint) -> str:
    return f"measured {point.mean_top1:.2f}% at {point.images:,} images"


def _round(images: float) -> str:
    """Return a number of images with three significant digits."""
    return f"{float(f'{images:.3g}'):,.0f}"
