from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from ablation.report.confusion_matrix import FEW, LONGEST, plot_confusion

HOSTILE = ["=cmd", "<script>", "a|b", "$x$", "$\\frac{1$", "new\nline", "שלום עربي", "e\u0301\u0301", "x" * 300, "狗"]


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that were saved."""
    found: list[Figure] = []
    save = Figure.savefig

    def note(figure: Figure, *arguments: Any, **options: Any) -> None:
        found.append(figure)
        save(figure, *arguments, **options)

    monkeypatch.setattr(Figure, "savefig", note)
    return found


def test_the_share_of_each_class_stands_in_its_cell(drawn: list[Figure], tmp_path: Path) -> None:
    counts = np.array([[3, 1, 0], [0, 4, 0], [4, 2, 2]])
    plot_confusion(counts, ["a", "b", "c"], "title", tmp_path / "matrix.png")
    axes = drawn[0].axes[0]
    cells = {(int(text.get_position()[1]), int(text.get_position()[0])): text.get_text() for text in axes.texts}
    assert cells == {(0, 0): "75", (0, 1): "25", (1, 1): "100", (2, 0): "50", (2, 1): "25", (2, 2): "25"}
    shown = np.asarray(axes.images[0].get_array())
    assert shown.tolist() == [[0, 25, 0], [0, 0, 0], [50, 25, 0]]  # what is right has no colour
    assert (axes.get_xlabel(), axes.get_ylabel(), axes.get_title("left")) == ("taken for", "class", "title")
    with Image.open(tmp_path / "matrix.png") as picture:
        assert (picture.format, min(picture.size) > 400) == ("PNG", True)


def test_hostile_names_are_text_and_cut(drawn: list[Figure], tmp_path: Path) -> None:
    plot_confusion(np.ones((10, 10), np.int64), HOSTILE, "$\\frac{1$", tmp_path / "matrix.png")
    axes = drawn[0].axes[0]
    for labels in (axes.get_xticklabels(), axes.get_yticklabels()):
        assert [label.get_text() for label in labels] == [name.replace("\n", "?")[:LONGEST] for name in HOSTILE]
        assert not any(label.get_parse_math() for label in labels)
    assert axes.get_title("left") == "$\\frac{1$"


@pytest.mark.parametrize("counts", [np.eye(3, dtype=np.int64), np.zeros((3, 3), np.int64)])
def test_a_matrix_without_errors_can_be_drawn(counts: np.ndarray[Any, Any], tmp_path: Path) -> None:
    plot_confusion(counts, ["a", "b", "c"], "title", tmp_path / "matrix.png")
    assert (tmp_path / "matrix.png").stat().st_size > 1000


def test_many_classes_have_no_numbers_but_all_names(drawn: list[Figure], tmp_path: Path) -> None:
    number = 5 * FEW
    plot_confusion(np.ones((number, number), np.int64), [str(n) for n in range(number)], "t", tmp_path / "matrix.png")
    axes = drawn[0].axes[0]
    assert len(axes.texts) == 0
    boxes = [label.get_window_extent() for label in axes.get_yticklabels()]
    assert len(boxes) == number
    assert all(below.y1 <= above.y0 + 1.5 for above, below in pairwise(boxes))  # in pixels
