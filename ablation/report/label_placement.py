"""Texts in a figure that keep clear of each other: along an axis, or around points."""

import warnings
from collections.abc import Sequence
from contextlib import AbstractContextManager
from itertools import pairwise
from math import hypot

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path

from arch.text import shorten

Box = tuple[float, float, float, float]  # left, bottom, right, top

# where a label may stand: (right of its point, left, or in line with it; level with it, above or below)
SIDES = ((1, 0), (-1, 0), (1, 1), (-1, 1), (1, -1), (-1, -1), (0, 1), (0, -1))
DISTANCES = (1.0, 2.5, 4.5, 7.0, 10.0)  # times the gap
FAR = 2.2  # gaps beyond which a line leads to the point
NARROWEST = 0.25  # a letter's width, of its height
OUTSIDE, ON_LABEL, ON_MARK = 10.0, 6.0, 3.0  # what a place costs, by the share of the label that lies so
MISTAKEN, AWAY = 0.4, 0.12  # what it costs to be nearer to another point, and a gap from its own


def quiet() -> AbstractContextManager[object]:
    """Without matplotlib's warnings of letters that its font lacks: they are drawn as boxes."""
    return warnings.catch_warnings(action="ignore", category=UserWarning)


def text_width(text: str) -> float:
    """In heights of its letters."""
    return float(text_to_path.get_text_width_height_descent(text, FontProperties(size=100), ismath=False)[0] / 100)


def fitted(text: str, width: float) -> str:
    """The text, its middle left out until it is no wider than so many heights of its letters."""
    longest = min(len(text), 3 + int(width / NARROWEST))
    shown = shorten(text, longest)
    while text_width(shown) > width and longest > 3:
        longest -= 1
        shown = shorten(text, longest)
    return shown


def spread_out(wanted: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Places in the order of `wanted`, at least `gap` apart and between the bounds, each near what was wanted.

    What the bounds cannot hold at this gap stands closer.
    """
    count = len(wanted)
    gap = min(gap, (high - low) / max(1, count - 1))
    order = sorted(range(count), key=lambda i: wanted[i])
    groups: list[
        tuple[float, int]
    ] = []  # (sum of what is wanted, less the gaps below; members), joined if they collide
    for rank, i in enumerate(order):
        groups.append((wanted[i] - rank * gap, 1))
        while len(groups) > 1 and groups[-2][0] / groups[-2][1] > groups[-1][0] / groups[-1][1]:
            total, members = groups.pop()
            groups[-1] = (groups[-1][0] + total, groups[-1][1] + members)
    starts = [total / members for total, members in groups for _ in range(members)]
    highest = high - max(0, count - 1) * gap
    places = {i: max(low, min(starts[rank], highest)) + rank * gap for rank, i in enumerate(order)}
    return [places[i] for i in range(count)]


def place_around(
    axes: Axes,
    points: Sequence[tuple[float, float]],
    heights: Sequence[float],
    texts: Sequence[str],
    size: float,
    line: Sequence[tuple[float, float]] = (),
) -> None:
    """Writes each text beside its point, where it covers least of other texts and points; from afar a line leads to it.

    points, heights, line: in data coordinates, with half the height of each one's error bar, and the corners of a line
    of steps to keep off. The limits of the axes are final.
    """
    figure = axes.figure
    assert isinstance(figure, Figure)
    renderer = FigureCanvasAgg(figure).get_renderer()  # type: ignore[no-untyped-call]
    inside: Box = axes.get_window_extent(renderer).extents
    gap = size * figure.dpi / 72 * 0.7
    at = [(float(x), float(y)) for x, y in axes.transData.transform(points)]
    tops = [
        float(y) for _, y in axes.transData.transform([(x, y + h) for (x, y), h in zip(points, heights, strict=True)])
    ]
    marks = [_around(x, x, 2 * y - top, top, gap) for (x, y), top in zip(at, tops, strict=True)]
    corners = [(float(x), float(y)) for x, y in axes.transData.transform(line)] if line else []
    kept_off = marks + [_around(x, u, y, v, gap / 2) for (x, y), (u, v) in pairwise(corners)]
    back = axes.transAxes.inverted()
    taken: list[Box] = []
    for i in sorted(range(len(at)), key=lambda i: -_crowd(at[i], at)):  # those with least room choose first
        text = axes.text(0, 0, texts[i], fontsize=size, parse_math=False, transform=axes.transAxes, zorder=2)
        text.set_bbox({"facecolor": "white", "alpha": 0.7, "linewidth": 0, "pad": 0})
        box = text.get_window_extent(renderer)
        strangers = at[:i] + at[i + 1 :]
        side, best = _best_place(at[i], (box.width, box.height), gap, inside, taken, kept_off, strangers)
        taken.append(best)
        where = (
            ((best[0] + best[2]) / 2, best[0], best[2])[side],
            (best[1] + best[3]) / 2,
        )  # held by the side at its point
        text.set(position=tuple(back.transform(where)), ha=("center", "left", "right")[side], va="center")
        if _away(best, at[i]) > FAR * gap:
            x, y = at[i]
            end = min(max(x, best[0]), best[2]), min(max(y, best[1]), best[3])
            xs, ys = zip(*back.transform([(x, y), end]), strict=True)
            axes.plot(xs, ys, color="0.5", linewidth=size / 14, transform=axes.transAxes, zorder=1)


def _best_place(
    at: tuple[float, float],
    size: tuple[float, float],
    gap: float,
    inside: Box,
    taken: Sequence[Box],
    kept_off: Sequence[Box],
    strangers: Sequence[tuple[float, float]],
) -> tuple[int, Box]:
    """(-1 for left of the point, 1 for right, or 0; the place that costs least)."""
    places = [(side[0], _beside(at, size, side, gap * far)) for far in DISTANCES for side in SIDES]
    area = size[0] * size[1] or 1.0

    def cost(choice: tuple[int, Box]) -> float:
        place = choice[1]
        on_labels = ON_LABEL * sum(area + _shared(place, other) for other in taken if _shared(place, other))
        on_marks = ON_MARK * sum(_shared(place, mark) for mark in kept_off)
        away = _away(place, at)
        mistaken = MISTAKEN * any(_away(place, other) < away for other in strangers)
        covered = OUTSIDE * (area - _shared(place, inside)) + on_labels + on_marks
        return covered / area + mistaken + AWAY * away / gap

    return min(places, key=cost)


def _around(x: float, u: float, y: float, v: float, gap: float) -> Box:
    """The box that holds both ends of a line, and half a gap on all sides."""
    return min(x, u) - gap / 2, min(y, v) - gap / 2, max(x, u) + gap / 2, max(y, v) + gap / 2


def _crowd(own: tuple[float, float], points: Sequence[tuple[float, float]]) -> float:
    return sum(1 / (1 + abs(own[0] - x) + abs(own[1] - y)) for x, y in points)


def _beside(at: tuple[float, float], size: tuple[float, float], side: tuple[int, int], gap: float) -> Box:
    across, up = side
    left = at[0] + across * gap - (1 - across) / 2 * size[0]
    bottom = at[1] + up * gap - (1 - up) / 2 * size[1]
    return left, bottom, left + size[0], bottom + size[1]


def _shared(one: Box, other: Box) -> float:
    wide, high = min(one[2], other[2]) - max(one[0], other[0]), min(one[3], other[3]) - max(one[1], other[1])
    return wide * high if wide > 0 and high > 0 else 0.0


def _away(box: Box, at: tuple[float, float]) -> float:
    return hypot(max(box[0] - at[0], 0.0, at[0] - box[2]), max(box[1] - at[1], 0.0, at[1] - box[3]))
