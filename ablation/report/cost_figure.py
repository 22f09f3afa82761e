"""The figure of final accuracy against a cost, with the Pareto front."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullFormatter, ScalarFormatter
from pandas import DataFrame

from ablation.analysis.pareto import pareto_front
from ablation.plans.row import Row
from ablation.report.figure_style import MARKERS, PARETO_LEGEND, FigureSize, new_figure
from ablation.report.label_placement import LabeledPoint, Point, fit_text, ignore_missing_glyphs, place_labels
from ablation.report.row_style import COLORS, row_name

MIN_LOG_RATIO = 10  # the axis is logarithmic above this ratio of largest to smallest cost
MAX_NAME_WIDTH = 0.35  # fraction of the figure's width

CostAxis = Literal["hours", "params", "macs"]
COST_UNITS: dict[CostAxis, list[tuple[str, float]]] = {  # (axis label, size of the unit), the largest unit first
    "hours": [("training time (hours)", 1), ("training time (minutes)", 1 / 60), ("training time (seconds)", 1 / 3600)],
    "params": [("parameters (millions)", 1e6), ("parameters (thousands)", 1e3)],
    "macs": [("GMACs for one image (1 MAC = 2 FLOPs)", 1e9), ("million MACs for one image (1 MAC = 2 FLOPs)", 1e6)],
}


def draw_accuracy_against(
    cost: CostAxis, rows: Sequence[Row], frame: DataFrame, size: FigureSize, title: str = ""
) -> Figure:
    """Draw final top-1 (mean ± standard deviation over seeds) against a cost, and the Pareto front.

    Args:
        cost: The column of `frame` on the x axis.
        rows: The rows.
        frame: Their lines of `ablation.analysis.table.ablation_frame`.
        size: The size of the figure.
        title: The title of the figure.
    """
    largest = float(frame[cost].max()) if frame["n"].any() else 0.0
    label, unit = next((axis for axis in COST_UNITS[cost] if largest >= axis[1]), COST_UNITS[cost][-1])
    legend = f"mean ± standard deviation over seeds; {PARETO_LEGEND}"
    figure, axes = new_figure(size, title, legend, right_margin=0.8)
    axes.set(xlabel=label, ylabel="test top-1 (%)")
    with ignore_missing_glyphs():
        names = [fit_text(row_name(row), MAX_NAME_WIDTH * size.width_em) for row in rows]
    points = {
        index: LabeledPoint(float(line[cost]) / unit, float(line["top1_mean"]), _std(line), names[index])
        for index, line in enumerate(frame.to_dict("records"))
        if line["n"]
    }
    if not points:
        return figure
    _set_limits(axes, list(points.values()))
    optimal = pareto_front([(point.x, point.y) for point in points.values()])
    steps = _step_line(optimal, axes.get_xlim()[1])
    axes.plot(*zip(*steps, strict=True), color="0.55", linestyle="--", linewidth=size.line * 0.7, zorder=1)
    for index, point in points.items():
        color, marker = COLORS[index % len(COLORS)], MARKERS[index // len(COLORS) % len(MARKERS)]
        face = color if (point.x, point.y) in optimal else "white"
        axes.errorbar(point.x, point.y, point.error, color=color, marker=marker, markersize=size.font * 0.55,
                      markerfacecolor=face, markeredgewidth=size.line * 0.6, elinewidth=size.line * 0.6,
                      zorder=3)  # fmt: skip
    with ignore_missing_glyphs():
        place_labels(axes, list(points.values()), size.font, steps)
    return figure


def _std(line: Mapping[Any, Any]) -> float:
    return 0.0 if np.isnan(line["top1_std"]) else float(line["top1_std"])


def _step_line(front: Sequence[Point], right: float) -> list[Point]:
    """Return the corners of the line through the Pareto front, which extends to the right edge."""
    corners = [*front, (right, front[-1][1])]
    return [corner for (x, y), (next_x, _) in pairwise(corners) for corner in ((x, y), (next_x, y))]


def _set_limits(axes: Axes, points: Sequence[LabeledPoint]) -> None:
    """Leave room for labels around the points; use a logarithmic axis if the costs differ by orders of magnitude."""
    low, high = min(point.y - point.error for point in points), max(point.y + point.error for point in points)
    height = max(high - low, 0.5)
    axes.set_ylim(low - 0.2 * height, high + 0.12 * height)
    left, right = min(point.x for point in points), max(point.x for point in points)
    if right > MIN_LOG_RATIO * left > 0:
        axes.set_xscale("log")
        axes.set_xlim(left / 1.6, right * 1.6)
        axes.xaxis.set_major_formatter(ScalarFormatter())
        axes.xaxis.set_minor_formatter(NullFormatter())
    else:
        width = max(right - left, 0.1 * right)
        axes.set_xlim(max(0.0, left - 0.2 * width), right + 0.28 * width)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=6))
