from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from ablation.analysis.records import RecordedPlan
from ablation.analysis.table import TableSettings, make_table
from ablation.plans.choices import Pairing
from ablation.report.findings import findings, format_with_unit
from benchmarks.records.store import FailedRun, RunRecord

Make = Callable[..., RunRecord]
MakeRecorded = Callable[..., RecordedPlan]
RecordMeans = Callable[..., RecordedPlan]
DEVIATIONS = (-0.3, -0.2, -0.1, 0.1, 0.2, 0.3)


@pytest.fixture(scope="module")
def record_means(make_record: Make, make_recorded: MakeRecorded) -> RecordMeans:
    """Return a function that builds a recorded plan with these mean top-1s per row and one seed per deviation."""

    def record(plan: str, means: Sequence[float | None], deviations: Sequence[float] = DEVIATIONS) -> RecordedPlan:
        recorded = make_recorded(plan)
        records = [
            make_record(seed=seed, top1=mean + points, key=row.key, spec=row.spec)
            for row, mean in zip(recorded.rows, means, strict=True)
            if mean is not None
            for seed, points in enumerate(deviations)
        ]
        return replace(recorded, records=records)

    return record


def find(recorded: RecordedPlan, pairing: Pairing = "unpaired") -> list[str]:
    return findings(recorded, make_table(recorded, TableSettings(pairing)))


def test_real_and_worse_changes(record_means: RecordMeans) -> None:
    raised, lowered, *_ = find(record_means("baseline+se+silu", (50.0, 52.3, 51.0)))
    assert raised.startswith("+se raises top-1 by 2.30 points (95% CI [")
    assert raised.endswith("], n = 6).")
    assert lowered.startswith("+silu lowers top-1 by 1.30 points (95% CI [")
    assert "-" not in lowered.partition("by")[2]  # a decrease is shown as a positive number


def test_change_that_is_not_shown(record_means: RecordMeans) -> None:
    sentence = find(record_means("baseline+drop_path", (50.0, 50.1)))[0]
    assert sentence.startswith("+drop_path: change not shown, +0.10 points (95% CI [-0.")
    assert sentence.endswith("], n = 6).")


def test_equivalent_changes(record_means: RecordMeans) -> None:
    recorded = record_means("baseline+se+silu", (50.0, 50.0, 51.0))
    equivalent, real, *_ = findings(recorded, make_table(recorded, TableSettings(margin=2.0)))
    assert equivalent.startswith("+se: change shown to be less than the margin, +0.00 points (95% CI [-0.")
    assert real.startswith("+silu raises top-1 by 1.00 points, less than the margin (95% CI [0.")


def test_change_that_is_not_shown_after_correction(record_means: RecordMeans) -> None:
    sentences = find(record_means("baseline+se+silu+gem", (50.0, 50.34, 50.34, 50.34)))
    assert sentences[0].startswith("+se: change not shown after Holm correction, +0.34 points (95% CI [")


def test_one_seed_cannot_show_a_change(record_means: RecordMeans) -> None:
    sentences = find(record_means("baseline+se+silu", (50.0, 60.0, 40.0), deviations=(0.0,)))
    assert sentences[:3] == [
        "+se: +10.00 points; one seed cannot show a change (n = 1).",
        "+silu: -20.00 points; one seed cannot show a change (n = 1).",
        "Overall, baseline (resnet8) to +silu: -10.00 points; one seed cannot show a change (n = 1).",
    ]


def test_alternative_names_the_step_it_replaces(record_means: RecordMeans) -> None:
    sentences = find(record_means("baseline+se~eca+silu", (50.0, 52.0, 54.0, 53.0)))
    assert sentences[1].startswith("In place of +se, ~eca raises top-1 by 2.00 points (95% CI [")
    assert sentences[3].startswith("Overall, baseline (resnet8) to +silu: +3.00 points (95% CI [")


def test_interaction_is_beyond_the_sum_of_both_parts(record_means: RecordMeans) -> None:
    sentences = find(record_means("pairs:baseline+se+silu", (50.0, 52.0, 51.0, 60.0), deviations=(0.0, 0.1) * 4))
    # The interaction has no spread, so no interval is shown.
    assert sentences[2] == "+se+silu raises top-1 by 7.00 points beyond the sum of both parts (n = 8)."


def test_removed_part_is_named_without_its_sign(record_means: RecordMeans) -> None:
    sentences = find(record_means("leave-one-out:baseline+se+silu", (53.0, 51.0, 53.0)))
    assert sentences[0].startswith("Removing se lowers top-1 by 2.00 points (")
    assert sentences[1].startswith("Removing silu: change not shown, +0.00 points (")
    assert len(sentences) == 3  # no overall change, because the first row has all steps


def test_step_that_removes_a_part_can_be_the_last_one(record_means: RecordMeans) -> None:
    sentences = find(record_means("baseline+se+silu-se", (50.0, 52.0, 53.0, 51.0)))
    assert sentences[2].startswith("-se lowers top-1 by 2.00 points (")
    assert sentences[3].startswith("Overall, baseline (resnet8) to -se: +1.00 points (")


def test_rows_without_records(record_means: RecordMeans, make_recorded: MakeRecorded) -> None:
    recorded = record_means("baseline+se+silu", (50.0, None, 51.0))
    row = recorded.rows[1]
    failed_runs = [FailedRun(row.spec, row.key, seed, "0123456789ab", "p", "lost", "", "") for seed in (0, 1)]
    assert find(replace(recorded, failed_runs=failed_runs))[:2] == [
        "+se: no result; 2 of 6 runs failed.",
        "+silu: no comparison, because +se has no result.",
    ]
    assert find(make_recorded("baseline+se+silu"))[-1] == "No run has finished yet."


def test_paired_rows_without_a_common_seed(make_record: Make, make_recorded: MakeRecorded) -> None:
    recorded = make_recorded("baseline+se", [make_record(seed=0), make_record("baseline+se", seed=1)])
    assert find(recorded, "paired")[0] == "+se: no comparison, because the rows have no seed in common."


def test_last_sentence_is_the_best_row_with_its_cost(record_means: RecordMeans) -> None:
    sentence = find(record_means("baseline+se+silu", (50.0, 52.0, 51.0)))[-1]
    for part in ("+se with top-1 52.00 ± 0.24 and top-5 95.00 (n = 6)", "77,754 params", "1.5 MFLOPs", "1.2 min"):
        assert part in sentence


def test_controls_are_never_the_headline(record_means: RecordMeans) -> None:
    means = (50.0, 52.0, 53.0, 55.0, 56.0, 52.5, 51.0)
    recorded = record_means("distill:resnet20>resnet8", means)
    sentence = find(recorded)[-1]
    assert sentence.startswith(
        "Highest mean top-1 except for ~ rows (~epochs=2: 56.00 ± 0.24): resnet20 → resnet8 with"
    )
    lower_controls = find(record_means("distill:resnet20>resnet8", (50.0, 52.0, 53.0, 51.0, 51.0, 52.5, 51.0)))[-1]
    assert lower_controls.startswith("Highest mean top-1: resnet20 → resnet8 with")


def test_carried_rows_are_never_the_headline(record_means: RecordMeans) -> None:
    plan = "datasize(1/2,1,carried):resnet8"
    assert find(record_means(plan, (50.0, 60.0, 55.0)))[-1].startswith("Highest mean top-1: resnet8 all with")
    higher = find(record_means(plan, (50.0, 60.0, 70.0)))[-1]
    assert higher.startswith("Highest mean top-1 except for carried-over rows (resnet8 carried over all: 70.00 ± 0.24)")
    assert ": resnet8 all with" in higher
    assert find(record_means(plan, (None, None, 70.0)))[-1] == "Only carried-over rows have finished."


def test_only_controls_have_finished(record_means: RecordMeans) -> None:
    recorded = record_means("distill:resnet20>resnet8", (None, None, None, 55.0, None, None, None))
    assert find(recorded)[-1] == "Only ~ rows have finished."


def test_table_of_other_records_is_refused(make_record: Make, make_recorded: MakeRecorded) -> None:
    table = make_table(make_recorded("baseline+se", [make_record()]))
    with pytest.raises(ValueError, match="different rows or records"):
        findings(make_recorded("baseline+se"), table)


@pytest.mark.parametrize(("count", "text"), [(2_609_823_744, "2.610 GFLOPs"), (500, "500 FLOPs")])
def test_counts_have_a_metric_prefix_and_a_unit(count: float, text: str) -> None:
    assert format_with_unit(count, "FLOPs") == text
