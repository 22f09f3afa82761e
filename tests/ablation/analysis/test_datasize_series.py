from collections.abc import Callable, Sequence

import pytest

from ablation.analysis.datasize_series import series_of
from ablation.analysis.scaling import Cell
from ablation.plans.plan import read_plan
from ablation.plans.row import Row
from benchmarks.definition.benchmark import BENCHMARKS
from benchmarks.records.store import RunRecord

Make = Callable[..., RunRecord]
PLAN = "datasize(1/2,1):resnet8,resnet20"


def rows_of(plan: str) -> list[Row]:
    return read_plan(plan, BENCHMARKS["digits"])


def curve(*tops: float) -> list[dict[str, float]]:
    return [{"epoch": epoch, "train_top1": top1 + 5, "top1": top1} for epoch, top1 in enumerate(tops, 1)]


@pytest.fixture
def run(make_result: Make) -> Make:
    """A run of a row on so many images; its curve ends in its top-1."""

    def make(row: Row, images: int, seed: int = 0, tops: Sequence[float] = (40.0, 50.0)) -> RunRecord:
        return make_result(
            spec="baseline", key=row.key, seed=seed, train_images=images, top1=tops[-1], curve=curve(*tops)
        )

    return make


def test_each_net_is_a_series_over_its_sizes(run: Make) -> None:
    rows = rows_of(PLAN)
    results = [run(row, images, seed) for seed in (1, 0) for row, images in zip(rows, [100, 200] * 2, strict=True)]
    first, second = series_of(rows, results)
    assert (first.label, second.label) == ("resnet8", "resnet20")
    assert first.cells == second.cells
    assert first.cells[1] == Cell(200, {0: 50.0, 1: 50.0}, {0: 55.0, 1: 55.0}, {0: 10.0, 1: 10.0})
    assert [cell.images for cell in first.cells] == [100, 200]


def test_only_the_first_seeds_count_where_that_is_said(run: Make) -> None:
    rows = rows_of(PLAN)
    results = [run(rows[0], 100, seed) for seed in range(3)]
    assert list(series_of(rows, results, seeds=2)[0].cells[0].test) == [0, 1]


def test_a_size_without_a_run_has_no_cell(run: Make) -> None:
    rows = rows_of(PLAN)
    first, second = series_of(rows, [run(rows[1], 200)])
    assert [cell.images for cell in first.cells] == [200]
    assert second.cells == ()


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
def test_the_late_gain_is_that_of_the_last_tenth_of_the_epochs(run: Make, tops: tuple[float, ...], gain: float) -> None:
    rows = rows_of(PLAN)
    assert series_of(rows, [run(rows[0], 100, tops=tops)])[0].cells[0].late_gain == {0: gain}


@pytest.mark.parametrize("plan", ["datasize(1/2,1,updates):resnet8", "datasize(1/2,1):resnet8@epochs=2"])
def test_longer_trainings_are_series_too(run: Make, plan: str) -> None:
    rows = rows_of(plan)
    [series] = series_of(rows, [run(rows[0], 100), run(rows[1], 200)])
    assert [cell.images for cell in series.cells] == [100, 200]


def test_one_net_with_two_settings_is_two_series(run: Make) -> None:
    rows = rows_of("datasize(1/2,1):resnet8,resnet8@epochs=2")
    results = [run(row, images) for row, images in zip(rows, [100, 200] * 2, strict=True)]
    assert [series.label for series in series_of(rows, results)] == ["resnet8", "resnet8@epochs=2"]


@pytest.mark.parametrize(
    "plan", ["baseline+se+cbam@data=1/2", "compare:resnet8,resnet8@data=1/2", "datasize(1/2):resnet8,resnet20",
             "distill:resnet8@data=1/2>resnet8"]
)  # fmt: skip
def test_other_studies_have_no_series(run: Make, plan: str) -> None:
    rows = rows_of(plan)
    assert series_of(rows, [run(row, 100) for row in rows]) == []


def test_parts_that_round_to_the_same_images_are_one_size(run: Make) -> None:
    rows = rows_of("datasize(0.5,0.51,1):resnet8")
    [series] = series_of(rows, [run(row, images) for row, images in zip(rows, (100, 100, 200), strict=True)])
    assert [cell.images for cell in series.cells] == [100, 200]


def test_records_of_before_images_were_counted_are_left_out(run: Make) -> None:
    rows = rows_of("datasize(1/2,1):resnet8")
    old, new = run(rows[1], 0), run(rows[1], 200, seed=1)
    assert [cell.images for cell in series_of(rows, [run(rows[0], 100), old])[0].cells] == [100]
    assert [cell.images for cell in series_of(rows, [run(rows[0], 100), old, new])[0].cells] == [100, 200]
