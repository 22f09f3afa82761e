"""Figures from records."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np

from ablation.plan import Row
from benchmarks.results import Result

matplotlib.use("Agg")  # no window is ever opened

from matplotlib import pyplot as plt  # after the backend is chosen
from matplotlib.ticker import MaxNLocator

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")  # Okabe & Ito 2008
STYLES = ("-", "--", "-.", ":")


def plot_curves(
    rows: Sequence[Row], results: Sequence[Result], path: Path, title: str, seeds: int | None = None
) -> None:
    """Writes top-1 against epoch as PNG: a line a row (mean over seeds) and the band from the worst seed to the best.

    The first point is epoch 1: nothing is drawn that was not measured.
    """
    figure, axes = plt.subplots(figsize=(8, 5), layout="constrained")
    for position, row in enumerate(rows):
        runs = [r for r in results if r.key == row.variant.key() and (seeds is None or r.seed < seeds)]
        if not runs:
            continue
        epochs = [line["epoch"] for line in runs[0].curve]
        top1 = np.array([[line["top1"] for line in run.curve] for run in runs])
        colour, style = COLOURS[position % len(COLOURS)], STYLES[position // len(COLOURS) % len(STYLES)]
        label = f"{row.label}: {top1[:, -1].mean():.2f} (n={len(runs)})"
        marker = "o" if len(epochs) == 1 else None
        axes.plot(epochs, top1.mean(0), color=colour, linestyle=style, label=label, linewidth=2, marker=marker)
        axes.fill_between(epochs, top1.min(0), top1.max(0), color=colour, alpha=0.15, linewidth=0)
    axes.set(xlabel="epoch", ylabel="test top-1 (%)")
    axes.set_title(title, parse_math=False, loc="left")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(title="final epoch, mean over seeds; band: worst to best seed", loc="lower right", frameon=False)
    figure.savefig(path, dpi=150, format="png")
    plt.close(figure)
