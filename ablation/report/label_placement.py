"""Place text in a figure without overlaps: along an axis, or around points."""

import warnings
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from itertools import pairwise
from math import hypot

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path

from arch.text import shorten

Box = tuple[float, float, float, float]  # left, bottom, right, top
Point = tuple[float, float]

# directions in which a label can be placed: (right, left or centered; level, above or below)
SIDES = ((1, 0), (-1, 0), (1, 1), (-1, 1), (1, -1), (-1, -1), (0, 1), (0, -1))
DISTANCES = (1.0, 2.5, 4.5, 7.0, 10.0)  # distances from the point, in gaps
LEADER_DISTANCE = 2.2  # in gaps; a label beyond this distance is connected to its point by a line
MIN_LETTER_WIDTH = 0.25  # em

# costs of a position, per share of the label's area
OUTSIDE_COST = 10.0
LABEL_OVERLAP_COST = 6.0
MARK_OVERLAP_COST = 3.0
# costs of a position: a fixed cost, and a cost per gap of distance
NEARER_TO_OTHER_POINT_COST = 0.4
DISTANCE_COST = 0.12


@dataclass(frozen=True)
class LabeledPoint:
    """A point in data coordinates, half the height of its error bar, and its label."""

    x: float
    y: float
    error: float
    label: str


@dataclass
class _Obstacles:
    """What a label should not cover, in pixels."""

    axes: Box
    marks: list[Box]
    labels: list[Box] = field(default_factory=list)


def ignore_missing_glyphs() -> AbstractContextManager[object]:
    """Suppress matplotlib's warnings about letters that its font lacks, which are drawn as boxes."""
    return warnings.catch_warnings(action="ignore", category=UserWarning)


def text_width(text: str) -> float:
    """Return the width of a text in em."""
    return float(text_to_path.get_text_width_height_descent(text, FontProperties(size=100), ismath=False)[0] / 100)


def fit_text(text: str, width: float) -> str:
    """Return the text, shortened in the middle to at most `width` em."""
    max_characters = min(len(text), 3 + int(width / MIN_LETTER_WIDTH))
    shown = shorten(text, max_characters)
    while text_width(shown) > width and max_characters > 3:
        max_characters -= 1
        shown = shorten(text, max_characters)
    return shown


def spread_out(positions: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Return positions in the same order that are at least `gap` apart, each near the given one.

    Args:
        positions: The preferred positions.
        gap: The minimum distance. It is reduced if the bounds are too narrow for it.
        low: The lower bound.
        high: The upper bound.
    """
    count = len(positions)
    gap = min(gap, (high - low) / max(1, count - 1))
    order = sorted(range(count), key=lambda i: positions[i])
    # each group: (sum of the members' positions less the gaps below them, number of members); colliding groups merge
    groups: list[tuple[float, int]] = []
    for rank, i in enumerate(order):
        groups.append((positions[i] - rank * gap, 1))
        while len(groups) > 1 and groups[-2][0] / groups[-2][1] > groups[-1][0] / groups[-1][1]:
            total, members = groups.pop()
            groups[-1] = (groups[-1][0] + total, groups[-1][1] + members)
    starts = [total / members for total, members in groups for _ in range(members)]
    highest_start = high - max(0, count - 1) * gap
    spread = {i: max(low, min(starts[rank], highest_start)) + rank * gap for rank, i in enumerate(order)}
    return [spread[i] for i in range(count)]


def place_labels(axes: Axes, points: Sequence[LabeledPoint], font: float, line: Sequence[Point] = ()) -> None:
    """Draw each label near its point where it covers the least; a leader connects a distant label with its point.

    Args:
        axes: The axes, whose limits must be final.
        points: The points.
        font: The font size in points.
        line: The corners of a step line to avoid, in data coordinates.
    """
    figure = axes.figure
    assert isinstance(figure, Figure)
    renderer = FigureCanvasAgg(figure).get_renderer()  # type: ignore[no-untyped-call]
    gap = font * figure.dpi / 72 * 0.7
    centers = _to_pixels(axes, [(point.x, point.y) for point in points])
    tops = [y for _, y in _to_pixels(axes, [(point.x, point.y + point.error) for point in points])]
    marks = [_box_around((x, 2 * y - top), (x, top), gap) for (x, y), top in zip(centers, tops, strict=True)]
    marks += [_box_around(start, end, gap / 2) for start, end in pairwise(_to_pixels(axes, line))]
    obstacles = _Obstacles(axes.get_window_extent(renderer).extents, marks)
    for i in sorted(range(len(points)), key=lambda i: -_crowding(centers[i], centers)):  # most crowded first
        text = axes.text(0, 0, points[i].label, fontsize=font, parse_math=False, transform=axes.transAxes, zorder=2)
        text.set_bbox({"facecolor": "white", "alpha": 0.7, "linewidth": 0, "pad": 0})
        extent = text.get_window_extent(renderer)
        others = centers[:i] + centers[i + 1 :]
        side, box = _best_position(centers[i], (extent.width, extent.height), gap, obstacles, others)
        obstacles.labels.append(box)
        anchor = ((box[0] + box[2]) / 2, box[0], box[2])[side], (box[1] + box[3]) / 2  # the edge nearest to the point
        alignment = ("center", "left", "right")[side]
        text.set(position=tuple(axes.transAxes.inverted().transform(anchor)), ha=alignment, va="center")
        if _distance(box, centers[i]) > LEADER_DISTANCE * gap:
            _draw_leader(axes, centers[i], box, font)


def _to_pixels(axes: Axes, points: Sequence[Point]) -> list[Point]:
    return [(float(x), float(y)) for x, y in axes.transData.transform(points)] if points else []


def _draw_leader(axes: Axes, point: Point, box: Box, font: float) -> None:
    x, y = point
    end = min(max(x, box[0]), box[2]), min(max(y, box[1]), box[3])
    xs, ys = zip(*axes.transAxes.inverted().transform([point, end]), strict=True)
    axes.plot(xs, ys, color="0.5", linewidth=font / 14, transform=axes.transAxes, zorder=1)


def _best_position(
    point: Point, label_size: tuple[float, float], gap: float, obstacles: _Obstacles, other_points: Sequence[Point]
) -> tuple[int, Box]:
    """Return the side (1: right of the point, -1: left, 0: centered) and the box of the lowest-cost position."""
    positions = [
        (side[0], _label_box(point, label_size, side, gap * distance)) for distance in DISTANCES for side in SIDES
    ]
    area = label_size[0] * label_size[1] or 1.0

    def cost(position: tuple[int, Box]) -> float:
        box = position[1]
        overlaps = [_overlap(box, label) for label in obstacles.labels]
        on_labels = LABEL_OVERLAP_COST * sum(area + overlap for overlap in overlaps if overlap)
        on_marks = MARK_OVERLAP_COST * sum(_overlap(box, mark) for mark in obstacles.marks)
        outside = OUTSIDE_COST * (area - _overlap(box, obstacles.axes))
        distance = _distance(box, point)
        is_ambiguous = any(_distance(box, other) < distance for other in other_points)
        covered = outside + on_labels + on_marks
        return covered / area + NEARER_TO_OTHER_POINT_COST * is_ambiguous + DISTANCE_COST * distance / gap

    return min(positions, key=cost)


def _box_around(start: Point, end: Point, gap: float) -> Box:
    """Return the box that contains both points and half a gap on all sides."""
    (x, y), (u, v) = start, end
    return min(x, u) - gap / 2, min(y, v) - gap / 2, max(x, u) + gap / 2, max(y, v) + gap / 2


def _crowding(point: Point, points: Sequence[Point]) -> float:
    return sum(1 / (1 + abs(point[0] - x) + abs(point[1] - y)) for x, y in points)


def _label_box(point: Point, size: tuple[float, float], side: tuple[int, int], distance: float) -> Box:
    across, up = side
    left = point[0] + across * distance - (1 - across) / 2 * size[0]
    bottom = point[1] + up * distance - (1 - up) / 2 * size[1]
    return left, bottom, left + size[0], bottom + size[1]


def _overlap(box: Box, other: Box) -> float:
    """Return the area that two boxes share."""
    width, height = min(box[2], other[2]) - max(box[0], other[0]), min(box[3], other[3]) - max(box[1], other[1])
    return width * height if width > 0 and height > 0 else 0.0


def _distance(box: Box, point: Point) -> float:
    return hypot(max(box[0] - point[0], 0.0, point[0] - box[2]), max(box[1] - point[1], 0.0, point[1] - box[3]))
