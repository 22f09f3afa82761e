"""Figures from records, small for a page and large for slides. No window is ever opened; names are text."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullFormatter, ScalarFormatter
from pandas import DataFrame

from ablation.analysis.table_formats import AblationTable
from ablation.plans.row import Row, runs_of
from ablation.report.figure_style import COLOURS, SCREEN, SLIDE, STYLES, FigureSize, empty, save
from ablation.report.label_placement import fitted, place_around, quiet, spread_out, text_width
from arch.text import shorten
from benchmarks.records.store import RunRecord

LATER, MANY = 0.1, 20  # of so many epochs or more, accuracies below those after this share of them are cut off
LOG_FROM = 10  # times: costs further apart than this stand on a logarithmic axis

CostAxis = Literal["hours", "params", "macs"]
COSTS: dict[CostAxis, list[tuple[str, float]]] = {  # axes, and what stands on them as 1, the largest first
    "hours": [("training time (hours)", 1), ("training time (minutes)", 1 / 60), ("training time (seconds)", 1 / 3600)],
    "params": [("parameters (millions)", 1e6), ("parameters (thousands)", 1e3)],
    "macs": [("GMACs for one image (1 MAC = 2 FLOPs)", 1e9), ("million MACs for one image (1 MAC = 2 FLOPs)", 1e6)],
}


def curves(
    rows: Sequence[Row], results: Sequence[RunRecord], size: FigureSize, title: str = "", seeds: int | None = None
) -> Figure:
    """Top-1 against epoch: a line a row (mean over seeds) and the band from the worst seed to the best.

    The first point is epoch 1: nothing is drawn that was not measured.
    """
    with quiet():
        names = [fitted(_name(row), 0.4 * 72 * size.width / size.font - 2.5) for row in rows]
        widest = max((text_width(f"{name} 88.88") for name in names), default=0.0)
    figure, axes = empty(size, title, "mean over seeds; band: from the worst seed to the best", right=2.0 + widest)
    drawn: list[tuple[str, str, str, float]] = []
    lowest = []
    last = 1.0
    for place, row in enumerate(rows):
        runs = list(runs_of(row, results, seeds).values())
        if not runs:
            continue
        epochs = [line["epoch"] for line in runs[0].curve]
        top1 = np.array([[line["top1"] for line in run.curve] for run in runs])
        colour, style = COLOURS[place % len(COLOURS)], STYLES[place // len(COLOURS) % len(STYLES)]
        marker = "o" if len(epochs) == 1 else None
        axes.plot(epochs, top1.mean(0), color=colour, linestyle=style, linewidth=size.line, marker=marker)
        axes.fill_between(epochs, top1.min(0), top1.max(0), color=colour, alpha=0.13, linewidth=0)
        final = float(top1[:, -1].mean())
        drawn.append((f"{names[place]} {final:.2f}", colour, style, final))
        lowest.append(top1[:, int(LATER * len(epochs)) if len(epochs) >= MANY else 0 :].min())
        last = max(last, epochs[-1])
    axes.set(xlabel="epoch", ylabel="test top-1 (%)")
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    if drawn:
        _end_labels(axes, size, drawn, min(lowest), last)
    return figure


def _name(row: Row) -> str:
    return "baseline" if row.label.startswith("baseline (") else shorten(row.label)


def _end_labels(
    axes: Axes, size: FigureSize, drawn: Sequence[tuple[str, str, str, float]], lowest: float, last: float
) -> None:
    """The name of each line beside its end, spread so that none covers another."""
    finals = [final for *_, final in drawn]
    room = max(max(finals) - lowest, 1.0)
    low, high = lowest - 0.02 * room, max(finals) + 0.06 * room
    axes.set(xlim=(1 - 0.02 * last, last) if last > 1 else (0.5, 1.5), ylim=(low, high))
    points = 72 * size.height * axes.get_position().height
    font = min(size.font, points / len(drawn) / 1.1)
    gap = 1.3 * font / points
    places = spread_out([(final - low) / (high - low) for final in finals], gap, gap / 2, 1 - gap / 2)
    wide = 72 * size.width * axes.get_position().width / size.font
    ends = [1, 1 + 0.3 / wide, 1 + 1.3 / wide, 1 + 1.6 / wide]
    for (label, colour, style, final), y in zip(drawn, places, strict=True):
        at = (final - low) / (high - low)
        axes.plot(ends, (at, at, y, y), color=colour, linestyle=style, linewidth=0.7 * size.line, clip_on=False,
                  transform=axes.transAxes)  # fmt: skip
        axes.text(1 + 1.8 / wide, y, label, transform=axes.transAxes, va="center", fontsize=font, parse_math=False)


def accuracy_against(
    cost: CostAxis, rows: Sequence[Row], frame: DataFrame, size: FigureSize, title: str = ""
) -> Figure:
    """Final top-1, with one standard deviation over seeds each way, against a cost, and the Pareto front."""
    most = float(frame[cost].max()) if frame["n"].any() else 0.0
    words, scale = next((axis for axis in COSTS[cost] if most >= axis[1]), COSTS[cost][-1])
    figure, axes = empty(size, title, "mean ± standard deviation over seeds; dashed: Pareto front", right=0.8)
    axes.set(xlabel=words, ylabel="test top-1 (%)")
    found = [(i, line) for i, line in enumerate(frame.to_dict("records")) if line["n"]]
    points = [(float(line[cost]) / scale, float(line["top1_mean"])) for _, line in found]
    stds = [0.0 if np.isnan(line["top1_std"]) else float(line["top1_std"]) for _, line in found]
    if not points:
        return figure
    xs, ys = zip(*points, strict=True)
    _limits(axes, xs, [y - s for y, s in zip(ys, stds, strict=True)], [y + s for y, s in zip(ys, stds, strict=True)])
    best = front(points)
    edge = axes.get_xlim()[1]
    corners = [*best, (edge, best[-1][1])]
    steps = [corner for (x, y), (after, _) in pairwise(corners) for corner in ((x, y), (after, y))]
    axes.plot(*zip(*steps, strict=True), color="0.55", linestyle="--", linewidth=size.line * 0.7, zorder=1)
    for (i, _), (x, y), std in zip(found, points, stds, strict=True):
        colour, marker = COLOURS[i % len(COLOURS)], "os^Dv"[i // len(COLOURS) % 5]
        face = colour if (x, y) in best else "white"
        axes.errorbar(x, y, std, color=colour, marker=marker, markersize=size.font * 0.55, markerfacecolor=face,
                      markeredgewidth=size.line * 0.6, elinewidth=size.line * 0.6, zorder=3)  # fmt: skip
    with quiet():
        place_around(axes, points, stds, [_name(rows[i]) for i, _ in found], size.font, steps)
    return figure


def front(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The (cost, accuracy) than which none is both as cheap and as accurate, by cost."""
    best: list[tuple[float, float]] = []
    for point in sorted(set(points), key=lambda point: (point[0], -point[1])):
        if not best or point[1] > best[-1][1]:
            best.append(point)
    return best


def _limits(axes: Axes, xs: Sequence[float], low: Sequence[float], high: Sequence[float]) -> None:
    """Room for labels around the points; a logarithmic axis where the costs are far apart."""
    tall = max(max(high) - min(low), 0.5)
    axes.set_ylim(min(low) - 0.2 * tall, max(high) + 0.12 * tall)
    if max(xs) > LOG_FROM * min(xs) > 0:
        axes.set_xscale("log")
        axes.set_xlim(min(xs) / 1.6, max(xs) * 1.6)
        axes.xaxis.set_major_formatter(ScalarFormatter())
        axes.xaxis.set_minor_formatter(NullFormatter())
    else:
        wide = max(max(xs) - min(xs), 0.1 * max(xs))
        axes.set_xlim(max(0.0, min(xs) - 0.2 * wide), max(xs) + 0.28 * wide)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=6))


def plot_curves(
    rows: Sequence[Row], results: Sequence[RunRecord], path: Path, title: str, seeds: int | None = None
) -> None:
    """Writes top-1 against epoch as PNG."""
    save(curves(rows, results, SCREEN, title, seeds), path, "png")


def write_figures(
    rows: Sequence[Row], table: AblationTable, results: Sequence[RunRecord], folder: Path, seeds: int | None = None
) -> list[Path]:
    """Writes each figure for slides, as PNG and as SVG, and returns their paths.

    None is drawn of the architecture where no record has one.
    """
    from ablation.report.architecture import draw_architecture, last_architecture

    title = table.caption.partition(";")[0]
    drawn = {"curves": curves(rows, results, SLIDE, title, seeds)}
    for cost in COSTS:
        drawn[f"top1_against_{cost}"] = accuracy_against(cost, rows, table.frame, SLIDE, title)
    row, sections = last_architecture(rows, results, seeds)
    if row and sections:
        drawn["architecture"] = draw_architecture(sections, SLIDE, row.spec)
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for stem, figure in drawn.items():
        for kind in ("png", "svg"):
            paths.append(folder / f"{stem}.{kind}")
            save(figure, paths[-1], kind, dpi=144)
    return paths
