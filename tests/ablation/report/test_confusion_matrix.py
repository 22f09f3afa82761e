from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from ablation.report.confusion_matrix import MAX_CLASS_CHARACTERS, MAX_NUMBERED_CLASSES, plot_confusion
from arch.text import shorten

HOSTILE = ["=cmd", "<script>", "a|b", "$x$", "$\\frac{1$", "new\nline", "שלום עربي", "e\u0301\u0301", "x" * 300, "狗"]


@pytest.fixture
def saved(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """Return the list of figures that are saved."""
    figures: list[Figure] = []
    save = Figure.savefig

    def collect(figure: Figure, *arguments: Any, **options: Any) -> None:
        figures.append(figure)
        save(figure, *arguments, **options)

    monkeypatch.setattr(Figure, "savefig", collect)
    return figures


def test_cells_contain_percentages_and_colors_show_errors(saved: list[Figure], tmp_path: Path) -> None:
    counts = np.array([[3, 1, 0], [0, 4, 0], [4, 2, 2]])
    plot_confusion(counts, ["a", "b", "c"], "title", tmp_path / "matrix.png")
    axes = saved[0].axes[0]
    cells = {(int(text.get_position()[1]), int(text.get_position()[0])): text.get_text() for text in axes.texts}
    assert cells == {(0, 0): "75", (0, 1): "25", (1, 1): "100", (2, 0): "50", (2, 1): "25", (2, 2): "25"}
    colored = np.asarray(axes.images[0].get_array())
    assert colored.tolist() == [[0, 25, 0], [0, 0, 0], [50, 25, 0]]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted class", "true class")
    assert axes.get_title("left") == "title"
    with Image.open(tmp_path / "matrix.png") as image:
        assert (image.format, min(image.size) > 400) == ("PNG", True)


def test_names_are_plain_text_and_shortened(saved: list[Figure], tmp_path: Path) -> None:
    plot_confusion(np.ones((10, 10), np.int64), HOSTILE, "$\\frac{1$", tmp_path / "matrix.png")
    axes = saved[0].axes[0]
    expected = [shorten(name, MAX_CLASS_CHARACTERS) for name in HOSTILE]
    assert expected[:3] == HOSTILE[:3]
    for labels in (axes.get_xticklabels(), axes.get_yticklabels()):
        assert [label.get_text() for label in labels] == expected
        assert not any(label.get_parse_math() for label in labels)
    assert axes.get_title("left") == "$\\frac{1$"


@pytest.mark.parametrize("counts", [np.eye(3, dtype=np.int64), np.zeros((3, 3), np.int64)])
def test_matrix_without_errors(counts: np.ndarray[Any, Any], tmp_path: Path) -> None:
    plot_confusion(counts, ["a", "b", "c"], "title", tmp_path / "matrix.png")
    assert (tmp_path / "matrix.png").stat().st_size > 1000


@pytest.mark.slow
def test_many_classes_have_names_but_no_numbers(saved: list[Figure], tmp_path: Path) -> None:
    count = 3 * MAX_NUMBERED_CLASSES
    plot_confusion(np.ones((count, count), np.int64), [str(n) for n in range(count)], "t", tmp_path / "matrix.png")
    axes = saved[0].axes[0]
    assert len(axes.texts) == 0
    boxes = [label.get_window_extent() for label in axes.get_yticklabels()]
    assert len(boxes) == count
    assert all(below.y1 <= above.y0 + 1.5 for above, below in pairwise(boxes))  # tolerance in pixels
