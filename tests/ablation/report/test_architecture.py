from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

import pytest
from matplotlib.figure import Figure

from ablation.analysis.recorded_architecture import final_architecture
from ablation.analysis.records import RecordedPlan
from ablation.report.architecture import wrap_text
from ablation.report.architecture_figure import band_size, draw_architecture
from ablation.report.figure_style import SLIDE
from ablation.report.label_placement import text_width
from arch.bases import BASES
from arch.describe import describe
from arch.models import build
from arch.spec import parse
from benchmarks.records.store import RunRecord

Make = Callable[..., RunRecord]
MakeRecorded = Callable[..., RecordedPlan]
Sections = list[dict[str, Any]]


@pytest.fixture(scope="module")
def sections() -> Sections:
    net = build(parse("resnet8+stem=deep+avg_down+se+cbam").variant(), 10)
    return [asdict(section) for section in describe(net, (3, 32, 32))]


@pytest.fixture(scope="module")
def figure(sections: Sections) -> Figure:
    return draw_architecture(sections, band_size(sections, 7.1, 7.5))


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.axes[0].texts]


def test_sections_are_drawn_with_their_content(figure: Figure) -> None:
    drawn = texts(figure)
    for expected in ("stem", "stage 1", "stage 3", "head", "BasicBlock", "3x3 conv 64", "SEModule", "CbamModule"):
        assert expected in drawn
    assert drawn.count("+") == 3  # one for the shortcut of each stage
    assert {"64 × 8 × 8", "linear 10", "identity"} <= set(drawn)
    assert any(line.endswith("params") for line in drawn)


def test_plain_stage_has_no_shortcut() -> None:
    net = build(BASES["wide_cnn"].variant, 10)
    plain = [asdict(section) for section in describe(net, (3, 16, 16))]
    drawn = texts(draw_architecture(plain, band_size(plain, 7.1, 7.5)))
    assert {"3 × PlainBlock", "4 × PlainBlock", "MaxPool2d", "3x3 conv 256"} <= set(drawn)
    assert not {"+", "identity"} & set(drawn)


def test_repeats_are_shown_in_the_header(sections: Sections) -> None:
    repeated = [{**section, "blocks": 4} if section["name"] == "stage 2" else section for section in sections]
    assert "4 × BasicBlock" in texts(draw_architecture(repeated, SLIDE, "title"))


def test_all_text_is_inside_the_figure(figure: Figure) -> None:
    for text in figure.axes[0].texts:
        box = text.get_window_extent()
        assert box.x0 >= -1
        assert box.y0 >= -1
        assert box.x1 <= figure.bbox.width + 1
        assert box.y1 <= figure.bbox.height + 1


def test_names_are_plain_text_and_shortened(sections: Sections) -> None:
    hostile = [{**section, "branch": ["$\\frac{1$", "שלום", "x" * 500] * 9} for section in sections]
    drawn = texts(draw_architecture(hostile, band_size(hostile, 7.1, 7.5)))
    assert "$\\frac{1$" in drawn
    assert "… 20 more" in drawn  # nine of 27 layers and two attention modules are drawn
    assert max(map(len, drawn)) < 40


def test_wrapped_lines_fit_the_width() -> None:
    lines = wrap_text("3x3 conv 1024 in 32 groups /2", 8)
    assert " ".join(lines) == "3x3 conv 1024 in 32 groups /2"
    assert all(text_width(line) <= 8 for line in lines)


def test_last_step_with_records_is_chosen(make_record: Make, make_recorded: MakeRecorded, sections: Sections) -> None:
    specs = ("baseline", "baseline+se", "baseline+eca")
    recorded = make_recorded("baseline+se~eca+silu", [make_record(spec, architecture=sections) for spec in specs])
    assert final_architecture(recorded) == (recorded.rows[1], sections)


def test_leave_one_out_chooses_the_whole(make_record: Make, make_recorded: MakeRecorded) -> None:
    recorded = make_recorded("leave-one-out:baseline+se+silu")
    recorded = replace(recorded, records=[make_record(key=row.key) for row in recorded.rows])
    assert final_architecture(recorded)[0] is recorded.rows[0]


@pytest.mark.parametrize("architecture", [[], [{}], [{"name": 5}]])
def test_incomplete_records_are_not_drawn(
    make_record: Make, make_recorded: MakeRecorded, architecture: Sections
) -> None:
    recorded = make_recorded("baseline+se", [make_record(architecture=architecture)])
    assert final_architecture(recorded) == (recorded.rows[0], [])
    assert final_architecture(make_recorded("baseline+se")) == (None, [])
