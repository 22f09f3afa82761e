import math
from collections.abc import Callable
from dataclasses import replace

import pytest

from ablation.analysis.power import detectable_change
from ablation.analysis.records import RecordedPlan
from ablation.analysis.table import TableSettings, ablation_frame, make_table
from ablation.analysis.table_notes import failure_notes, pooled_std
from benchmarks.records.store import FailedRun, RunRecord

Make = Callable[..., RunRecord]
MakeRecorded = Callable[..., RecordedPlan]
PLAN = "baseline+se+cbam"


@pytest.fixture(scope="module")
def three_seeds(make_record: Make, make_recorded: MakeRecorded) -> RecordedPlan:
    levels = {"baseline": 52.0, "baseline+se": 57.0, "baseline+se+cbam": 54.0}
    stds = {"baseline": 2.0, "baseline+se": 2.0, "baseline+se+cbam": 0.0}
    records = [make_record(spec, seed, top1 + (seed - 1) * stds[spec]) for spec, top1 in levels.items()
               for seed in range(3)]  # fmt: skip
    return make_recorded(PLAN, records)


@pytest.fixture(scope="module")
def six_seeds(make_record: Make, make_recorded: MakeRecorded) -> RecordedPlan:
    levels = {"baseline": 50.0, "baseline+se": 55.0, "baseline+se+cbam": 54.0}
    records = [make_record(spec, seed, top1 + seed % 2) for spec, top1 in levels.items() for seed in range(6)]
    return make_recorded(PLAN, records)


def notes(recorded: RecordedPlan, num_candidates: int | None = None) -> str:
    return "\n".join(make_table(recorded, TableSettings(num_candidates=num_candidates)).notes)


def test_standard_deviation_is_pooled_over_rows(three_seeds: RecordedPlan) -> None:
    assert pooled_std(ablation_frame(three_seeds)) == pytest.approx(math.sqrt(8 / 3))  # the variances are 4, 4 and 0
    assert math.isnan(pooled_std(ablation_frame(three_seeds.first_seeds(1))))


def test_too_few_seeds(three_seeds: RecordedPlan) -> None:
    text = notes(three_seeds)
    assert "With 3 seeds, no change can be significant after Holm correction over 2 rows" in text
    assert "use --seeds 5 or more" in text
    assert "Student's t because the bootstrap needs at least 4 seeds" in text
    assert "With 1 seed, no change can be significant" in notes(three_seeds.first_seeds(1))


def test_with_enough_seeds_the_only_note_is_the_detectable_change(
    make_record: Make, make_recorded: MakeRecorded
) -> None:
    records = [make_record(spec, seed, 50 + seed % 3) for spec in ("baseline", "baseline+se") for seed in range(6)]
    detectable = detectable_change(pooled_std(make_table(make_recorded("baseline+se", records)).frame), seeds=6)
    assert notes(make_recorded("baseline+se", records)) == (
        f"A true change of {detectable:.2f} points or more is shown with 80% power (6 seeds, std over seeds 0.89, "
        "Holm correction over 1 row)."
    )


def test_selection_bias(six_seeds: RecordedPlan, make_recorded: MakeRecorded) -> None:
    # The expected maximum of 2 standard normal draws is 1 / sqrt(pi); the standard error is 0.548 / sqrt(6).
    text = notes(six_seeds)
    assert "best of 2 rows gains 0.13 points by chance; +4.87 of the observed +5.00 points remain" in text
    assert "+se (std over seeds 0.55, n = 6)" in text
    assert "best of 99 rows, in this table and others, gains" in notes(six_seeds, num_candidates=100)
    two_rows = [record for record in six_seeds.records if "cbam" not in record.spec]
    assert "Picking" not in notes(make_recorded("baseline+se", two_rows))
    assert "Picking" not in notes(six_seeds.first_seeds(3))  # without a significant change, there is no gain


def test_no_selection_bias_if_the_first_row_is_best(make_record: Make, make_recorded: MakeRecorded) -> None:
    levels = {"baseline": 60.0, "baseline+se": 50.0, "baseline+se+cbam": 50.0}
    records = [make_record(spec, seed, top1 + seed) for spec, top1 in levels.items() for seed in range(6)]
    assert "Picking" not in notes(make_recorded(PLAN, records))


@pytest.mark.parametrize(
    ("seeds", "is_undetectable"), [((20, 3), False), ((4, 4), False), ((3, 3), True), ((1, 6), True)]
)
def test_detectable_changes_depend_on_the_seeds_of_both_rows(
    seeds: tuple[int, int], is_undetectable: bool, make_record: Make, make_recorded: MakeRecorded
) -> None:
    levels = zip(("baseline", "baseline+se"), seeds, (50.0, 90.0), strict=True)
    records = [make_record(spec, seed, level + 0.1 * seed) for spec, count, level in levels for seed in range(count)]
    table = make_table(make_recorded("baseline+se", records))
    assert (table.frame["verdict"][1] == "not shown") is is_undetectable
    assert any("no change can be significant" in note for note in table.notes) is is_undetectable


@pytest.mark.parametrize("num_recorded", [2, 3])
def test_advice_on_seeds_counts_the_planned_rows(
    num_recorded: int, make_record: Make, make_recorded: MakeRecorded
) -> None:
    """The advice and the verdicts of an unfinished table are those of the finished one."""
    levels = {"baseline": 50.0, "baseline+se": 60.0, "baseline+se+cbam": 70.0}
    records = [make_record(spec, seed, top1 + 0.1 * seed) for spec, top1 in levels.items() for seed in range(4)]
    table = make_table(make_recorded(PLAN, records[: 4 * num_recorded]))
    assert table.frame["p_holm"][1] == pytest.approx(2 * 2 / 70)
    [note] = [note for note in table.notes if "significant" in note]
    assert note.startswith("With 4 seeds, ")
    assert "over 2 rows; use --seeds 5" in note


def test_row_with_one_seed_counts_for_holm(make_record: Make, make_recorded: MakeRecorded) -> None:
    levels = {"baseline": (50.0, 5), "baseline+se": (60.0, 5), "baseline+se+cbam": (60.0, 1)}
    records = [make_record(spec, seed, top1 + 0.1 * seed) for spec, (top1, n) in levels.items() for seed in range(n)]
    table = make_table(make_recorded(PLAN, records))
    assert table.frame["verdict"].tolist() == ["", "real", "not shown"]
    assert table.frame["p_holm"][1] == pytest.approx(2 * 2 / 252)
    [note] = [note for note in table.notes if "significant" in note]
    assert note.endswith(": +cbam")


def test_seeds_in_the_note_are_those_of_compared_rows(make_record: Make, make_recorded: MakeRecorded) -> None:
    records = [make_record("baseline", seed, 50 + 0.1 * seed) for seed in range(10)]
    records.append(make_record("baseline+se", 0, 60.0))
    [note] = [note for note in make_table(make_recorded("baseline+se", records)).notes if "significant" in note]
    assert note.startswith("With 1 seed, ")
    assert "over 1 row; use --seeds 4" in note


def test_interval_that_excludes_zero_beside_not_shown(make_record: Make, make_recorded: MakeRecorded) -> None:
    accuracies = {"baseline": (50.0, 50.2, 50.4, 50.6), "baseline+se": (50.5, 50.9, 51.0, 51.2)}
    records = [make_record(spec, seed, top1) for spec, line in accuracies.items() for seed, top1 in enumerate(line)]
    table = make_table(make_recorded("baseline+se", records))
    assert (table.frame["verdict"][1], table.frame["change_low"][1] > 0) == ("not shown", True)
    assert any(note.startswith("+se: the 95% CI excludes zero") for note in table.notes)


def test_note_names_at_most_three_rows(make_record: Make, make_recorded: MakeRecorded) -> None:
    recorded = make_recorded("baseline+drop_path=0.1" + "".join(f"~drop_path=0.{digit}" for digit in range(2, 7)))
    low = (50.0, 50.2, 50.4, 50.6)
    accuracies = [low, (50.5, 50.9, 51.0, 51.2), *(low,) * 5]
    records = [make_record(row.spec, seed, top1) for row, line in zip(recorded.rows, accuracies, strict=True)
               for seed, top1 in enumerate(line)]  # fmt: skip
    [note] = [note for note in make_table(replace(recorded, records=records)).notes if "excludes zero" in note]
    assert note.startswith("+drop_path, ~drop_path=0.2, ~drop_path=0.3 and 3 more: ")


def test_failed_run_is_one_printable_line_under_its_label(make_recorded: MakeRecorded) -> None:
    recorded = make_recorded("baseline+se")
    failed_runs = [
        FailedRun(row.spec, row.key, seed, recorded.benchmark_id, "baseline+se", reason, "", "2026")
        for row, seed, reason in zip(recorded.rows, (2, 0), ("the loss is nan", "no\x1b[31m\nway"), strict=True)
    ]
    assert failure_notes(replace(recorded, failed_runs=failed_runs)) == [
        "baseline (resnet8) seed 2 failed: the loss is nan",
        "+se seed 0 failed: no?[31m?way",
    ]
