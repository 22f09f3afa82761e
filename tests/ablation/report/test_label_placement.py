from itertools import pairwise

import pytest
from matplotlib.figure import Figure

from ablation.report.label_placement import (
    LabeledPoint,
    fit_text,
    ignore_missing_glyphs,
    place_labels,
    spread_out,
    text_width,
)


def test_distant_positions_are_unchanged() -> None:
    assert spread_out([0.9, 0.1, 0.5], 0.1, 0.0, 1.0) == pytest.approx([0.9, 0.1, 0.5])


def test_colliding_positions_are_spread_in_order() -> None:
    positions = spread_out([0.50, 0.52, 0.51, 0.1], 0.1, 0.0, 1.0)
    assert positions[0] < positions[2] < positions[1]
    assert all(after - before >= 0.1 - 1e-9 for before, after in pairwise(sorted(positions)))
    assert abs(sum(positions[:3]) / 3 - 0.51) < 1e-9  # the labels move no further than necessary


def test_positions_stay_inside_the_bounds() -> None:
    assert spread_out([0.99, 1.0], 0.2, 0.0, 1.0) == pytest.approx([0.8, 1.0])
    assert spread_out([0.5] * 5, 0.5, 0.0, 1.0) == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert spread_out([], 0.1, 0.0, 1.0) == []


def test_labels_overlap_neither_each_other_nor_the_points() -> None:
    figure = Figure((6, 4))
    axes = figure.add_axes((0.1, 0.1, 0.8, 0.8))
    axes.set(xlim=(0, 1), ylim=(0, 1))
    points = [(0.5, 0.5), (0.51, 0.52), (0.52, 0.48), (0.99, 0.5), (0.01, 0.99)]
    place_labels(axes, [LabeledPoint(x, y, 0.02, "a name of some length") for x, y in points], 9)
    boxes = [text.get_window_extent().padded(-1) for text in axes.texts]
    assert not any(box.overlaps(other) for i, box in enumerate(boxes) for other in boxes[:i])
    inside = axes.get_window_extent()
    assert all(inside.x0 <= box.x0 and box.x1 <= inside.x1 + 1 for box in boxes)
    for x, y in axes.transData.transform(points):
        assert not any(box.x0 < x < box.x1 and box.y0 < y < box.y1 for box in boxes)


def test_text_is_shortened_to_fit_a_width() -> None:
    assert fit_text("3x3 conv 64", 100) == "3x3 conv 64"
    shortened = fit_text("SomeAttentionOfALongName", 6)
    assert text_width(shortened) <= 6
    assert shortened.startswith("Som")
    assert shortened.endswith("me")


def test_missing_glyphs_raise_no_warning() -> None:
    with ignore_missing_glyphs():
        assert text_width("日本語 שלום e\u0301 🙂") > 0
