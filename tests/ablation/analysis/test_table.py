import math
from collections.abc import Callable

import pandas as pd
import pytest

from ablation.analysis.table import ablation_frame, caption, failure_lines, make_table, spread, unfinished
from ablation.analysis.table_formats import readable
from ablation.plans.plan import path, read_plan
from ablation.plans.row import Pairing, Row
from benchmarks.definition.benchmark import BENCHMARKS
from benchmarks.records.store import FailedRun, RunRecord

DIGITS = BENCHMARKS["digits"]
ROWS = path("baseline+se+cbam", DIGITS)
Make = Callable[..., RunRecord]


@pytest.fixture
def rows() -> list[Row]:
    return path("baseline+se+cbam", BENCHMARKS["digits"])


@pytest.fixture
def results(make_result: Make) -> list[RunRecord]:
    accuracies = {
        "baseline": (50.0, 52.0, 54.0),
        "baseline+se": (55.0, 57.0, 59.0),
        "baseline+se+cbam": (54.0, 54.0, 54.0),
    }
    return [make_result(spec, seed, top1) for spec, line in accuracies.items() for seed, top1 in enumerate(line)]


def test_means_deviations_and_changes_are_those_of_the_seeds(rows: list[Row], results: list[RunRecord]) -> None:
    frame = ablation_frame(rows, results)
    assert frame["top1_mean"].tolist() == [52.0, 57.0, 54.0]
    assert frame["top1_std"].tolist() == [2.0, 2.0, 0.0]  # the sample's: sqrt(((-2)^2 + 0 + 2^2) / 2)
    assert frame["n"].tolist() == [3, 3, 3]
    assert frame["change"].tolist()[1:] == [5.0, -3.0]
    assert frame["change_from_first"].tolist()[1:] == [5.0, 2.0]
    assert frame[["change", "change_from_first"]].iloc[0].isna().all()


def test_the_order_of_the_records_does_not_matter(rows: list[Row], results: list[RunRecord]) -> None:
    pd.testing.assert_frame_equal(ablation_frame(rows, results), ablation_frame(rows, results[::-1]))


def test_only_the_seeds_asked_for_are_used(rows: list[Row], results: list[RunRecord]) -> None:
    assert ablation_frame(rows, results, seeds=2)["top1_mean"].tolist() == [51.0, 56.0, 54.0]


def test_one_seed_has_no_deviation(rows: list[Row], results: list[RunRecord]) -> None:
    text = readable(ablation_frame(rows, results, seeds=1))
    assert text["top-1 %"].tolist() == ["50.00", "55.00", "54.00"]


def test_unpaired_a_change_is_that_of_the_means_and_paired_that_of_the_seeds_both_have(
    rows: list[Row], make_result: Make
) -> None:
    results = [make_result("baseline", 0, 50.0), make_result("baseline", 1, 60.0), make_result("baseline+se", 0, 51.0)]
    assert ablation_frame(rows[:2], results)["change"].tolist()[1] == -4.0
    assert ablation_frame(rows[:2], results, pairing="paired")["change"].tolist()[1] == 1.0
    alone = ablation_frame(rows[:2], [results[1], results[2]], pairing="paired")
    assert alone["change"].isna().all()


@pytest.mark.parametrize("pairing", ["unpaired", "paired"])
def test_a_clear_step_is_real_and_its_reverse_worse(rows: list[Row], make_result: Make, pairing: Pairing) -> None:
    noise = (0.1, -0.1, 0.2, 0.0, -0.2, 0.15, -0.05, 0.05)
    levels = {"baseline": 50.0, "baseline+se": 52.0, "baseline+se+cbam": 49.0}
    results = [make_result(s, seed, level + noise[(seed * (place + 1)) % 8])
               for place, (s, level) in enumerate(levels.items()) for seed in range(8)]  # fmt: skip
    frame = ablation_frame(rows, results, pairing=pairing)
    assert frame["verdict"].tolist() == ["", "real", "worse"]
    assert frame["change_low"][1] < frame["change"][1] < frame["change_high"][1]
    assert frame["p"][1] < frame["p_holm"][1] <= 0.05
    assert math.isnan(frame["p"][0])


def test_leave_one_out_compares_each_row_with_the_whole(make_result: Make) -> None:
    rows = read_plan("leave-one-out:baseline+se+cbam", DIGITS)
    levels = {"baseline+se+cbam": 60.0, "baseline+cbam": 58.0, "baseline+se": 59.0}
    frame = ablation_frame(rows, [make_result(spec, 0, top1) for spec, top1 in levels.items()])
    assert frame["step"].tolist() == ["resnet8+se+cbam", "-se", "-cbam"]
    assert frame["change"].tolist()[1:] == [-2.0, -1.0]


def test_a_pair_has_what_is_beyond_the_sum_of_its_parts(make_result: Make) -> None:
    rows = read_plan("pairs:baseline+se+silu", DIGITS)
    levels = {"baseline": 50.0, "baseline+se": 51.0, "baseline+silu": 52.0, "baseline+se+silu": 55.0}
    frame = ablation_frame(rows, [make_result(spec, 0, top1) for spec, top1 in levels.items()])
    assert frame["change"].tolist()[1:] == [1.0, 2.0, 2.0]  # 55 - 51 - 52 + 50
    assert frame["change_from_first"].tolist()[1:] == [1.0, 2.0, 5.0]


def test_a_row_without_a_result_says_so_and_leaves_no_change(rows: list[Row], results: list[RunRecord]) -> None:
    frame = ablation_frame(rows, [result for result in results if result.spec != "resnet8+se"])
    assert readable(frame)["top-1 %"].tolist()[1] == "no result"
    assert readable(frame)["change"].tolist() == ["", "", ""]
    assert readable(frame)["Δ first"].tolist() == ["", "", "+2.00"]


def fail(row: Row, seed: int) -> FailedRun:
    return FailedRun(row.spec, row.key, seed, "0123456789ab", "baseline+se", "the loss is nan", "", "2026")


def test_failed_seeds_are_counted_in_their_row(rows: list[Row], results: list[RunRecord]) -> None:
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


def test_a_row_named_twice_shows_the_same_numbers_twice(results: list[RunRecord]) -> None:
    frame = ablation_frame(path("baseline+se-se", BENCHMARKS["digits"]), results)
    assert frame["top1_mean"].tolist() == [52.0, 57.0, 52.0]


def test_results_of_two_benchmarks_never_meet(rows: list[Row], make_result: Make) -> None:
    with pytest.raises(ValueError, match="different benchmarks"):
        ablation_frame(rows, [make_result(), make_result(seed=1, benchmark_id="another")])


def test_no_results_at_all_make_a_table_of_rows(rows: list[Row]) -> None:
    assert readable(ablation_frame(rows, []))["top-1 %"].tolist() == ["no result"] * 3


def test_the_spread_is_pooled_over_rows(rows: list[Row], results: list[RunRecord]) -> None:
    assert spread(ablation_frame(rows, results)) == pytest.approx(math.sqrt(8 / 3))  # variances 4, 4, 0
    assert math.isnan(spread(ablation_frame(rows, results, 1)))


def notes(
    rows: list[Row], results: list[RunRecord], seeds: int | None = None, num_candidates: int | None = None
) -> str:
    return "\n".join(make_table(rows, results, DIGITS, seeds, num_candidates=num_candidates).notes)


def test_too_few_seeds_are_told_with_how_many_would_do(rows: list[Row], results: list[RunRecord]) -> None:
    assert "3 seeds can show no change among 2, however large: from 5 a row on (--seeds) one" in notes(rows, results)
    assert "1 seed can show no change" in notes(rows, results, seeds=1)
    assert "of so few seeds the intervals are those of Student's t: a bootstrap takes 4" in notes(rows, results)


def test_enough_seeds_need_no_word(rows: list[Row], make_result: Make) -> None:
    results = [make_result(s, seed, 50 + seed % 3) for s in ("baseline", "baseline+se") for seed in range(6)]
    assert notes(rows[:2], results) == ""


def test_the_best_of_many_is_told_what_luck_alone_gives(rows: list[Row], make_result: Make) -> None:
    levels = {"baseline": 50.0, "baseline+se": 55.0, "baseline+se+cbam": 54.0}
    results = [make_result(spec, seed, top1 + seed % 2) for spec, top1 in levels.items() for seed in range(6)]
    # the expected largest of 2 normal draws is 1 / sqrt(pi), times 0.548 / sqrt(6)
    assert "+se as the best of 2 would be 0.13 points up by luck alone (spread 0.55, n = 6)" in notes(rows, results)
    assert "+4.87 of its +5.00 over the first row remain" in notes(rows, results)
    assert "as the best of 99" in notes(rows, results, num_candidates=100)
    assert "luck" not in notes(rows[:2], [r for r in results if "cbam" not in r.spec])
    assert "luck" not in notes(rows, results, seeds=3)  # where nothing can be shown there is no gain to speak of


@pytest.mark.parametrize(("seeds", "told"), [((20, 3), False), ((4, 4), False), ((3, 3), True), ((1, 6), True)])
def test_what_can_be_shown_is_asked_of_the_seeds_of_both_rows(
    seeds: tuple[int, int], told: bool, rows: list[Row], make_result: Make
) -> None:
    levels = zip(("baseline", "baseline+se"), seeds, (50.0, 90.0), strict=True)
    results = [make_result(s, seed, level + 0.1 * seed) for s, number, level in levels for seed in range(number)]
    table = make_table(rows[:2], results, DIGITS)
    assert (table.frame["verdict"][1] == "not shown") is told
    assert any("can show no change" in line for line in table.notes) is told


def test_a_row_of_one_seed_is_not_among_those_that_holm_corrects_for(rows: list[Row], make_result: Make) -> None:
    levels = {"baseline": (50.0, 4), "baseline+se": (60.0, 4), "baseline+se+cbam": (60.0, 1)}
    results = [make_result(s, seed, top1 + 0.1 * seed) for s, (top1, n) in levels.items() for seed in range(n)]
    table = make_table(rows, results, DIGITS)
    assert table.frame["verdict"].tolist() == ["", "real", "not shown"]
    assert "too few seeds to show any change, however large: +cbam" in table.notes


def test_the_seeds_that_show_nothing_are_those_of_the_rows_that_are_compared(
    rows: list[Row], make_result: Make
) -> None:
    results = [make_result("baseline", seed, 50 + 0.1 * seed) for seed in range(10)]
    results.append(make_result("baseline+se", 0, 60.0))
    [line] = [line for line in make_table(rows[:2], results, DIGITS).notes if "however large" in line]
    assert line.startswith("1 seed can show no change among 1, however large: from 4 a row on")


def test_a_note_names_no_more_rows_than_one_can_read(make_result: Make) -> None:
    rows = path("baseline+drop_path=0.1" + "".join(f"~drop_path=0.{place}" for place in range(2, 7)), DIGITS)
    levels = [(50.0, 50.2, 50.4, 50.6), (50.5, 50.9, 51.0, 51.2), *((50.0, 50.2, 50.4, 50.6),) * 5]
    results = [make_result(row.spec, seed, top1) for row, own in zip(rows, levels, strict=True)
               for seed, top1 in enumerate(own)]  # fmt: skip
    [line] = [line for line in make_table(rows, results, DIGITS).notes if "leaves zero out" in line]
    assert line.startswith("+drop_path, ~drop_path=0.2, ~drop_path=0.3 and 3 more: the interval")


def test_an_interval_without_zero_beside_not_shown_is_explained(rows: list[Row], make_result: Make) -> None:
    accuracies = {"baseline": (50.0, 50.2, 50.4, 50.6), "baseline+se": (50.5, 50.9, 51.0, 51.2)}
    results = [make_result(s, seed, top1) for s, line in accuracies.items() for seed, top1 in enumerate(line)]
    table = make_table(rows[:2], results, DIGITS)
    assert (table.frame["verdict"][1], table.frame["change_low"][1] > 0) == ("not shown", True)
    assert any(line.startswith("+se: the interval leaves zero out and yet nothing is shown") for line in table.notes)


@pytest.mark.parametrize(
    ("plan", "words"),
    [
        ("baseline+se+cbam", "change from the row before with"),
        ("baseline+se~eca", "change from the row before, of ~ from the step in whose place it stands, with"),
        ("leave-one-out:baseline+se+cbam", "change from the first row with"),
        ("pairs:baseline+se+silu", "change from the first row, of two parts beyond the sum of both, with"),
        ("baseline+se+cbam@teacher=(resnet20)", "change from the row before with"),
        ("distill:resnet20>resnet8", "change from the same net trained alone, of ~ from the step in whose place it"),
        ("compare:resnet8,resnet8@teacher=(resnet20)", "change from the same net trained alone with"),
        ("compare:resnet20,resnet8,resnet8@teacher=(resnet20)", "change from the first row with"),
        ("compare:resnet8@epochs=2,resnet8@teacher=uniform", "change from the row before with"),
        ("compare:resnet8,resnet8@data=1/2", "change from the row before with"),
        ("datasize(1/2,1):resnet8,resnet20", "change from the first net, or of pretrained weights from fresh ones, on"),
        (
            "compare:resnet8,resnet20,resnet8@init=0123456789abcdef,resnet8@init=0123456789abcdef@freeze=stem",
            "change from the first row, of frozen layers from the same net without, with",
        ),
    ],
)
def test_the_caption_says_what_a_change_is_from(plan: str, words: str, make_result: Make) -> None:
    assert words in caption(DIGITS, read_plan(plan, DIGITS), [make_result()])


def test_nothing_was_picked_where_the_first_row_is_best(rows: list[Row], make_result: Make) -> None:
    levels = {"baseline": 60.0, "baseline+se": 50.0, "baseline+se+cbam": 50.0}
    results = [make_result(spec, seed, top1 + seed) for spec, top1 in levels.items() for seed in range(6)]
    assert "luck" not in notes(rows, results)


def test_the_caption_names_benchmark_device_versions_epoch_seeds_and_test(make_result: Make) -> None:
    text = caption(DIGITS, ROWS, [make_result()], 3)
    for part in ("digits (0123456789ab)", "cpu", "torch 2.10.0", "final epoch of 40", "seeds 0 to 2", "unpaired"):
        assert part in text
    assert "over seed 0;" in caption(DIGITS, ROWS, [make_result()], 1)
    assert "paired by seed, p by sign flips" in caption(DIGITS, ROWS, [make_result()], 1, "paired")


def test_the_caption_says_where_trainings_shared_the_device(make_result: Make) -> None:
    results = [make_result(), make_result(seed=1, runs_per_device=4), make_result(seed=2, runs_per_device=2)]
    assert "times of up to 4 trainings sharing the device" in caption(DIGITS, ROWS, results)
    assert "sharing" not in caption(DIGITS, ROWS, results[:1])


def test_the_caption_says_that_a_training_went_on_with_something_else(make_result: Make) -> None:
    results = [make_result(), make_result(seed=1, changed=["epoch 3: torch 2.9.0, now 2.10.0"])]
    assert ", 1 run(s) went on under other versions or devices; " in caption(DIGITS, ROWS, results)
    assert "went on" not in caption(DIGITS, ROWS, results[:1])


def test_a_failure_counts_until_its_run_succeeds_and_in_its_own_rows_alone(rows: list[Row], make_result: Make) -> None:
    failures = [fail(rows[0], 0), fail(rows[0], 1), fail(rows[1], 0)]
    assert unfinished(rows, [make_result()], failures) == failures[1:]
    assert unfinished(rows[:1], [], failures) == failures[:2]
    assert unfinished(rows, [make_result(benchmark_id="another")], failures) == failures


def test_a_failure_is_one_clean_line_under_the_name_of_its_row(rows: list[Row]) -> None:
    dirty = fail(rows[1], 0)
    lines = failure_lines(rows, [fail(rows[0], 2), FailedRun(**{**vars(dirty), "reason": "no\x1b[31m\nway"})])
    assert lines == ["baseline (resnet8) seed 2 failed: the loss is nan", "+se seed 0 failed: no?[31m?way"]
