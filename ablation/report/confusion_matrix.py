"""The confusion matrix as a picture."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ablation.report.label_placement import quiet
from arch.text import printable

LONGEST = 24  # characters of a class name
LEAST = 10.0  # percent wrong at which the colours end at least: few errors are to look like few
FEW = 20  # classes, up to which each cell has its number


def plot_confusion(counts: NDArray[np.int64], classes: Sequence[str], title: str, path: Path) -> None:
    """Writes the share of each class (rows) that is taken for each (columns), in percent, as PNG.

    The colours are those of the errors: what is right lies on the diagonal, and would outshine all else.
    """
    shares = 100 * counts / counts.sum(1, keepdims=True).clip(1)
    wrong = shares.copy()
    np.fill_diagonal(wrong, 0)
    number = len(classes)
    size = max(5.0, min(0.16 * number, 24.0) + 2)
    figure = Figure(figsize=(size + 1, size), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    drawn = axes.imshow(wrong, cmap="magma_r", vmin=0, vmax=max(LEAST, wrong.max()))
    figure.colorbar(drawn, ax=axes, shrink=0.7, label="wrong, % of the class")
    names = [printable(name)[:LONGEST] for name in classes]
    letters = 9 if number <= FEW else max(4, min(9, 900 // number))
    axes.set_xticks(range(number), names, rotation=90, fontsize=letters, parse_math=False)
    axes.set_yticks(range(number), names, fontsize=letters, parse_math=False)
    axes.set(xlabel="taken for", ylabel="class")
    axes.set_title(title, parse_math=False, loc="left", fontsize=11)
    if number <= FEW:
        for i, j in np.ndindex(number, number):
            if counts[i, j]:
                dark = wrong[i, j] > 0.5 * max(LEAST, wrong.max())
                axes.text(j, i, f"{shares[i, j]:.3g}", ha="center", va="center", fontsize=8, color="w" if dark else "k")
    with quiet():
        figure.savefig(path, dpi=130, format="png")
