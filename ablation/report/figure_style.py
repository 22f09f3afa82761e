"""Sizes, colors and axes shared by all figures. No window is opened, and names are drawn as plain text."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ablation.report.label_placement import fit_text, ignore_missing_glyphs, text_width
from arch.text import printable

LINE_STYLES = ("-", "--", "-.", ":")
MARKERS = "os^Dv"
PARETO_LEGEND = "dashed: Pareto front"

# margins around the axes, in em (the font size)
LEFT_MARGIN = 5.2
BOTTOM_MARGIN = 3.3
TOP_MARGIN = 0.8
HEADING_HEIGHT = 4.3


@dataclass(frozen=True)
class FigureSize:
    """Width and height in inches, font size and line width in points."""

    width: float
    height: float
    font: float
    line: float

    @property
    def width_em(self) -> float:
        """The width in em."""
        return 72 * self.width / self.font

    @property
    def height_em(self) -> float:
        """The height in em."""
        return 72 * self.height / self.font


def seeds_legend(num_seeds: Iterable[int], band: str = "") -> str:
    """Return the part of a legend that explains lines and bands, from the number of seeds of each line."""
    numbers = set(num_seeds) - {0}
    if max(numbers, default=1) == 1:
        return "one seed"
    seeds = f"{min(numbers)} to {max(numbers)} seeds" if len(numbers) > 1 else "seeds"
    return f"mean over {seeds}{band}"


SLIDE = FigureSize(13.333, 7.5, 20, 4)  # 16:9, legible from the back of a room
SCREEN = FigureSize(8, 5, 10, 2)
MAX_RIGHT_MARGIN = 0.5  # fraction of the figure's width


def new_figure(size: FigureSize, title: str, legend: str, right_margin: float) -> tuple[Figure, Axes]:
    """Return a figure with one pair of axes. The margins are fixed, since layout engines are much slower.

    Args:
        size: The size of the figure.
        title: The title; without one, the legend is not drawn either.
        legend: A line below the title that explains lines and bands.
        right_margin: The space for labels to the right of the axes, in em; at most `MAX_RIGHT_MARGIN` is used.
    """
    figure = Figure((size.width, size.height))
    width, height = size.width_em, size.height_em
    right_margin = min(right_margin, MAX_RIGHT_MARGIN * width)
    top_margin = HEADING_HEIGHT if title else TOP_MARGIN
    axes = figure.add_axes(
        (
            LEFT_MARGIN / width,
            BOTTOM_MARGIN / height,
            1 - (LEFT_MARGIN + right_margin) / width,
            1 - (BOTTOM_MARGIN + top_margin) / height,
        )
    )
    axes.tick_params(labelsize=size.font, width=size.line / 2.5, length=size.font / 3)
    axes.xaxis.label.set_fontsize(size.font)
    axes.yaxis.label.set_fontsize(size.font)
    axes.grid(alpha=0.3, linewidth=size.line / 3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["bottom", "left"]].set_linewidth(size.line / 2.5)
    add_heading(figure, size, title, legend)
    return figure, axes


def add_heading(figure: Figure, size: FigureSize, title: str, legend: str) -> None:
    """Draw the title, if there is one, in the upper left corner and the legend below it.

    A title that is too long loses its last parts, which commas separate.
    """
    if not title:
        return
    title = printable(title)
    width, height = size.width_em, size.height_em
    title_width = (width - 1.2) / 1.3  # the title is bold and slightly larger
    with ignore_missing_glyphs():
        while text_width(title) > title_width and ", " in title:
            title = title.rpartition(", ")[0]
        shown = fit_text(title, title_width)
    left = 0.6 / width
    figure.text(left, 1 - 0.6 / height, shown, fontsize=1.1 * size.font, va="top", parse_math=False, weight="bold")
    figure.text(left, 1 - 2.3 / height, legend, fontsize=size.font, va="top", color="0.35")


def save(figure: Figure, path: Path, kind: Literal["svg", "png"], text: bool = False, dpi: float = 150) -> None:
    """Write a figure. The same figure always gives the same bytes.

    Args:
        figure: The figure.
        path: The file to write.
        kind: The file format.
        text: Whether an SVG stores text as text instead of shapes.
        dpi: Dots per inch of a PNG.
    """
    font_type, metadata = "none" if text else "path", {"Date": None} if kind == "svg" else None
    with mpl.rc_context({"svg.hashsalt": "ablation", "svg.fonttype": font_type}), ignore_missing_glyphs():
        figure.savefig(path, format=kind, dpi=dpi, metadata=metadata)
