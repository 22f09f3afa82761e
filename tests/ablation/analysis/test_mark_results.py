from collections.abc import Callable
from dataclasses import replace

import pytest

from ablation.analysis.mark_results import mark_results
from ablation.analysis.records import RecordedPlan
from ablation.plans.assignments import Mark
from benchmarks.definition.registry import BENCHMARKS
from benchmarks.records.store import RunRecord

Make = Callable[..., RunRecord]
MakeRecorded = Callable[..., RecordedPlan]


@pytest.fixture
def recorded(make_record: Make, make_recorded: MakeRecorded) -> RecordedPlan:
    """Return a plan of three rows: two seeds with 50 and 52%, one with 55%, and none."""
    records = [make_record(seed=0, top1=50.0), make_record(seed=1, top1=52.0), make_record("baseline+se", top1=55.0)]
    return make_recorded("baseline+se+eca", records)


def test_references_and_goals(recorded: RecordedPlan) -> None:
    marks = [
        (Mark("resnet8", 50.0, "reference", "s"), 0, None),
        (Mark("resnet8", 94.0, "reference", "s", "top5"), 0, None),
        (Mark("+se", 55.0, "goal", "s"), 1, None),
        (Mark("+se", 55.1, "goal", "s"), 1, None),
        (Mark("+eca", 50.0, "goal", "s"), 2, None),
        (Mark("resnet8", 40.0, "other protocol", "s"), 0, None),
    ]
    results = mark_results(marks, recorded)
    assert [result.outcome for result in results] == [
        "+1.00 points",
        "+1.00 points",
        "reached",
        "not reached",
        "no runs",
        "not comparable",
    ]
    assert [result.measured for result in results[:3]] == [
        "51.00 ± 1.41 (n = 2)",
        "95.00 ± 0.00 (n = 2)",
        "55.00 (n = 1)",
    ]
    assert results[4].measured == ""


def test_a_goal_that_is_met_exactly_is_reached(make_record: Make, make_recorded: MakeRecorded) -> None:
    records = [make_record(seed=seed, top1=top1) for seed, top1 in enumerate((60.8, 70.6, 81.6))]
    records += [make_record("baseline+se", seed, top1) for seed, top1 in enumerate((60.9, 70.7, 81.7))]
    marks = [
        (Mark("resnet8", 71.0, "goal", "s"), 0, None),  # in floating-point numbers, the mean is below 71
        (Mark("+se", 0.1, "goal", "s", minus="resnet8"), 1, 0),
        (Mark("resnet8", -0.1, "goal", "s", minus="+se"), 0, 1),
    ]
    results = mark_results(marks, make_recorded("baseline+se", records))
    assert [result.outcome for result in results] == ["reached"] * 3


def test_differences_between_rows(recorded: RecordedPlan) -> None:
    reached, missing = mark_results(
        [
            (Mark("+se", 3.0, "goal", "s", minus="resnet8"), 1, 0),
            (Mark("+eca", 3.0, "goal", "s", minus="resnet8"), 2, 0),
        ],
        recorded,
    )
    assert (reached.mean, reached.n, reached.outcome) == (4.0, 1, "reached")
    assert reached.label == f"{recorded.rows[1].label} minus {recorded.rows[0].label}"
    assert (missing.mean, missing.outcome) == (None, "no runs")


def test_results_on_other_images_are_not_comparable(make_record: Make, make_recorded: MakeRecorded) -> None:
    recorded = make_recorded("resnet8", [make_record("resnet8", train_images=300)])
    recorded = replace(recorded, benchmark=BENCHMARKS["cifar100"])
    [result] = mark_results([(Mark("resnet8", 50.0, "reference", "s"), 0, None)], recorded)
    assert result.outcome == "not comparable (other images)"
