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
from ablation.report.figure_style import LINE_STYLES, FigureSize, new_figure, seeds_legend
from ablation.report.label_placement import fit_text, ignore_missing_glyphs, spread_out, text_width
from ablation.report.row_style import COLORS, row_name

LONG_TRAINING_EPOCHS = 20  # the y axis of a run of at least this length may cut off the first epochs
CUT_OFF_FRACTION = 0.1  # fraction of the epochs of a long run that may be cut off
MAX_NAME_WIDTH = 0.4  # fraction of the figure's width, which also has to fit the final accuracy


@dataclass(frozen=True)
class Curve:
    """A metric of one row against epoch. The shape of `values` is (seeds, epochs)."""

    label: str
    color: str
    line_style: str
    epochs: list[float]
    values: Any

    @property
    def final_mean(self) -> float:
        """The mean over seeds after the last epoch."""
        return float(self.values[:, -1].mean())

    @property
    def visible_minimum(self) -> float:
        """The lowest accuracy that the y axis must include."""
        num_epochs = len(self.epochs)
        first = int(CUT_OFF_FRACTION * num_epochs) if num_epochs >= LONG_TRAINING_EPOCHS else 0
        return float(self.values[:, first:].min())


def draw_curves(recorded: RecordedPlan, size: FigureSize, title: str = "") -> Figure:
    """Draw top-1 against epoch: one line per row (mean over seeds) and a band from the worst seed to the best.

    Args:
        recorded: The rows and their records, with learning curves.
        size: The size of the figure.
        title: The title of the figure.
    """
    names, label_width = fit_names(recorded.rows, size)
    curves = read_curves(recorded, names, "top1")
    legend = seeds_legend((len(curve.values) for curve in curves), "; band: worst to best seed")
    figure, axes = new_figure(size, title, legend, right_margin=label_width)
    axes.set(xlabel="epoch", ylabel=f"{recorded.split_name} top-1 (%)")
    draw_lines(axes, curves, size.line)
    for curve in curves:
        low, high = curve.values.min(0), curve.values.max(0)
        axes.fill_between(curve.epochs, low, high, color=curve.color, alpha=0.13, linewidth=0)
    if curves:
        _set_limits(axes, curves)
        draw_end_labels(axes, size, curves)
    return figure


def fit_names(rows: Sequence[Row], size: FigureSize) -> tuple[list[str], float]:
    """Return the name of each row, and the width of the labels at the right of the axes in em."""
    with ignore_missing_glyphs():
        names = [fit_text(row_name(row), MAX_NAME_WIDTH * size.width_em - 2.5) for row in rows]
        return names, 2.0 + max((text_width(f"{name} 88.88") for name in names), default=0.0)


def read_curves(recorded: RecordedPlan, names: Sequence[str], metric: str) -> list[Curve]:
    """Return the curve of each row that has records.

    Args:
        recorded: The rows and their records, with training curves.
        names: The names of the rows.
        metric: A field of `benchmarks.training.state.EpochMetrics`.
    """
    curves = []
    for index, (row, name) in enumerate(zip(recorded.rows, names, strict=True)):
        runs = recorded.runs(row)
        if not runs:
            continue
        values = np.array([[epoch[metric] for epoch in run.curve] for run in runs])
        curves.append(
            Curve(
                label=f"{name} {values[:, -1].mean():.2f}",
                color=COLORS[index % len(COLORS)],
                line_style=LINE_STYLES[index // len(COLORS) % len(LINE_STYLES)],
                epochs=[epoch["epoch"] for epoch in runs[0].curve],
                values=values,
            )
        )
    return curves


def draw_lines(axes: Axes, curves: Sequence[Curve], width: float) -> None:
    """Draw the mean over seeds of each curve. The lines start at epoch 1, the first measurement."""
    for curve in curves:
        style: dict[str, Any] = {"color": curve.color, "linestyle": curve.line_style, "linewidth": width}
        axes.plot(curve.epochs, curve.values.mean(0), marker="o" if len(curve.epochs) == 1 else None, **style)
    last_epoch = max((curve.epochs[-1] for curve in curves), default=1)
    axes.set_xlim((1 - 0.02 * last_epoch, last_epoch) if last_epoch > 1 else (0.5, 1.5))
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))


def _set_limits(axes: Axes, curves: Sequence[Curve]) -> None:
    lowest, highest = min(curve.visible_minimum for curve in curves), max(curve.final_mean for curve in curves)
    height = max(highest - lowest, 1.0)
    axes.set_ylim(lowest - 0.02 * height, highest + 0.06 * height)


def draw_end_labels(axes: Axes, size: FigureSize, curves: Sequence[Curve]) -> None:
    """Draw the label of each line beside its end, spread out so that no label covers another.

    The limits of the axes must be final.
    """
    points = 72 * size.height * axes.get_position().height
    font = min(size.font, points / len(curves) / 1.1)
    gap = 1.3 * font / points
    to_axes = axes.transData + axes.transAxes.inverted()
    ends = [float(to_axes.transform((curve.epochs[-1], curve.final_mean))[1]) for curve in curves]
    em = size.font / (72 * size.width * axes.get_position().width)
    for curve, end, y in zip(curves, ends, spread_out(ends, gap, gap / 2, 1 - gap / 2), strict=True):
        xs = [1, 1 + 0.3 * em, 1 + 1.3 * em, 1 + 1.6 * em]
        axes.plot(xs, (end, end, y, y), color=curve.color, linestyle=curve.line_style, linewidth=0.7 * size.line,
                  transform=axes.transAxes, clip_on=False)  # fmt: skip
        axes.text(1 + 1.8 * em, y, curve.label, transform=axes.transAxes, va="center", fontsize=font, parse_math=False)
