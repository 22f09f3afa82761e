"""The contact sheet of a data set: some images of each class and split."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from ablation.report.label_placement import ignore_missing_glyphs
from arch.text import shorten

MAX_CLASSES = 40
GAP = 4  # pixels between thumbnails
CELL_INCHES = 0.62
LABEL_INCHES = 1.9
DPI = 130

Thumbnails = Mapping[tuple[str, str], Sequence[Image.Image]]  # (class, split) -> images of one size


def plot_contact_sheet(thumbnails: Thumbnails, classes: Sequence[str], title: str, path: Path) -> None:
    """Write the thumbnails as PNG: one row per class, and one group of columns per split.

    Args:
        thumbnails: At least one image.
        classes: The names of the classes; the first MAX_CLASSES are shown.
        title: The title of the figure.
        path: The file to write.
    """
    shown = classes[:MAX_CLASSES]
    groups = [(split, _mosaic(thumbnails, shown, split)) for split in ("train", "test")]
    groups = [(split, mosaic) for split, mosaic in groups if mosaic.size]
    cell = next(iter(thumbnails.values()))[0].width + GAP
    widths = [mosaic.shape[1] / cell * CELL_INCHES for _, mosaic in groups]
    height = CELL_INCHES * len(shown)
    figure = Figure(figsize=(LABEL_INCHES + sum(widths) + 0.3, height + 0.9), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(1, len(groups), squeeze=False, gridspec_kw={"width_ratios": widths})[0]
    for axes, (split, mosaic) in zip(grid, groups, strict=True):
        axes.imshow(mosaic, interpolation="nearest")
        axes.set_title(split, fontsize=10, loc="left")
        axes.set_xticks([])
        axes.set_yticks([])
        axes.spines[:].set_visible(False)
    names = [shorten(name, 24) for name in shown]
    grid[0].set_yticks([cell * (row + 0.5) for row in range(len(shown))], names, fontsize=9, parse_math=False)
    grid[0].tick_params(length=0)
    omitted = f" (the first {MAX_CLASSES} of {len(classes)} classes)" if len(classes) > MAX_CLASSES else ""
    figure.suptitle(title + omitted, fontsize=11, parse_math=False)
    with ignore_missing_glyphs():
        figure.savefig(path, dpi=DPI, format="png")


def _mosaic(thumbnails: Thumbnails, classes: Sequence[str], split: str) -> NDArray[np.uint8]:
    """Return the thumbnails of a split as one image; classes without images leave white rows."""
    rows = [thumbnails.get((name, split), ()) for name in classes]
    columns = max(map(len, rows), default=0)
    side = next((image.width for row in rows for image in row), 0)
    mosaic = np.full((len(rows) * (side + GAP), columns * (side + GAP), 3), 255, np.uint8)
    for row, images in enumerate(rows):
        for column, image in enumerate(images):
            top, left = row * (side + GAP) + GAP // 2, column * (side + GAP) + GAP // 2
            mosaic[top : top + side, left : left + side] = np.asarray(image)
    return mosaic
