"""Accuracy against the size of the training set, drawn as far as it was measured."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from ablation.analysis.scaling import Cell, PowerLaw, Series, power_law
from ablation.report.figure_style import COLOURS, SLIDE, FigureSize, empty, save
from ablation.report.label_placement import fitted, quiet, spread_out, text_width

MARKERS = "os^Dv"
STYLES = {"test": "-", "train": "--"}
SIGNS, LAW = "mean over seeds; bands: worst to best seed", "; dotted: power law and its 95% band"
NAME = 0.25  # of the figure's width, at most, for the name of a series
BETWEEN = 0.5  # heights of a letter between two sizes below the axis


@dataclass(frozen=True)
class _Line:
    """Test or training accuracy of one series: images and the seeds' accuracies in percent."""

    label: str
    colour: str
    marker: str
    style: str
    images: tuple[int, ...]
    top1: tuple[tuple[float, ...], ...]

    @property
    def means(self) -> list[float]:
        return [sum(seeds) / len(seeds) for seeds in self.top1]


def against_images(series: Sequence[Series], size: FigureSize, title: str = "") -> Figure:
    """Test and training top-1 against images, a colour a series, with the power law of those that have one.

    Only measured sizes have points, and no curve leaves the sizes measured.
    """
    with quiet():
        lines = _lines(series, NAME * 72 * size.width / size.font)
        widest = max((text_width(f"{line.label} 100.00") for line in lines), default=0.0)
    laws = [power_law(one) for one in series]
    figure, axes = empty(size, title, SIGNS + LAW * any(laws), right=3.4 + widest)
    axes.set(xlabel="images trained on", ylabel="top-1 (%)")
    if not lines:
        return figure
    _limits(axes, size, lines)
    for line in lines:
        _draw(axes, size, line)
    for place, law in enumerate(laws):
        if law:
            _draw_law(axes, size, law, COLOURS[place % len(COLOURS)])
    _end_labels(axes, size, lines)
    return figure


def write_datasize_figure(series: Sequence[Series], folder: Path, title: str = "") -> list[Path]:
    """Writes the figure for slides, as PNG and as SVG, and returns the paths."""
    figure = against_images(series, SLIDE, title)
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / "top1_against_images.png", folder / "top1_against_images.svg"]
    save(figure, paths[0], "png", dpi=144)
    save(figure, paths[1], "svg")
    return paths


def _lines(series: Sequence[Series], widest: float) -> list[_Line]:
    """widest: a name's width, in heights of its letters."""
    lines = []
    for place, one in enumerate(series):
        colour, marker = COLOURS[place % len(COLOURS)], MARKERS[place % len(MARKERS)]
        for kind, style in STYLES.items():
            cells = [(cell.images, _seeds(cell, kind)) for cell in one.measured if _seeds(cell, kind)]
            if cells:
                images, top1 = zip(*cells, strict=True)
                lines.append(_Line(f"{fitted(one.label, widest)} {kind}", colour, marker, style, images, top1))
    return lines


def _seeds(cell: Cell, kind: str) -> tuple[float, ...]:
    top1 = cell.test if kind == "test" else cell.train
    return tuple(top1[seed] for seed in sorted(top1))


def _draw(axes: Axes, size: FigureSize, line: _Line) -> None:
    low, high = [min(seeds) for seeds in line.top1], [max(seeds) for seeds in line.top1]
    axes.plot(line.images, line.means, clip_on=False, zorder=3, **_sign(line, size, size.font))
    axes.fill_between(line.images, low, high, color=line.colour, alpha=0.2, linewidth=0)


def _sign(line: _Line, size: FigureSize, font: float) -> dict[str, Any]:
    """How a line looks: test solid with full marks, training dashed, thinner and with empty ones."""
    solid = line.style == STYLES["test"]
    return {"color": line.colour, "linestyle": line.style, "linewidth": size.line * (0.8 if solid else 0.6),
            "marker": line.marker, "markersize": 0.5 * font,
            "markerfacecolor": line.colour if solid else "white"}  # fmt: skip


def _draw_law(axes: Axes, size: FigureSize, law: PowerLaw, colour: str) -> None:
    """As accuracy: 100 less the error, so that the band's lower edge is the error's upper one."""
    top1 = [100 - error.value for error in law.error]
    axes.plot(law.images, top1, color=colour, linestyle=":", linewidth=size.line * 0.5, zorder=2)
    if law.seeds > 1:
        low, high = [100 - error.high for error in law.error], [100 - error.low for error in law.error]
        axes.fill_between(law.images, low, high, facecolor="none", edgecolor=colour, linestyle=":",
                          linewidth=size.line * 0.25, alpha=0.8)  # fmt: skip


def _limits(axes: Axes, size: FigureSize, lines: Sequence[_Line]) -> None:
    """A logarithmic axis with the measured sizes as its ticks, and room for what was measured."""
    images = sorted({count for line in lines for count in line.images})
    top1 = [value for line in lines for seeds in line.top1 for value in seeds]
    room = max(max(top1) - min(top1), 1.0)
    axes.set_xscale("log")
    left = images[0] / (images[-1] / images[0]) ** 0.03
    axes.set_xlim((left, images[-1]) if len(images) > 1 else (images[0] / 1.5, images[0] * 1.5))
    axes.set_ylim(min(top1) - 0.06 * room, max(top1) + 0.06 * room)
    axes.xaxis.set_major_locator(FixedLocator(images))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticks(images, _tick_labels(axes, size, images))


def _tick_labels(axes: Axes, size: FigureSize, images: Sequence[int]) -> list[str]:
    """Those of the largest, the smallest, and of the others from the largest on as far as there is room.

    The rest have a tick alone.
    """
    wide = 72 * size.width * axes.get_position().width / size.font  # of the axis, in heights of a letter
    to_axes = axes.transData + axes.transAxes.inverted()
    taken: dict[int, tuple[float, float]] = {}
    for count in dict.fromkeys([images[-1], images[0], *reversed(images)]):
        at, half = float(to_axes.transform((count, 0))[0]) * wide, text_width(f"{count:,}") / 2 + BETWEEN / 2
        if all(at + half <= left or right <= at - half for left, right in taken.values()):
            taken[count] = at - half, at + half
    return [f"{count:,}" if count in taken else "" for count in images]


def _end_labels(axes: Axes, size: FigureSize, lines: Sequence[_Line]) -> None:
    """The name of each line and its last mean at the right, spread so that none covers another.

    A line that ends before the largest size has its sign beside its name, and nothing that leads there.
    """
    (_, edge), (low, high) = axes.get_xlim(), axes.get_ylim()
    points = 72 * size.height * axes.get_position().height
    font = min(size.font, points / len(lines) / 1.1)
    gap = 1.3 * font / points
    at = [(line.means[-1] - low) / (high - low) for line in lines]
    places = spread_out(at, gap, gap / 2, 1 - gap / 2)
    em = size.font / (72 * size.width * axes.get_position().width)
    beside: dict[str, Any] = {"transform": axes.transAxes, "clip_on": False}
    for line, start, y in zip(lines, at, places, strict=True):
        if line.images[-1] >= edge:
            axes.plot([1 + 0.4 * em, 1 + 0.9 * em], [start, y], color=line.colour, linewidth=0.3 * size.line, **beside)
        axes.plot([1 + far * em for far in (0.9, 2, 3.1)], [y] * 3, **_sign(line, size, font), markevery=[1], **beside)
        axes.text(1 + 3.3 * em, y, f"{line.label} {line.means[-1]:.2f}", va="center", fontsize=font, parse_math=False,
                  **beside)  # fmt: skip
