import io
import json
from collections.abc import Callable

import pandas as pd
import pytest
from rich.console import Console

from ablation.plan import Row, path
from ablation.table import ablation_frame, readable, to_markdown, to_terminal
from benchmarks.benchmark import BENCHMARKS
from benchmarks.budget.verdict import format_count
from benchmarks.results import Failure, Result

Make = Callable[..., Result]


@pytest.fixture
def rows() -> list[Row]:
    return path("baseline+se+cbam", BENCHMARKS["digits"])


@pytest.fixture
def results(make_result: Make) -> list[Result]:
    accuracies = {
        "baseline": (50.0, 52.0, 54.0),
        "baseline+se": (55.0, 57.0, 59.0),
        "baseline+se+cbam": (54.0, 54.0, 54.0),
    }
    return [make_result(spec, seed, top1) for spec, line in accuracies.items() for seed, top1 in enumerate(line)]


def test_means_deviations_and_changes_are_those_of_the_seeds(rows: list[Row], results: list[Result]) -> None:
    frame = ablation_frame(rows, results)
    assert frame["top1_mean"].tolist() == [52.0, 57.0, 54.0]
    assert frame["top1_std"].tolist() == [2.0, 2.0, 0.0]  # the sample's: sqrt(((-2)^2 + 0 + 2^2) / 2)
    assert frame["n"].tolist() == [3, 3, 3]
    assert frame["change"].tolist()[1:] == [5.0, -3.0]
    assert frame["change_from_baseline"].tolist()[1:] == [5.0, 2.0]
    assert frame[["change", "change_from_baseline"]].iloc[0].isna().all()


def test_the_order_of_the_records_does_not_matter(rows: list[Row], results: list[Result]) -> None:
    pd.testing.assert_frame_equal(ablation_frame(rows, results), ablation_frame(rows, results[::-1]))


def test_only_the_seeds_asked_for_are_used(rows: list[Row], results: list[Result]) -> None:
    assert ablation_frame(rows, results, seeds=2)["top1_mean"].tolist() == [51.0, 56.0, 54.0]


def test_one_seed_has_no_deviation(rows: list[Row], results: list[Result]) -> None:
    text = readable(ablation_frame(rows, results, seeds=1))
    assert text["top-1 %"].tolist() == ["50.00", "55.00", "54.00"]


def test_a_change_is_taken_over_the_seeds_that_both_rows_have(rows: list[Row], make_result: Make) -> None:
    results = [make_result("baseline", 0, 50.0), make_result("baseline", 1, 60.0), make_result("baseline+se", 0, 51.0)]
    frame = ablation_frame(rows[:2], results)
    assert frame["top1_mean"].tolist() == [55.0, 51.0]
    assert frame["change"].tolist()[1] == 1.0
    alone = ablation_frame(rows[:2], [results[1], results[2]])
    assert alone["change"].isna().all()


def test_a_row_without_a_result_says_so_and_leaves_no_change(rows: list[Row], results: list[Result]) -> None:
    frame = ablation_frame(rows, [result for result in results if result.spec != "resnet8+se"])
    assert readable(frame)["top-1 %"].tolist()[1] == "no result"
    assert readable(frame)["Δ before"].tolist() == ["", "", ""]
    assert readable(frame)["Δ first"].tolist() == ["", "", "+2.00"]


def fail(row: Row, seed: int) -> Failure:
    return Failure(row.spec, row.variant.key(), seed, "0123456789ab", "baseline+se", "the loss is nan", "", "2026")


def test_failed_seeds_are_counted_in_their_row(rows: list[Row], results: list[Result]) -> None:
    kept = [result for result in results if result.spec != "resnet8+se+cbam" and (result.spec, result.seed) != ROW_SEED]
    failures = [fail(rows[1], 2), fail(rows[2], 0)]
    frame = ablation_frame(rows, kept, 3, failures)
    assert frame["failed"].tolist() == [0, 1, 1]
    assert readable(frame)["n"].tolist() == ["3", "2 of 3 (1 failed)", "0 of 3 (1 failed)"]
    assert readable(frame)["top-1 %"].tolist() == ["52.00 ± 2.00", "56.00 ± 1.41", "failed"]


ROW_SEED = ("resnet8+se", 2)


def test_fewer_seeds_than_asked_for_are_told(rows: list[Row], make_result: Make) -> None:
    results = [make_result("baseline", 0), make_result("baseline", 1), make_result("baseline+se", 0)]
    assert readable(ablation_frame(rows, results, seeds=2))["n"].tolist() == ["2", "1 of 2", "0 of 2"]
    assert readable(ablation_frame(rows, results))["n"].tolist() == ["2", "1 of 2", "0 of 2"]
    assert readable(ablation_frame(rows[:2], results, seeds=1))["n"].tolist() == ["1", "1"]


def test_a_seed_that_failed_everywhere_is_lacking_everywhere(rows: list[Row], make_result: Make) -> None:
    frame = ablation_frame(rows[:1], [make_result("baseline", 0)], None, [fail(rows[0], 1)])
    assert readable(frame)["n"].tolist() == ["1 of 2 (1 failed)"]
    beyond = ablation_frame(rows[:1], [make_result("baseline", 0)], 1, [fail(rows[0], 1)])
    assert readable(beyond)["n"].tolist() == ["1"]


def test_a_row_named_twice_shows_the_same_numbers_twice(results: list[Result]) -> None:
    frame = ablation_frame(path("baseline+se-se", BENCHMARKS["digits"]), results)
    assert frame["top1_mean"].tolist() == [52.0, 57.0, 52.0]


def test_results_of_two_benchmarks_never_meet(rows: list[Row], make_result: Make) -> None:
    with pytest.raises(ValueError, match="different benchmarks"):
        ablation_frame(rows, [make_result(), make_result(seed=1, benchmark_id="another")])


def test_no_results_at_all_make_a_table_of_rows(rows: list[Row]) -> None:
    assert readable(ablation_frame(rows, []))["top-1 %"].tolist() == ["no result"] * 3


def test_every_view_holds_every_row(rows: list[Row], results: list[Result]) -> None:
    frame = ablation_frame(rows, results)
    stream = io.StringIO()
    Console(file=stream, width=140).print(to_terminal(frame, "the caption"))
    for text in (stream.getvalue(), to_markdown(frame, "the caption")):
        assert "the caption" in text
        for cell in ("baseline (resnet8)", "+se", "+cbam", "52.00 ± 2.00", "+5.00", "-3.00", "77,754", "774.5 k"):
            assert cell in text
    assert [line["step"] for line in json.loads(frame.to_json(orient="records"))] == frame["step"].tolist()


def test_a_bar_in_a_name_stays_text_in_markdown(results: list[Result]) -> None:
    row = path("baseline", BENCHMARKS["digits"])[0]
    lines = to_markdown(ablation_frame([Row("a|b", row.spec, row.variant)], results), "").splitlines()
    assert r"a\|b" in lines[2]


@pytest.mark.parametrize(
    ("count", "text"), [(999, "999"), (774_500, "774.5 k"), (12_700_000, "12.7 M"), (1_304_911_872, "1.305 G")]
)
def test_counts_are_written_with_their_unit(count: int, text: str) -> None:
    assert format_count(count) == text
