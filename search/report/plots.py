"""Figures of a search."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib
from optuna.trial import FrozenTrial

from benchmarks.budget.verdict import format_count, format_hours
from search import trial_attrs

matplotlib.use("Agg")  # no window is ever opened

from matplotlib import pyplot as plt  # after the backend is chosen
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullLocator

MOST, LEAST = 12, 0.005  # choices that are drawn, and the share below which one is not
BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#999999"  # Okabe & Ito 2008


def plot_front(found: Sequence[FrozenTrial], winner: str, epochs: int, title: str, path: Path) -> None:
    """Accuracy after the first rung against hours and against parameters, with the Pareto front, as PNG.

    found: trained trials. winner: its spec. All points are of one benchmark id: `epochs` epochs, validation split.
    """
    figure, both = plt.subplots(1, 2, figsize=(11, 4.5), layout="constrained", sharey=True)
    points = [trial_attrs.objectives(trial, 0) for trial in found]
    names = [trial.user_attrs[trial_attrs.SPEC] for trial in found]
    titles = (("time of the whole training, predicted", _short_time), ("parameters", format_count))
    for cost, (axes, (label, text)) in enumerate(zip(both, titles, strict=True), 1):
        _front(axes, [(point[0], point[cost]) for point in points], [name == winner for name in names])
        axes.set(xlabel=label, xscale="log")
        axes.xaxis.set_major_formatter(lambda value, place, text=text: text(value))
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))  # more labels would overlap
        axes.xaxis.set_minor_locator(NullLocator())
        axes.tick_params(axis="x", labelsize=8, rotation=30)
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    both[0].set_ylabel(f"validation top-1 after {epochs} epochs (%)")
    both[0].legend(loc="lower right", frameon=False)
    figure.suptitle(title, parse_math=False, x=0.01, ha="left", fontsize=11)
    figure.savefig(path, dpi=150, format="png")
    plt.close(figure)


def _short_time(hours: float) -> str:
    return f"{3600 * hours:.3g} s" if hours < 1 / 60 else format_hours(hours)


def _front(axes: Axes, points: list[tuple[float, float]], is_winner: list[bool]) -> None:
    """points: (minus accuracy, cost)."""
    best = [point for point, good in zip(points, trial_attrs.pareto_mask(points), strict=True) if good]
    line = sorted({(cost, -accuracy) for accuracy, cost in best})
    axes.scatter([p[1] for p in points], [-p[0] for p in points], s=22, color=GREY, label="candidate", linewidths=0)
    axes.plot(*zip(*line, strict=True), "o-", color=BLUE, label="Pareto front", markersize=5, drawstyle="steps-post")
    chosen = [point for point, won in zip(points, is_winner, strict=True) if won]
    axes.scatter(
        [p[1] for p in chosen], [-p[0] for p in chosen], s=170, marker="*", color=ORANGE, label="winner", zorder=3
    )


def plot_importance(shares: dict[str, float], title: str, path: Path) -> None:
    """How much of the accuracies' variance each choice explains, the most important on top, as PNG."""
    told = {name: share for name, share in list(shares.items())[:MOST] if share >= LEAST} or shares
    names = list(reversed(told))
    figure, axes = plt.subplots(figsize=(7, 0.3 * len(told) + 1.2), layout="constrained")
    bars = axes.barh(names, [shares[name] for name in names], color=BLUE)
    axes.bar_label(bars, fmt="%.2f", padding=3, fontsize=8)
    axes.set(xlabel="share of the variance (fANOVA)", xlim=(0, max(shares.values()) * 1.12 or 1))
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title(title, parse_math=False, loc="left", fontsize=11)
    figure.savefig(path, dpi=150, format="png")
    plt.close(figure)
