"""The figure of test accuracy against epoch."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ablation.analysis.records import RecordedPlan
from ablation.plans.row import Row
from ablation.report.figure_style import COLORS, LINE_STYLES, FigureSize, new_figure
from ablation.report.label_placement import fit_text, ignore_missing_glyphs, spread_out, text_width
from arch.text import shorten

LEGEND = "mean over seeds; band: worst to best seed"
LONG_TRAINING_EPOCHS = 20  # the y axis of a run of at least this length may cut off the first epochs
CUT_OFF_FRACTION = 0.1  # fraction of the epochs of a long run that may be cut off
MAX_NAME_WIDTH = 0.4  # fraction of the figure's width, which also has to fit the final accuracy


@dataclass(frozen=True)
class _Curve:
    """The test accuracy of one row, in percent, with shape (seeds, epochs)."""

    label: str
    color: str
    line_style: str
    epochs: list[float]
    top1: Any

    @property
    def final_mean(self) -> float:
        return float(self.top1[:, -1].mean())

    @property
    def visible_minimum(self) -> float:
        """The lowest accuracy that the y axis must include."""
        num_epochs = len(self.epochs)
        first = int(CUT_OFF_FRACTION * num_epochs) if num_epochs >= LONG_TRAINING_EPOCHS else 0
        return float(self.top1[:, first:].min())


def draw_curves(recorded: RecordedPlan, size: FigureSize, title: str = "") -> Figure:
    """Draw test top-1 against epoch: one line per row (mean over seeds) and a band from the worst seed to the best.

    The lines start at epoch 1, the first measurement.

    Args:
        recorded: The rows and their records, with learning curves.
        size: The size of the figure.
        title: The title of the figure.
    """
    with ignore_missing_glyphs():
        names = [fit_text(row_name(row), MAX_NAME_WIDTH * size.width_em - 2.5) for row in recorded.rows]
        label_width = max((text_width(f"{name} 88.88") for name in names), default=0.0)
    figure, axes = new_figure(size, title, LEGEND, right_margin=2.0 + label_width)
    axes.set(xlabel="epoch", ylabel="test top-1 (%)")
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    curves = _curves(recorded, names)
    for curve in curves:
        style: dict[str, Any] = {"color": curve.color, "linestyle": curve.line_style, "linewidth": size.line}
        axes.plot(curve.epochs, curve.top1.mean(0), marker="o" if len(curve.epochs) == 1 else None, **style)
        axes.fill_between(
            curve.epochs, curve.top1.min(0), curve.top1.max(0), color=curve.color, alpha=0.13, linewidth=0
        )
    if curves:
        _set_limits(axes, curves)
        _draw_end_labels(axes, size, curves)
    return figure


def row_name(row: Row) -> str:
    """Return the name of a row in a figure."""
    return "baseline" if row.label.startswith("baseline (") else shorten(row.label)


def _curves(recorded: RecordedPlan, names: Sequence[str]) -> list[_Curve]:
    curves = []
    for index, (row, name) in enumerate(zip(recorded.rows, names, strict=True)):
        runs = recorded.runs(row)
        if not runs:
            continue
        top1 = np.array([[epoch["top1"] for epoch in run.curve] for run in runs])
        curves.append(
            _Curve(
                label=f"{name} {top1[:, -1].mean():.2f}",
                color=COLORS[index % len(COLORS)],
                line_style=LINE_STYLES[index // len(COLORS) % len(LINE_STYLES)],
                epochs=[epoch["epoch"] for epoch in runs[0].curve],
                top1=top1,
            )
        )
    return curves


def _set_limits(axes: Axes, curves: Sequence[_Curve]) -> None:
    lowest, highest = min(curve.visible_minimum for curve in curves), max(curve.final_mean for curve in curves)
    last_epoch = max(1.0, *(curve.epochs[-1] for curve in curves))
    height = max(highest - lowest, 1.0)
    axes.set_xlim((1 - 0.02 * last_epoch, last_epoch) if last_epoch > 1 else (0.5, 1.5))
    axes.set_ylim(lowest - 0.02 * height, highest + 0.06 * height)


def _draw_end_labels(axes: Axes, size: FigureSize, curves: Sequence[_Curve]) -> None:
    """Draw the label of each line beside its end, spread out so that no label covers another."""
    low, high = axes.get_ylim()
    points = 72 * size.height * axes.get_position().height
    font = min(size.font, points / len(curves) / 1.1)
    gap = 1.3 * font / points
    ends = [(curve.final_mean - low) / (high - low) for curve in curves]
    em = size.font / (72 * size.width * axes.get_position().width)
    for curve, end, y in zip(curves, ends, spread_out(ends, gap, gap / 2, 1 - gap / 2), strict=True):
        xs = [1, 1 + 0.3 * em, 1 + 1.3 * em, 1 + 1.6 * em]
        axes.plot(xs, (end, end, y, y), color=curve.color, linestyle=curve.line_style, linewidth=0.7 * size.line,
                  transform=axes.transAxes, clip_on=False)  # fmt: skip
        axes.text(1 + 1.8 * em, y, curve.label, transform=axes.transAxes, va="center", fontsize=font, parse_math=False)
