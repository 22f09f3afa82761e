"""The ablation table as a figure for slides."""

import re
from collections.abc import Sequence
from textwrap import wrap

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ablation.analysis.table_formats import LEFT_ALIGNED_COLUMNS, AblationTable, fitting_columns, readable
from ablation.report.figure_style import FigureSize, add_heading
from ablation.report.label_placement import fit_text, ignore_missing_glyphs, text_width
from ablation.report.row_style import VERDICT_COLORS
from arch.text import printable

MIN_FONT = 0.7  # of the figure's font; less important columns are hidden rather than made smaller
CAPTION_FONT = 0.6  # of the figure's font
LETTER_WIDTH = 0.56  # average width of a letter of the caption in em
BOLD_WIDTH = 1.15  # width of bold text, relative to regular text

# lengths in em of the table's font
MAX_NAME_WIDTH = 16.0
COLUMN_GAP = 1.3
LINE_HEIGHT = 1.9

# lengths in em of the figure's font
MARGIN = 0.6
HEADING_HEIGHT = 3.2
CAPTION_HEIGHT = 3.4


def draw_table(table: AblationTable, size: FigureSize, title: str = "") -> Figure:
    """Draw a table with its caption; columns that do not fit are hidden, the least important ones first.

    Args:
        table: The table.
        size: The size of the figure.
        title: The title of the figure. It is left out of the caption.
    """
    figure = Figure((size.width, size.height))
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, 72 * size.width), ylim=(72 * size.height, 0))  # points from the top
    axes.set_axis_off()
    add_heading(figure, size, title, "")
    with ignore_missing_glyphs():
        text = _cells(table)
        text, font = _fit(text, size, table.extra)
        bottom = _draw_cells(axes, text, size, font)
        _draw_caption(axes, table.caption.removeprefix(f"{title}; ") if title else table.caption, size, bottom)
    return figure


def _cells(table: AblationTable) -> pd.DataFrame:
    text = readable(table.frame, table.extra)
    text["step"] = [fit_text(name, MAX_NAME_WIDTH) for name in text["step"]]
    numbers = [name for name in text.columns if name != "step"]
    text[numbers] = text[numbers].map(lambda value: re.sub(r"-(?=\d)", "\u2212", value))
    return text


def _widths(text: pd.DataFrame) -> list[float]:
    """Return the width of each column in em."""
    return [max(BOLD_WIDTH * text_width(name), *map(text_width, text[name])) for name in text.columns]


def _fit(text: pd.DataFrame, size: FigureSize, extra: Sequence[str]) -> tuple[pd.DataFrame, float]:
    """Return the columns to show, and the font size in points."""
    width, height = 72 * size.width - 2 * MARGIN * size.font, 72 * size.height
    height -= (HEADING_HEIGHT + CAPTION_HEIGHT + MARGIN) * size.font
    largest = min(size.font, height / LINE_HEIGHT / (len(text) + 1))
    smallest = min(largest, MIN_FONT * size.font)

    def font_for(names: list[str]) -> float:
        return min(largest, width / (sum(_widths(text[names])) + COLUMN_GAP * (len(names) - 1)))

    shown = fitting_columns(lambda names: font_for(names) >= smallest, extra)
    return text[shown], font_for(shown)


def _draw_cells(axes: Axes, text: pd.DataFrame, size: FigureSize, font: float) -> float:
    """Draw the cells and the rules, and return the position of the last rule."""
    left, top, line_height = MARGIN * size.font, HEADING_HEIGHT * size.font, LINE_HEIGHT * font
    widths = [width * font for width in _widths(text)]
    # Columns fill the width of the figure, but gaps stay small enough for the eye to follow a row.
    free = 72 * size.width - 2 * left - sum(widths)
    gap = min(free / max(1, len(widths) - 1), 3 * COLUMN_GAP * font)
    x = left
    for name, width in zip(text.columns, widths, strict=True):
        is_left = name in LEFT_ALIGNED_COLUMNS
        position, alignment = (x, "left") if is_left else (x + width, "right")
        for number, value in enumerate([name, *text[name]]):
            axes.text(
                position,
                top + (number + 0.5) * line_height,
                value,
                fontsize=font,
                ha=alignment,
                va="center",
                color=VERDICT_COLORS.get(value.partition(",")[0], "black") if name == "verdict" else "black",
                weight="bold" if number == 0 else "normal",
                parse_math=False,
            )
        x += width + gap
    bottom = top + (len(text) + 1) * line_height
    for y, thickness in ((top, 0.6), (top + line_height, 0.35), (bottom, 0.6)):
        axes.plot([left, x - gap], [y, y], color="black", linewidth=thickness * size.line)
    return bottom


def _draw_caption(axes: Axes, caption: str, size: FigureSize, top: float) -> None:
    font = CAPTION_FONT * size.font
    characters = int((72 * size.width - 2 * MARGIN * size.font) / font / LETTER_WIDTH)
    lines = "\n".join(wrap(printable(caption), characters))
    axes.text(MARGIN * size.font, top + 0.6 * size.font, lines, fontsize=font, va="top", color="0.35", parse_math=False)
