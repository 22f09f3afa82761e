"""Figures of a search."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib
from optuna.trial import FrozenTrial

from arch.text import plural
from benchmarks.budget.verdict import format_count, format_hours
from search import trial_attrs

matplotlib.use("Agg")  # render without a display

from matplotlib import pyplot as plt  # imported after the backend is selected
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullLocator

MAX_CHOICES_IN_PLOT = 12
MIN_SHARE_IN_PLOT = 0.005  # share of the variance
BLUE, ORANGE, GRAY = "#0072B2", "#D55E00", "#999999"  # Okabe & Ito 2008
DPI = 150


def plot_front(trained: Sequence[FrozenTrial], winner: str, epochs: int, title: str, path: Path) -> None:
    """Plot accuracy at the first rung against hours and against parameters, with the Pareto fronts, as a PNG file.

    Args:
        trained: The trained trials; all points have the same benchmark id.
        winner: The spec of the winner.
        epochs: The epochs of the first rung.
        title: The title of the figure.
        path: The file to write.
    """
    figure, axes_pair = plt.subplots(1, 2, figsize=(11, 4.5), layout="constrained", sharey=True)
    points = [trial_attrs.objectives(trial, 0) for trial in trained]
    is_winner = [trial.user_attrs[trial_attrs.SPEC] == winner for trial in trained]
    labels = (("predicted time of the full training run", _format_short_time), ("parameters", format_count))
    for index, (axes, (label, formatter)) in enumerate(zip(axes_pair, labels, strict=True), 1):
        _plot_cost(axes, [(point[0], point[index]) for point in points], is_winner)
        axes.set(xlabel=label, xscale="log")
        axes.xaxis.set_major_formatter(lambda value, _, formatter=formatter: formatter(value))
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))  # more tick labels would overlap
        axes.xaxis.set_minor_locator(NullLocator())
        axes.tick_params(axis="x", labelsize=8, rotation=30)
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    axes_pair[0].set_ylabel(f"validation top-1 after {plural(epochs, 'epoch')} (%)")
    axes_pair[0].legend(loc="lower right", frameon=False)
    figure.suptitle(title, parse_math=False, x=0.01, ha="left", fontsize=11)
    figure.savefig(path, dpi=DPI, format="png")
    plt.close(figure)


def _format_short_time(hours: float) -> str:
    return f"{3600 * hours:.3g} s" if hours < 1 / 60 else format_hours(hours)


def _plot_cost(axes: Axes, points: list[tuple[float, float]], is_winner: list[bool]) -> None:
    """Plot (-accuracy, cost) points, their Pareto front and the winner."""
    optimal = [point for point, good in zip(points, trial_attrs.pareto_mask(points), strict=True) if good]
    front = sorted({(cost, -accuracy) for accuracy, cost in optimal})
    axes.scatter([p[1] for p in points], [-p[0] for p in points], s=22, color=GRAY, label="candidate", linewidths=0)
    axes.plot(*zip(*front, strict=True), "o-", color=BLUE, label="Pareto front", markersize=5, drawstyle="steps-post")
    winners = [point for point, won in zip(points, is_winner, strict=True) if won]
    axes.scatter(
        [p[1] for p in winners], [-p[0] for p in winners], s=170, marker="*", color=ORANGE, label="winner", zorder=3
    )


def plot_importance(shares: dict[str, float], title: str, path: Path) -> None:
    """Plot how much of the variance of the accuracies each choice explains, as a PNG file.

    Args:
        shares: Choice -> share of the variance, the most important first.
        title: The title of the figure.
        path: The file to write.
    """
    largest = list(shares.items())[:MAX_CHOICES_IN_PLOT]
    plotted = {name: share for name, share in largest if share >= MIN_SHARE_IN_PLOT} or shares
    names = list(reversed(plotted))
    figure, axes = plt.subplots(figsize=(7, 0.3 * len(plotted) + 1.2), layout="constrained")
    bars = axes.barh(names, [shares[name] for name in names], color=BLUE)
    axes.bar_label(bars, fmt="%.2f", padding=3, fontsize=8)
    axes.set(xlabel="share of the variance (fANOVA)", xlim=(0, max(shares.values()) * 1.12 or 1))
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title(title, parse_math=False, loc="left", fontsize=11)
    figure.savefig(path, dpi=DPI, format="png")
    plt.close(figure)
