from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from ablation.analysis.datasize_series import (
    Series,
    SizePoint,
    carried_pairs,
    datasize_series,
    separate_series,
    update_notes,
)
from ablation.analysis.records import RecordedPlan
from ablation.plans.row import Row
from benchmarks.records.store import RunRecord

Make = Callable[..., RunRecord]
MakeRecorded = Callable[..., RecordedPlan]
PLAN = "datasize(1/2,1):resnet8,resnet20"


@pytest.fixture(scope="module")
def make_run(make_record: Make) -> Make:
    """Return a function that builds a run of a row; its learning curve ends at its top-1."""

    def make(row: Row, images: int, seed: int = 0, tops: Sequence[float] = (40.0, 50.0)) -> RunRecord:
        curve = [{"epoch": epoch, "train_top1": top1 + 5, "top1": top1} for epoch, top1 in enumerate(tops, 1)]
        return make_record(key=row.key, seed=seed, train_images=images, top1=tops[-1], curve=curve)

    return make


@pytest.fixture(scope="module")
def study(make_recorded: MakeRecorded) -> Callable[..., list[Series]]:
    """Return a function that returns the series of a plan with these records."""

    def series_of(plan: str, make_records: Callable[[Sequence[Row]], list[RunRecord]]) -> list[Series]:
        recorded = make_recorded(plan)
        return datasize_series(replace(recorded, records=make_records(recorded.rows)))

    return series_of


Study = Callable[..., list[Series]]


def sizes(series: Series) -> list[int]:
    return [point.images for point in series.points]


def test_each_model_is_a_series(make_run: Make, study: Study) -> None:
    first, second = study(
        PLAN,
        lambda rows: [
            make_run(row, images, seed) for seed in (1, 0) for row, images in zip(rows, [100, 200] * 2, strict=True)
        ],
    )
    assert (first.label, second.label) == ("resnet8", "resnet20")
    assert first.points == second.points
    assert first.points[1] == SizePoint(200, {0: 50.0, 1: 50.0}, {0: 55.0, 1: 55.0}, {0: 10.0, 1: 10.0})
    assert sizes(first) == [100, 200]


def test_first_seeds(make_run: Make, make_recorded: MakeRecorded) -> None:
    recorded = make_recorded(PLAN)
    recorded = replace(recorded, records=[make_run(recorded.rows[0], 100, seed) for seed in range(3)])
    assert list(datasize_series(recorded.first_seeds(2))[0].points[0].test) == [0, 1]


@pytest.mark.parametrize(("fractions", "expected"), [("1/4,1/2,1", [50, 100]), ("1/2,1", [100])])
def test_carried_series_has_no_smallest_size(make_run: Make, study: Study, fractions: str, expected: list[int]) -> None:
    images = {"1/4": 25, "1/2": 50, "all": 100}
    separate, carried = study(
        f"datasize({fractions},carried):resnet8",
        lambda rows: [make_run(row, images[row.label.rpartition(" ")[2]]) for row in rows],
    )
    assert (carried.label, carried.carried_from, separate.carried_from) == ("resnet8 carried over", "resnet8", "")
    assert sizes(carried) == expected
    assert len(sizes(separate)) == len(expected) + 1
    assert separate_series([separate, carried]) == [separate]
    assert carried_pairs([separate, carried]) == [(separate, carried)]


def test_size_without_a_run_is_omitted(make_run: Make, study: Study) -> None:
    first, second = study(PLAN, lambda rows: [make_run(rows[1], 200)])
    assert sizes(first) == [200]
    assert second.points == ()


@pytest.mark.parametrize(
    ("tops", "gain"),
    [
        ((50.0,), 0.0),
        ((40.0, 50.0), 10.0),
        ((0.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0, 80.0, 81.0), 1.0),
        ((0.0,) * 9 + (80.0, 81.0), 81.0),
        ((0.0,) * 18 + (80.0, 81.0), 81.0),
    ],
)
def test_late_gain_is_that_of_the_last_tenth_of_the_epochs(
    make_run: Make, study: Study, tops: tuple[float, ...], gain: float
) -> None:
    series = study(PLAN, lambda rows: [make_run(rows[0], 100, tops=tops)])
    assert series[0].points[0].late_gain == {0: gain}


@pytest.mark.parametrize("plan", ["datasize(1/2,1,updates):resnet8", "datasize(1/2,1):resnet8@epochs=2"])
def test_overrides_do_not_prevent_a_series(make_run: Make, study: Study, plan: str) -> None:
    [series] = study(plan, lambda rows: [make_run(rows[0], 100), make_run(rows[1], 200)])
    assert sizes(series) == [100, 200]


def test_model_with_two_overrides_is_two_series(make_run: Make, study: Study) -> None:
    series = study(
        "datasize(1/2,1):resnet8,resnet8@epochs=2",
        lambda rows: [make_run(row, images) for row, images in zip(rows, [100, 200] * 2, strict=True)],
    )
    assert [one.label for one in series] == ["resnet8", "resnet8@epochs=2"]


@pytest.mark.parametrize(
    "plan",
    [
        "baseline+se+cbam@data=1/2",
        "compare:resnet8,resnet8@data=1/2",
        "datasize(1/2):resnet8,resnet20",
        "distill:resnet8@data=1/2>resnet8",
    ],
)
def test_other_studies_have_no_series(make_run: Make, study: Study, plan: str) -> None:
    assert study(plan, lambda rows: [make_run(row, 100) for row in rows]) == []


def test_fractions_that_round_to_the_same_images_are_one_size(make_run: Make, study: Study) -> None:
    [series] = study(
        "datasize(0.5,0.51,1):resnet8",
        lambda rows: [make_run(row, images) for row, images in zip(rows, (100, 100, 200), strict=True)],
    )
    assert sizes(series) == [100, 200]


def test_old_records_without_image_count_are_omitted(make_run: Make, study: Study) -> None:
    def old(rows: Sequence[Row]) -> list[RunRecord]:
        return [make_run(rows[0], 100), make_run(rows[1], 0)]

    assert sizes(study("datasize(1/2,1):resnet8", old)[0]) == [100]
    [series] = study("datasize(1/2,1):resnet8", lambda rows: [*old(rows), make_run(rows[1], 200, seed=1)])
    assert sizes(series) == [100, 200]


def test_sizes_must_ascend_and_accuracies_must_be_percentages() -> None:
    for images in ((5_000, 2_500), (0, 2_500)):
        with pytest.raises(ValueError, match="ascend"):
            Series("net", tuple(SizePoint(count, {}, {}, {}) for count in images))
    for top1 in (100.5, -1.0, float("nan")):
        with pytest.raises(ValueError, match="between 0 and 100 percent"):
            SizePoint(5_000, {0: top1}, {}, {})


def test_updates_are_noted_if_they_are_equalized(make_record: Make, make_recorded: MakeRecorded) -> None:
    recorded = make_recorded("datasize(1/2,1,updates):resnet8")
    records = [make_record(key=row.key, images_seen=6400 * (index + 1)) for index, row in enumerate(recorded.rows)]
    batch_size = recorded.benchmark.recipe.batch_size
    [note] = update_notes(replace(recorded, records=records))
    assert f"{6400 // batch_size:,}, " in note
    assert note.endswith(f" {12800 // batch_size:,}")
    assert update_notes(make_recorded(PLAN, records)) == []
