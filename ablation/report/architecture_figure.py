"""The drawing of an architecture: a band of columns from stem to head."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from ablation.report.architecture import (
    CELL_GAP,
    CELL_PADDING,
    COLUMN_GAP,
    INSET,
    LINE_HEIGHT,
    SHORTCUT_INSET,
    Cell,
    Column,
    layout_columns,
)
from ablation.report.figure_style import FigureSize, add_heading
from ablation.report.label_placement import ignore_missing_glyphs
from ablation.report.row_style import COLORS

LAYER_EDGE, LAYER_FILL = COLORS[0], "#EAF3F9"  # the fill is a tint of the edge's color
ATTENTION_EDGE, ATTENTION_FILL = COLORS[1], "#FCEBDD"
LINE_COLOR = "0.35"

# lengths in em (the font size)
HEADER_HEIGHT = 3.1
FOOTER_HEIGHT = 3.4
SHORTCUT_LINE_INSET = 0.85  # distance of a shortcut's line from the left edge of its column
SLIDE_MARGIN = 1.0
SLIDE_TITLE_HEIGHT = 2.2


@dataclass(frozen=True)
class _Canvas:
    """Axes with coordinates in em, and the font size in points."""

    axes: Axes
    font: float

    def text(self, x: float, y: float, text: str, **style: Any) -> None:
        options = {"fontsize": self.font, "ha": "center", "va": "center", "parse_math": False, **style}
        self.axes.text(x, y, text, **options)

    def line(self, *points: tuple[float, float]) -> None:
        xs, ys = zip(*points, strict=True)
        self.axes.plot(xs, ys, color=LINE_COLOR, linewidth=self.font / 9, zorder=1)

    def box(self, corner: tuple[float, float], width: float, height: float, colors: tuple[str, str]) -> None:
        """Draw a box from its lower left corner, with its fill and edge colors."""
        style, (fill, edge) = "round,pad=0,rounding_size=0.35", colors
        self.axes.add_patch(
            FancyBboxPatch(corner, width, height, style, facecolor=fill, edgecolor=edge, linewidth=self.font / 10)
        )

    def arrow(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        style = {"arrowstyle": "-|>", "color": LINE_COLOR, "linewidth": self.font / 8, "shrinkA": 0, "shrinkB": 0,
                 "mutation_scale": 1.1 * self.font}  # fmt: skip
        self.axes.annotate("", end, start, arrowprops=style)


def band_size(sections: Sequence[Mapping[str, Any]], width: float, font: float) -> FigureSize:
    """Return the size of a drawing without a title.

    Args:
        sections: The sections of the network: see `arch.describe`.
        width: The width in inches.
        font: The font size in points.
    """
    with ignore_missing_glyphs():
        height = _height(layout_columns(sections, 72 * width / font))
    return FigureSize(width, height * font / 72, font, font / 8)


def draw_architecture(sections: Sequence[Mapping[str, Any]], size: FigureSize, title: str = "") -> Figure:
    """Draw the sections side by side: repeats, layers of a block, attention, shortcut, output and parameters.

    The font is smaller than that of `size` if the drawing would not fit otherwise.

    Args:
        sections: The sections of the network: see `arch.describe`.
        size: The size of the figure.
        title: The title of a slide.
    """
    figure = Figure((size.width, size.height))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    add_heading(figure, size, title, "")
    available_height = 72 * size.height - (SLIDE_TITLE_HEIGHT * size.font if title else 0)  # points
    with ignore_missing_glyphs():
        font, columns = _fit_columns(sections, size, available_height, 2 * SLIDE_MARGIN if title else 0.0)
    axes.set(xlim=(0, 72 * size.width / font), ylim=(0, 72 * size.height / font))  # coordinates are in em
    canvas = _Canvas(axes, font)
    height = max(column.height for column in columns)
    top = available_height / font - max(0.0, available_height / font - _height(columns)) / 2 - HEADER_HEIGHT
    left = SLIDE_MARGIN if title else 0.0
    for index, column in enumerate(columns):
        _draw_column(canvas, column, left, top, height)
        if index:
            canvas.arrow((left - COLUMN_GAP, top - height / 2), (left, top - height / 2))
        left += column.width + COLUMN_GAP
    return figure


def _height(columns: Sequence[Column]) -> float:
    return HEADER_HEIGHT + max(column.height for column in columns) + FOOTER_HEIGHT


def _fit_columns(
    sections: Sequence[Mapping[str, Any]], size: FigureSize, available_height: float, margins: float
) -> tuple[float, list[Column]]:
    """Return the largest font size with which the drawing fits, and its columns. Margins are in em."""
    font = size.font
    columns = layout_columns(sections, 72 * size.width / font - margins)
    while _height(columns) * font > available_height + 0.01 and font > 1:
        font *= 0.95
        columns = layout_columns(sections, 72 * size.width / font - margins)
    return font, columns


def _draw_column(canvas: _Canvas, column: Column, left: float, top: float, height: float) -> None:
    """Draw a column. (left, top) is the upper left corner of its box, and `height` the height shared by all boxes."""
    middle = left + column.width / 2
    canvas.box((left + 0.1, top - height), column.width - 0.2, height, ("white", "0.6"))
    canvas.text(middle, top + 2.4, column.header[0], weight="bold")
    canvas.text(middle, top + 1.0, column.header[1])
    canvas.text(middle, top - height - 1.1, column.footer[0])
    canvas.text(middle, top - height - 2.4, column.footer[1], color=LINE_COLOR)
    if column.shortcut is None:
        _draw_cells(canvas, column, left + INSET, top - CELL_GAP - (height - column.height) / 2)
    else:
        start = top - CELL_GAP
        bottom = _draw_cells(canvas, column, left + SHORTCUT_INSET, start - CELL_GAP)
        _draw_shortcut(canvas, column, left, start, bottom)


def _draw_cells(canvas: _Canvas, column: Column, left: float, top: float) -> float:
    """Draw the cells in a column, connected by lines, and return the position below the last gap."""
    width = _cell_width(column)
    center, y = left + width / 2, top
    for index, cell in enumerate(column.cells):
        if index or column.shortcut is not None:
            canvas.line((center, y), (center, y + CELL_GAP))
        _draw_cell(canvas, cell, (left, y), width)
        y -= cell.height + CELL_GAP
    return y


def _draw_cell(canvas: _Canvas, cell: Cell, corner: tuple[float, float], width: float) -> None:
    """Draw a cell from its upper left corner."""
    left, top = corner
    colors = (ATTENTION_FILL, ATTENTION_EDGE) if cell.is_attention else (LAYER_FILL, LAYER_EDGE)
    canvas.box((left, top - cell.height), width, cell.height, colors)
    for number, line in enumerate(cell.lines):
        canvas.text(left + width / 2, top - CELL_PADDING - (number + 0.5) * LINE_HEIGHT, line)


def _draw_shortcut(canvas: _Canvas, column: Column, left: float, start: float, bottom: float) -> None:
    """Draw the line around the cells, from above them to the plus sign below them, and the shortcut's layers."""
    center = left + SHORTCUT_INSET + _cell_width(column) / 2
    around, plus = left + SHORTCUT_LINE_INSET, bottom - 0.25
    canvas.line((center, start), (around, start), (around, plus), (center - 0.5, plus))
    canvas.line((center, plus + 0.5), (center, bottom + CELL_GAP))
    circle = {"boxstyle": "circle,pad=0.12", "facecolor": "white", "edgecolor": LINE_COLOR,
              "linewidth": canvas.font / 9}  # fmt: skip
    canvas.text(center, plus, "+", fontsize=0.95 * canvas.font, bbox=circle)
    for number, line in enumerate(column.shortcut or ()):
        canvas.text(center, plus - 0.75 - (number + 0.5) * LINE_HEIGHT, line, color=LINE_COLOR, style="italic")


def _cell_width(column: Column) -> float:
    return column.width - (INSET if column.shortcut is None else SHORTCUT_INSET) - INSET
