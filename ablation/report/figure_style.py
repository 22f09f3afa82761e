"""Sizes, colors and axes that all figures share. No window is ever opened; names are drawn as text."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ablation.report.label_placement import fitted, quiet

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")  # Okabe & Ito 2008
STYLES = ("-", "--", "-.", ":")
HEADING = 4.3  # heights of a letter that a title takes


@dataclass(frozen=True)
class FigureSize:
    """How large a figure is: inches, points of its letters, and points of its lines."""

    width: float
    height: float
    font: float
    line: float


SLIDE = FigureSize(13.333, 7.5, 20, 4)  # 16:9, legible from the back of a room
SCREEN = FigureSize(8, 5, 10, 2)


def empty(size: FigureSize, title: str, words: str, right: float) -> tuple[Figure, Axes]:
    """Axes with margins of so many letters' heights; what a layout engine finds out takes many times the time."""
    figure = Figure((size.width, size.height))
    across, up = 72 * size.width / size.font, 72 * size.height / size.font
    left, right, bottom = 5.2, min(right, 0.5 * across), 3.3
    box = (left / across, bottom / up, 1 - (left + right) / across, 1 - (bottom + (HEADING if title else 0.8)) / up)
    axes = figure.add_axes(box)
    axes.tick_params(labelsize=size.font, width=size.line / 2.5, length=size.font / 3)
    axes.xaxis.label.set_fontsize(size.font)
    axes.yaxis.label.set_fontsize(size.font)
    axes.grid(alpha=0.3, linewidth=size.line / 3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["bottom", "left"]].set_linewidth(size.line / 2.5)
    heading(figure, size, title, words)
    return figure, axes


def heading(figure: Figure, size: FigureSize, title: str, words: str) -> None:
    """The title in the upper left corner, if there is one, and below it what the signs mean."""
    if not title:
        return
    across, up = 72 * size.width / size.font, 72 * size.height / size.font
    with quiet():
        shown = fitted(title, (across - 1.2) / 1.3)  # bold, and a little larger
    figure.text(0.6 / across, 1 - 0.6 / up, shown, fontsize=1.1 * size.font, va="top", parse_math=False, weight="bold")
    figure.text(0.6 / across, 1 - 2.3 / up, words, fontsize=size.font, va="top", color="0.35")


def save(figure: Figure, path: Path, kind: Literal["svg", "png"], text: bool = False, dpi: float = 150) -> None:
    """Writes a figure: the same bytes each time. text: letters of an SVG as text, not as shapes."""
    with mpl.rc_context({"svg.hashsalt": "ablation", "svg.fonttype": "none" if text else "path"}), quiet():
        figure.savefig(path, format=kind, dpi=dpi, metadata={"Date": None} if kind == "svg" else None)
