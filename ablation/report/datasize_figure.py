"""The figure of accuracy against training set size, within the measured range."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from ablation.analysis.datasize_series import Series, SizePoint, carried_pairs, separate_series
from ablation.analysis.power_law import PowerLaw, fit_power_law
from ablation.report.figure_style import MARKERS, MAX_RIGHT_MARGIN, FigureSize, new_figure, seeds_legend
from ablation.report.label_placement import fit_text, ignore_missing_glyphs, spread_out, text_width
from ablation.report.row_style import COLORS

Split = Literal["test", "train"]
SPLIT_STYLES: dict[Split, str] = {"test": "-", "train": "--"}
CARRIED_STYLE, CARRIED_MARKER = "-.", "x"
TRAIN_LEGEND = "; train: during the last epoch"  # shown if there is room
MAX_NAME_WIDTH = 0.25  # fraction of the figure's width
LABEL_START, LABEL_END = 3.3, 0.6  # em between the axes and the labels of lines, and between these and the edge
TICK_LABEL_GAP = 0.5  # em between two tick labels


@dataclass(frozen=True)
class _Line:
    """Test or training accuracy of one series: the numbers of images, and the accuracy of each seed in percent."""

    label: str
    color: str
    marker: str
    style: str
    images: tuple[int, ...]
    top1: tuple[tuple[float, ...], ...]

    @property
    def means(self) -> list[float]:
        return [sum(accuracies) / len(accuracies) for accuracies in self.top1]


def draw_accuracy_against_images(series: Sequence[Series], size: FigureSize, title: str = "") -> Figure:
    """Plot test and training top-1 against the number of training images, one color per model, with fitted power laws.

    Points mark the measured sizes, and no curve extends beyond them. Of a series that is carried over, only the test
    accuracy is drawn, from the size at which it starts, in the color of the same model trained separately.

    Args:
        series: The series of the study.
        size: The size of the figure.
        title: The title of the figure.
    """
    with ignore_missing_glyphs():
        lines = _lines(series, _name_width(series, size))
        label_width = max((text_width(f"{line.label} {line.means[-1]:.2f}") for line in lines), default=0.0)
    laws = [fit_power_law(one) for one in separate_series(series)]
    legend = bands_legend(series) + _laws_legend(laws)
    if text_width(legend + TRAIN_LEGEND) < size.width_em - 1.2:
        legend += TRAIN_LEGEND
    figure, axes = new_figure(size, title, legend, right_margin=LABEL_START + LABEL_END + label_width)
    axes.set(xlabel="training images (log scale)", ylabel="top-1 (%)")
    if not lines:
        return figure
    _set_limits(axes, size, lines)
    for line in lines:
        low, high = [min(accuracies) for accuracies in line.top1], [max(accuracies) for accuracies in line.top1]
        axes.plot(line.images, line.means, clip_on=False, zorder=3, **_line_style(line, size, size.font))
        axes.fill_between(line.images, low, high, color=line.color, alpha=0.2, linewidth=0)
    for index, law in enumerate(laws):
        if law:
            _draw_law(axes, size, law, COLORS[index % len(COLORS)])
    _draw_end_labels(axes, size, lines)
    return figure


def _name_width(series: Sequence[Series], size: FigureSize) -> float:
    """Return the maximum width of the name of a series in em, so that its labels fit in the margin."""
    highest = max((top1 for one in series for point in one.measured for top1 in point.train.values()), default=0.0)
    ending = LABEL_START + LABEL_END + text_width(f" train {max(highest, 10):.2f}")
    return max(0.0, min(MAX_NAME_WIDTH * size.width_em, MAX_RIGHT_MARGIN * size.width_em - ending))


def bands_legend(series: Sequence[Series]) -> str:
    """Return what the lines and bands of the series show."""
    return seeds_legend((len(point.test) for one in series for point in one.measured), "; bands: worst to best seed")


def _laws_legend(laws: Sequence[PowerLaw | None]) -> str:
    has_band = any(law and law.seeds > 1 for law in laws)
    return f"; dotted: power law{' and its 95% band' if has_band else ''}" if any(laws) else ""


def _lines(series: Sequence[Series], name_width: float) -> list[_Line]:
    """Return the lines of each series. `name_width` is the maximum width of its name in em."""
    lines, separate = list[_Line](), separate_series(series)
    for index, one in enumerate(separate):
        color, marker = COLORS[index % len(COLORS)], MARKERS[index % len(MARKERS)]
        for split, style in SPLIT_STYLES.items():
            points = [(point.images, top1) for point in one.measured if (top1 := _accuracies(point, split))]
            if points:
                images, top1s = zip(*points, strict=True)
                lines.append(_Line(f"{fit_text(one.label, name_width)} {split}", color, marker, style, images, top1s))
    for first, carried in carried_pairs(series):
        color = COLORS[separate.index(first) % len(COLORS)]
        if carried.measured:
            images, top1s = zip(*_carried_points(first, carried), strict=True)
            width = name_width + text_width(" train") - text_width(" carried")  # so that no label is wider than others
            label = f"{fit_text(first.label, width)} carried"
            lines.append(_Line(label, color, CARRIED_MARKER, CARRIED_STYLE, images, top1s))
    return lines


def _carried_points(first: Series, carried: Series) -> list[tuple[int, tuple[float, ...]]]:
    """Return the measured points of a series that is carried over, after the run from which it starts."""
    start = [point for point in first.measured if point.images < carried.points[0].images]
    return [(point.images, _accuracies(point, "test")) for point in (*start[-1:], *carried.measured)]


def _accuracies(point: SizePoint, split: Split) -> tuple[float, ...]:
    top1 = point.test if split == "test" else point.train
    return tuple(top1[seed] for seed in sorted(top1))


def _line_style(line: _Line, size: FigureSize, font: float) -> dict[str, Any]:
    """Return a style that distinguishes test (solid, filled markers) from other lines (thinner, open markers)."""
    is_test, is_cross = line.style == SPLIT_STYLES["test"], line.marker == CARRIED_MARKER
    return {
        "color": line.color,
        "linestyle": line.style,
        "linewidth": size.line * (0.8 if is_test else 0.6),
        "marker": line.marker,
        "markersize": (0.7 if is_cross else 0.5) * font,
        "markerfacecolor": line.color if is_test else "white",
    }


def _draw_law(axes: Axes, size: FigureSize, law: PowerLaw, color: str) -> None:
    """Draw a law as accuracy, which is 100 minus the error."""
    top1 = [100 - error.value for error in law.error]
    axes.plot(law.images, top1, color=color, linestyle=":", linewidth=size.line * 0.5, zorder=2)
    if law.seeds > 1:
        low, high = [100 - error.high for error in law.error], [100 - error.low for error in law.error]
        axes.fill_between(law.images, low, high, facecolor="none", edgecolor=color, linestyle=":",
                          linewidth=size.line * 0.25, alpha=0.8)  # fmt: skip


def _set_limits(axes: Axes, size: FigureSize, lines: Sequence[_Line]) -> None:
    """Use a logarithmic x axis with the measured sizes as ticks, and leave room around all accuracies."""
    images = sorted({count for line in lines for count in line.images})
    top1 = [value for line in lines for accuracies in line.top1 for value in accuracies]
    height = max(max(top1) - min(top1), 1.0)
    axes.set_xscale("log")
    left = images[0] / (images[-1] / images[0]) ** 0.03
    axes.set_xlim((left, images[-1]) if len(images) > 1 else (images[0] / 1.5, images[0] * 1.5))
    axes.set_ylim(min(top1) - 0.06 * height, max(top1) + 0.06 * height)
    axes.xaxis.set_major_locator(FixedLocator(images))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticks(images, _tick_labels(axes, size, images))


def _tick_labels(axes: Axes, size: FigureSize, images: Sequence[int]) -> list[str]:
    """Return the tick labels that fit, in order of priority: the largest, the smallest, then the next largest ones.

    The other ticks have an empty label.
    """
    width = 72 * size.width * axes.get_position().width / size.font  # width of the axis in em
    to_axes = axes.transData + axes.transAxes.inverted()
    occupied: dict[int, tuple[float, float]] = {}
    for count in dict.fromkeys([images[-1], images[0], *reversed(images)]):
        center = float(to_axes.transform((count, 0))[0]) * width
        half_width = text_width(f"{count:,}") / 2 + TICK_LABEL_GAP / 2
        start, end = center - half_width, center + half_width
        if all(end <= other_start or other_end <= start for other_start, other_end in occupied.values()):
            occupied[count] = start, end
    return [f"{count:,}" if count in occupied else "" for count in images]


def _draw_end_labels(axes: Axes, size: FigureSize, lines: Sequence[_Line]) -> None:
    """Draw the name and the last mean of each line at the right, spread out so that no label covers another.

    A leader connects the label with its line, unless the line ends before the largest size.
    """
    (_, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    points = 72 * size.height * axes.get_position().height
    font = min(size.font, points / len(lines) / 1.1)
    gap = 1.3 * font / points
    ends = [(line.means[-1] - low) / (high - low) for line in lines]
    em = size.font / (72 * size.width * axes.get_position().width)
    outside: dict[str, Any] = {"transform": axes.transAxes, "clip_on": False}
    for line, end, y in zip(lines, ends, spread_out(ends, gap, gap / 2, 1 - gap / 2), strict=True):
        if line.images[-1] >= right:
            axes.plot([1 + 0.4 * em, 1 + 0.9 * em], [end, y], color=line.color, linewidth=0.3 * size.line, **outside)
        sample = [1 + distance * em for distance in (0.9, 2, 3.1)]
        axes.plot(sample, [y] * 3, **_line_style(line, size, font), markevery=[1], **outside)
        label = f"{line.label} {line.means[-1]:.2f}"
        axes.text(1 + LABEL_START * em, y, label, va="center", fontsize=font, parse_math=False, **outside)
