"""The confusion matrix as a figure."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ablation.report.label_placement import ignore_missing_glyphs
from arch.text import shorten

MAX_CLASS_CHARACTERS = 24
MIN_COLOR_RANGE = 10.0  # percent; the color scale covers at least this range, so that few errors do not look like many
MAX_NUMBERED_CLASSES = 20  # with more classes, the cells show no numbers
DPI = 130


def plot_confusion(counts: NDArray[np.int64], classes: Sequence[str], title: str, path: Path) -> None:
    """Write the share of each class (rows) that is predicted as each class (columns), in percent, as PNG.

    Colors show the errors only, because the diagonal would dominate the color scale.

    Args:
        counts: The confusion matrix, shape (classes, classes).
        classes: The names of the classes.
        title: The title of the figure.
        path: The file to write.
    """
    shares = 100 * counts / counts.sum(1, keepdims=True).clip(1)
    errors = shares.copy()
    np.fill_diagonal(errors, 0)
    num_classes, color_range = len(classes), max(MIN_COLOR_RANGE, errors.max())
    size = max(5.0, min(0.16 * num_classes, 24.0) + 2)
    figure = Figure(figsize=(size + 1, size), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    image = axes.imshow(errors, cmap="magma_r", vmin=0, vmax=color_range)
    figure.colorbar(image, ax=axes, shrink=0.7, label="misclassified, % of the class")
    names = [shorten(name, MAX_CLASS_CHARACTERS) for name in classes]
    font = 9 if num_classes <= MAX_NUMBERED_CLASSES else max(4, min(9, 900 // num_classes))
    axes.set_xticks(range(num_classes), names, rotation=90, fontsize=font, parse_math=False)
    axes.set_yticks(range(num_classes), names, fontsize=font, parse_math=False)
    axes.set(xlabel="predicted class", ylabel="true class")
    axes.set_title(title, parse_math=False, loc="left", fontsize=11)
    if num_classes <= MAX_NUMBERED_CLASSES:
        _draw_numbers(axes, shares, errors > 0.5 * color_range)
    with ignore_missing_glyphs():
        figure.savefig(path, dpi=DPI, format="png")


def _draw_numbers(axes: Axes, shares: NDArray[np.float64], is_dark: NDArray[np.bool_]) -> None:
    for i, j in np.ndindex(*shares.shape):
        if shares[i, j]:
            color = "w" if is_dark[i, j] else "k"
            axes.text(j, i, f"{shares[i, j]:.3g}", ha="center", va="center", fontsize=8, color=color)
