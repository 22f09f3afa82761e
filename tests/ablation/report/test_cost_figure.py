from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
from matplotlib.figure import Figure

from ablation.analysis.pareto import pareto_front
from ablation.analysis.records import RecordedPlan
from ablation.analysis.table import ablation_frame
from ablation.report.cost_figure import CostAxis, draw_accuracy_against
from ablation.report.figure_style import SCREEN, save
from benchmarks.records.store import RunRecord

Make = Callable[..., RunRecord]
MakeRecorded = Callable[..., RecordedPlan]
HOSTILE = "$\\frac{1$ <b>&amp; \\input{x}"


def draw(recorded: RecordedPlan, cost: CostAxis = "hours") -> Figure:
    return draw_accuracy_against(cost, recorded.rows, ablation_frame(recorded), SCREEN)


def labels(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.axes[0].texts]


def test_pareto_front() -> None:
    points = [(2.0, 60.0), (1.0, 50.0), (3.0, 55.0), (1.0, 49.0), (4.0, 60.0)]
    assert pareto_front(points) == [(1.0, 50.0), (2.0, 60.0)]


@pytest.mark.parametrize(("largest", "scale"), [(0.1, "linear"), (0.9, "log")])
def test_costs_of_different_magnitude_have_a_logarithmic_axis(
    make_record: Make, make_recorded: MakeRecorded, largest: float, scale: str
) -> None:
    records = [make_record(hours=0.02), make_record("baseline+se", hours=largest)]
    assert draw(make_recorded("baseline+se", records)).axes[0].get_xscale() == scale


def test_rows_without_records_are_omitted(make_record: Make, make_recorded: MakeRecorded) -> None:
    assert labels(draw(make_recorded("baseline+se", [make_record("baseline+se")]))) == ["+se"]
    assert labels(draw(make_recorded("baseline+se"), "macs")) == []


def test_names_are_plain_text(make_record: Make, make_recorded: MakeRecorded, tmp_path: Path) -> None:
    recorded = make_recorded("baseline+se", [make_record(), make_record("baseline+se", hours=0.03)])
    rows = (recorded.rows[0], replace(recorded.rows[1], label=HOSTILE))
    figure = draw(replace(recorded, plan=replace(recorded.plan, rows=rows)))
    save(figure, tmp_path / "a.svg", "svg", text=True)
    texts = [node.text for node in ElementTree.parse(tmp_path / "a.svg").iter("{http://www.w3.org/2000/svg}text")]
    assert HOSTILE in texts
