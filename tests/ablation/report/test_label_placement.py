from itertools import pairwise

import pytest
from matplotlib.figure import Figure

from ablation.report.label_placement import fitted, place_around, quiet, spread_out, text_width


def test_places_that_are_far_apart_stay_where_they_are() -> None:
    assert spread_out([0.9, 0.1, 0.5], 0.1, 0.0, 1.0) == pytest.approx([0.9, 0.1, 0.5])


def test_places_that_collide_move_apart_and_keep_their_order() -> None:
    places = spread_out([0.50, 0.52, 0.51, 0.1], 0.1, 0.0, 1.0)
    assert places[0] < places[2] < places[1]
    assert all(after - before >= 0.1 - 1e-9 for before, after in pairwise(sorted(places)))
    assert abs(sum(places[:3]) / 3 - 0.51) < 1e-9  # moved no further than needed


def test_places_stay_between_the_bounds_and_closer_where_these_are_narrow() -> None:
    assert spread_out([0.99, 1.0], 0.2, 0.0, 1.0) == pytest.approx([0.8, 1.0])
    assert spread_out([0.5] * 5, 0.5, 0.0, 1.0) == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert spread_out([], 0.1, 0.0, 1.0) == []


def test_texts_around_points_cover_neither_each_other_nor_the_points() -> None:
    figure = Figure((6, 4))
    axes = figure.add_axes((0.1, 0.1, 0.8, 0.8))
    axes.set(xlim=(0, 1), ylim=(0, 1))
    points = [(0.5, 0.5), (0.51, 0.52), (0.52, 0.48), (0.99, 0.5), (0.01, 0.99)]
    place_around(axes, points, [0.02] * 5, ["a name of some length"] * 5, 9)
    boxes = [text.get_window_extent().padded(-1) for text in axes.texts]
    assert not any(one.overlaps(other) for i, one in enumerate(boxes) for other in boxes[:i])
    inside = axes.get_window_extent()
    assert all(inside.x0 <= box.x0 and box.x1 <= inside.x1 + 1 for box in boxes)
    for x, y in axes.transData.transform(points):
        assert not any(box.x0 < x < box.x1 and box.y0 < y < box.y1 for box in boxes)


def test_a_text_is_cut_to_a_width() -> None:
    assert fitted("3x3 conv 64", 100) == "3x3 conv 64"
    cut = fitted("SomeAttentionOfALongName", 6)
    assert text_width(cut) <= 6
    assert cut.startswith("Som")
    assert cut.endswith("me")


def test_letters_that_no_font_has_raise_nothing() -> None:
    with quiet():
        assert text_width("日本語 שלום e\u0301 🙂") > 0
