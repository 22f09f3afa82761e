from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from PIL import Image

from ablation import plots
from ablation.plan import path
from benchmarks.benchmark import BENCHMARKS
from benchmarks.results import Result

Make = Callable[..., Result]
ROWS = path("baseline+se", BENCHMARKS["digits"])


@pytest.fixture
def figure(monkeypatch: pytest.MonkeyPatch, make_result: Make, tmp_path: Path) -> Figure:
    """The figure as drawn, kept open."""
    monkeypatch.setattr(plt, "close", lambda figure: None)
    results = [make_result(spec, seed, 50.0 + seed) for spec in ("baseline", "baseline+se") for seed in range(3)]
    plots.plot_curves(ROWS, results, tmp_path / "curves.png", "a $title with | signs")
    return plt.gcf()


def test_a_line_is_the_mean_over_seeds_and_starts_at_the_first_epoch(figure: Figure) -> None:
    lines = figure.axes[0].get_lines()
    assert len(lines) == 2
    assert lines[0].get_xdata().tolist() == [1, 2]  # type: ignore[union-attr]
    assert lines[0].get_ydata().tolist() == [41.0, 51.0]  # type: ignore[union-attr]


def test_the_legend_says_final_accuracy_and_number_of_seeds(figure: Figure) -> None:
    legend = figure.axes[0].get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["baseline (resnet8): 51.00 (n=3)", "+se: 51.00 (n=3)"]


def test_the_file_is_a_picture_with_something_on_it(make_result: Make, tmp_path: Path) -> None:
    plots.plot_curves(ROWS, [make_result()], tmp_path / "curves.png", "title")
    with Image.open(tmp_path / "curves.png") as picture:
        assert picture.size == (1200, 750)
        assert len(np.unique(np.asarray(picture.convert("L")))) > 10


def test_a_row_without_results_is_left_out(make_result: Make, tmp_path: Path) -> None:
    plots.plot_curves(ROWS, [make_result("baseline+se")], tmp_path / "curves.png", "title")
    assert (tmp_path / "curves.png").exists()
