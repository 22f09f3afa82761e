"""A net as a drawing: one band of boxes from stem to head, from what its record tells of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from ablation.plans.row import Row, runs_of
from ablation.report.figure_style import FigureSize, heading
from ablation.report.label_placement import fitted, quiet, text_width
from arch.text import shorten
from benchmarks.budget.verdict import format_count
from benchmarks.records.store import RunRecord

# all lengths in heights of a letter
LINE, PAD, BETWEEN, GAP, HEADER, FOOTER = 1.3, 0.3, 0.45, 1.4, 3.1, 3.4
EDGE, ACCENT, FILL, ACCENT_FILL = "#0072B2", "#D55E00", "#EAF3F9", "#FCEBDD"  # Okabe & Ito 2008, and their tints
NARROWER = 0.76  # stem and head, of a stage's width
LEFT, RIGHT, AROUND = 1.5, 0.55, 0.85  # of a stage's box to its cells, and to the line around them
MARGIN, TITLE = 1.0, 2.2  # beside and above the drawing on a slide
MOST = 10  # sections, and layers of a section, that are drawn


@dataclass(frozen=True)
class Column:
    """One box of the band: what stands above, in and below it."""

    header: tuple[str, str]
    cells: tuple[tuple[tuple[str, ...], bool], ...]  # (lines, whether it is attention)
    shortcut: tuple[str, ...] | None  # lines; None for stem, head and a plain stage
    footer: tuple[str, str]
    width: float

    @property
    def height(self) -> float:
        """Of what is in the box."""
        cells = sum(len(lines) * LINE + 2 * PAD + BETWEEN for lines, _ in self.cells)
        return cells + (0 if self.shortcut is None else 1.4 + LINE * len(self.shortcut)) + 2 * BETWEEN


def last_architecture(
    rows: Sequence[Row], results: Sequence[RunRecord], seeds: int | None = None
) -> tuple[Row | None, list[dict[str, Any]]]:
    """The proposal, which is the last step that has results, and its sections; none where its records do not tell."""
    found = [(row.kind == "step", place) for place, row in enumerate(rows) if runs_of(row, results, seeds)]
    if not found:
        return None, []
    row = rows[max(found)[1]]
    told = (run.architecture for run in runs_of(row, results, seeds).values() if _is_whole(run.architecture))
    return row, next(told, [])


def _is_whole(sections: Sequence[Mapping[str, Any]]) -> bool:
    """Whether records, which anybody may have edited, tell what a drawing needs."""
    kinds = {"name": str, "blocks": int, "block": str, "branch": list, "attention": list, "shortcut": list,
             "output": list, "params": int}  # fmt: skip
    return bool(sections) and all(
        isinstance(section.get(name), (kind, tuple) if kind is list else kind)
        for section in sections
        for name, kind in kinds.items()
    )


def band(sections: Sequence[Mapping[str, Any]], width: float, font: float) -> FigureSize:
    """The size that the drawing takes, without a title, at this width (inches) and these letters (points)."""
    with quiet():
        highest = max(column.height for column in _columns(sections, 72 * width / font))
    return FigureSize(width, (HEADER + highest + FOOTER) * font / 72, font, font / 8)


def draw_architecture(sections: Sequence[Mapping[str, Any]], size: FigureSize, title: str = "") -> Figure:
    """The sections side by side: repeats, the layers of a branch, attention, shortcut, output and parameters.

    In smaller letters where `size` cannot hold it.
    """
    figure = Figure((size.width, size.height))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    heading(figure, size, title, "")
    with quiet():
        margins = 2 * MARGIN if title else 0.0
        font, columns = size.font, _columns(sections, 72 * size.width / size.font - margins)
        room = 72 * size.height - (TITLE * size.font if title else 0)
        while (HEADER + FOOTER + max(column.height for column in columns)) * font > room + 0.01 and font > 1:
            font *= 0.95
            columns = _columns(sections, 72 * size.width / font - margins)
    axes.set(xlim=(0, 72 * size.width / font), ylim=(0, 72 * size.height / font))  # in letters from here on
    highest = max(column.height for column in columns)
    top = room / font - max(0.0, room / font - HEADER - highest - FOOTER) / 2
    left = MARGIN if title else 0.0
    for place, column in enumerate(columns):
        _draw(axes, column, left, top - HEADER, highest, font)
        if place:
            middle = top - HEADER - highest / 2
            axes.annotate("", (left, middle), (left - GAP, middle), arrowprops=_arrow(font))
        left += column.width + GAP
    return figure


def _columns(sections: Sequence[Mapping[str, Any]], width: float) -> list[Column]:
    drawn = list(sections)[: MOST - 1] + list(sections)[MOST - 1 :][-1:]  # the head is the last
    weights = [1.0 if section["block"] else NARROWER for section in drawn]
    run = (width - GAP * (len(drawn) - 1) - 0.2) / sum(weights)
    return [_column(section, run * weight) for section, weight in zip(drawn, weights, strict=True)]


def _column(section: Mapping[str, Any], width: float) -> Column:
    is_stage = bool(section["block"])
    has_shortcut = is_stage and not section.get("plain", False)  # which older records do not say
    inner = width - (LEFT + RIGHT if has_shortcut else 2 * RIGHT) - 2 * PAD
    layers = [(layer, False) for layer in section["branch"]] + [(name, True) for name in section["attention"]]
    if len(layers) > MOST:
        layers = [*layers[: MOST - 1], (f"… {len(layers) - MOST + 1} more", False)]
    *others, last = section["shortcut"] or ["identity"]
    around = [
        line
        for layer in [*(f"{other}," for other in others[:MOST]), str(last)]
        for line in wrapped(layer, inner + 2 * PAD)
    ]
    blocks = f"{section['blocks']} × " if section["blocks"] > 1 else ""
    return Column(
        header=(fitted(section["name"], width), fitted(f"{blocks}{section['block']}", width) if is_stage else ""),
        cells=tuple((wrapped(str(layer), inner), accent) for layer, accent in layers),
        shortcut=tuple(around) if has_shortcut else None,
        footer=(
            fitted(" × ".join(map(str, section["output"])), width + GAP / 2),
            fitted(f"{format_count(section['params'])} params".replace("  ", " "), width + GAP / 2),
        ),
        width=width,
    )


def _draw(axes: Axes, column: Column, left: float, top: float, height: float, font: float) -> None:
    """The box whose upper left corner is (left, top)."""
    middle = left + column.width / 2

    def write(y: float, text: str, **style: Any) -> None:
        style = {"x": middle, "fontsize": font, "ha": "center", "va": "center", "parse_math": False, **style}
        axes.text(y=y, s=text, **style)

    _box(axes, left + 0.1, top - height, column.width - 0.2, height, "white", "0.6", font)
    write(top + 2.4, column.header[0], weight="bold")
    write(top + 1.0, column.header[1])
    write(top - height - 1.1, column.footer[0])
    write(top - height - 2.4, column.footer[1], color="0.35")
    has_shortcut = column.shortcut is not None
    inset = (LEFT, RIGHT) if has_shortcut else (RIGHT, RIGHT)
    centre = left + inset[0] + (column.width - sum(inset)) / 2
    y = top - BETWEEN - (0 if has_shortcut else (height - column.height) / 2)
    start = y
    y -= BETWEEN if has_shortcut else 0
    for number, (lines, accent) in enumerate(column.cells):
        tall = len(lines) * LINE + 2 * PAD
        if number or has_shortcut:
            axes.plot((centre, centre), (y, y + BETWEEN), color="0.35", linewidth=font / 9, zorder=1)
        fill, edge = (ACCENT_FILL, ACCENT) if accent else (FILL, EDGE)
        _box(axes, left + inset[0], y - tall, column.width - sum(inset), tall, fill, edge, font)
        for place, line in enumerate(lines):
            write(y - PAD - (place + 0.5) * LINE, line, x=centre)
        y -= tall + BETWEEN
    if column.shortcut is None:
        return
    around, plus = left + AROUND, y - 0.25
    xs, ys = (centre, around, around, centre - 0.5), (start, start, plus, plus)
    axes.plot(xs, ys, color="0.35", linewidth=font / 9, zorder=1)
    axes.plot((centre, centre), (plus + 0.5, y + BETWEEN), color="0.35", linewidth=font / 9, zorder=1)
    circle = {"boxstyle": "circle,pad=0.12", "facecolor": "white", "edgecolor": "0.35", "linewidth": font / 9}
    write(plus, "+", x=centre, fontsize=0.95 * font, bbox=circle)
    for place, line in enumerate(column.shortcut):
        write(plus - 0.75 - (place + 0.5) * LINE, line, color="0.35", style="italic", x=centre)


def _box(axes: Axes, x: float, y: float, width: float, height: float, fill: str, edge: str, font: float) -> None:
    style = "round,pad=0,rounding_size=0.35"
    axes.add_patch(FancyBboxPatch((x, y), width, height, style, facecolor=fill, edgecolor=edge, linewidth=font / 10))


def _arrow(font: float) -> dict[str, Any]:
    return {"arrowstyle": "-|>", "color": "0.35", "linewidth": font / 8, "shrinkA": 0, "shrinkB": 0,
            "mutation_scale": 1.1 * font}  # fmt: skip


def wrapped(text: str, width: float) -> tuple[str, ...]:
    """The words in lines no wider than `width` letters' heights."""
    lines = [""]
    for word in shorten(text, 80).split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and text_width(longer) > width:
            lines.append(fitted(word, width))
        else:
            lines[-1] = longer if lines[-1] else fitted(word, width)
    return tuple(lines)
