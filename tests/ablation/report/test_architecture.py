from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import pytest
from matplotlib.figure import Figure

from ablation.plans.plan import read_plan
from ablation.report.architecture import band, draw_architecture, last_architecture, wrapped
from ablation.report.figure_style import SLIDE
from ablation.report.label_placement import text_width
from arch.bases import BASES
from arch.describe import describe
from arch.models import build
from arch.spec import parse
from benchmarks.definition.benchmark import BENCHMARKS
from benchmarks.records.store import RunRecord

Make = Callable[..., RunRecord]
DIGITS = BENCHMARKS["digits"]


@pytest.fixture(scope="module")
def sections() -> list[dict[str, Any]]:
    net = build(parse("resnet8+stem=deep+avg_down+se+cbam").variant(), 10)
    return [asdict(section) for section in describe(net, (3, 32, 32))]


def words(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.axes[0].texts]


def test_each_section_is_told_with_what_it_holds(sections: list[dict[str, Any]]) -> None:
    said = words(draw_architecture(sections, band(sections, 7.1, 7.5)))
    for expected in ("stem", "stage 1", "stage 3", "head", "BasicBlock", "3x3 conv 64", "SEModule", "CbamModule"):
        assert expected in said
    assert said.count("+") == 3  # a shortcut joins each stage
    assert {"64 × 8 × 8", "linear 10", "identity"} <= set(said)
    assert any(line.endswith("params") for line in said)


def test_a_plain_stage_has_no_shortcut_drawn_around_it() -> None:
    net = build(BASES["wide_cnn"].variant, 10)
    plain = [asdict(section) for section in describe(net, (3, 16, 16))]
    said = words(draw_architecture(plain, band(plain, 7.1, 7.5)))
    assert {"3 × PlainBlock", "4 × PlainBlock", "MaxPool2d", "3x3 conv 256"} <= set(said)
    assert not {"+", "identity"} & set(said)


def test_repeats_stand_above_their_stage(sections: list[dict[str, Any]]) -> None:
    several = [{**section, "blocks": 4} if section["name"] == "stage 2" else section for section in sections]
    assert "4 × BasicBlock" in words(draw_architecture(several, SLIDE, "title"))


def test_nothing_leaves_the_drawing(sections: list[dict[str, Any]]) -> None:
    figure = draw_architecture(sections, band(sections, 7.1, 7.5))
    for text in figure.axes[0].texts:
        box = text.get_window_extent()
        assert box.x0 >= -1
        assert box.y0 >= -1
        assert box.x1 <= figure.bbox.width + 1
        assert box.y1 <= figure.bbox.height + 1


def test_names_are_text_and_cut_to_their_boxes(sections: list[dict[str, Any]]) -> None:
    hostile = [{**section, "branch": ["$\\frac{1$", "שלום", "x" * 500] * 9} for section in sections]
    said = words(draw_architecture(hostile, band(hostile, 7.1, 7.5)))
    assert "$\\frac{1$" in said
    assert "… 20 more" in said  # of 27 layers and two of attention nine are drawn
    assert max(map(len, said)) < 40


def test_lines_are_no_wider_than_their_box() -> None:
    lines = wrapped("3x3 conv 1024 in 32 groups /2", 8)
    assert " ".join(lines) == "3x3 conv 1024 in 32 groups /2"
    assert all(text_width(line) <= 8 for line in lines)


def test_the_last_step_with_results_is_drawn(make_result: Make, sections: list[dict[str, Any]]) -> None:
    rows = read_plan("baseline+se~eca+silu", DIGITS)
    results = [make_result("baseline", architecture=sections), make_result("baseline+se", architecture=sections)]
    alternative = make_result("baseline+eca", architecture=sections)
    row, found = last_architecture(rows, [*results, alternative])
    assert row is rows[1]
    assert found == sections


def test_the_whole_is_drawn_where_parts_are_left_out(make_result: Make, sections: list[dict[str, Any]]) -> None:
    rows = read_plan("leave-one-out:baseline+se+silu", DIGITS)
    row, _ = last_architecture(rows, [make_result(row.spec.replace("resnet8", "baseline")) for row in rows])
    assert row is rows[0]


@pytest.mark.parametrize("architecture", [[], [{}], [{"name": 5}]])
def test_records_that_do_not_tell_are_not_drawn(make_result: Make, architecture: list[dict[str, Any]]) -> None:
    rows = read_plan("baseline+se", DIGITS)
    assert last_architecture(rows, [make_result(architecture=architecture)]) == (rows[0], [])
    assert last_architecture(rows, []) == (None, [])
