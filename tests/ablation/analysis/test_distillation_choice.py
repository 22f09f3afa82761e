from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from ablation.analysis.caption import caption
from ablation.analysis.distillation_choice import best_setting, choice_notes
from ablation.analysis.power import selection_bias
from ablation.analysis.records import RecordedPlan
from ablation.analysis.table import make_table
from ablation.report.table_output import make_annotated_table
from benchmarks.records.store import RunRecord

Grid = Callable[..., RecordedPlan]
PLAN = "distill-grid(T=1:2:4,alpha=0.5):resnet20>resnet8"
LABELS = ["T=1, alpha=0.5", "T=2, alpha=0.5", "T=4, alpha=0.5"]


@pytest.fixture(scope="module")
def grid(make_record: Callable[..., RunRecord], make_recorded: Callable[..., RecordedPlan]) -> Grid:
    """Return a function that builds a recorded grid from the accuracies of each row."""

    def make(*accuracies: Sequence[float]) -> RecordedPlan:
        recorded = make_recorded(PLAN, split="val")
        records = [
            make_record(row.spec, seed, top1)
            for row, values in zip(recorded.rows, accuracies, strict=True)
            for seed, top1 in enumerate(values)
        ]
        return replace(recorded, records=records)

    return make


def best_label(recorded: RecordedPlan) -> str:
    row = best_setting(recorded)
    assert row is not None
    return row.label


def test_the_highest_mean_is_chosen(grid: Grid) -> None:
    recorded = grid([49, 50, 51], [50, 51, 52], [56, 57, 58], [50, 51, 52])
    assert best_label(recorded) == LABELS[1]
    [note] = choice_notes(recorded)
    # The settings have means of 51, 57 and 51, and a standard deviation of 1 over 3 seeds.
    gain = selection_bias(3, 1.0, 3)
    for fact in (f"{LABELS[1]}, ", "57.00% (n = 3)", "alone has 50.00% (n = 3)", "4.00 points above the mean of 3",
                 f"gains {gain:.2f} points", f"{4 - gain:.2f} points remain", "std over seeds 1.00"):  # fmt: skip
        assert fact in note


def test_of_equal_means_the_first_is_chosen(grid: Grid) -> None:
    third = grid([50] * 3, [0.0] * 3, [50.1, 50.2, 50.3], [50.3, 50.2, 50.1])  # the sums differ in the last bit
    assert best_label(third) == LABELS[1]


def test_chance_may_explain_the_whole_lead(grid: Grid) -> None:
    [note] = choice_notes(grid([50, 51, 52], [50, 52, 54], [50.3, 52.3, 54.3], [50, 52, 54]))
    assert "chance alone explains the lead" in note
    assert "remain" not in note


@pytest.mark.parametrize(("seeds", "is_uncertain"), [(1, True), (2, True), (3, False)])
def test_few_seeds_make_the_choice_uncertain(grid: Grid, seeds: int, is_uncertain: bool) -> None:
    recorded = grid([50, 51, 52], [51, 52, 53], [52, 53, 55], [51, 52, 53]).first_seeds(seeds)
    assert any("uncertain: use --seeds 3" in note for note in choice_notes(recorded)) == is_uncertain
    assert best_label(recorded) == LABELS[1]


def test_settings_with_missing_runs_are_not_chosen(grid: Grid) -> None:
    recorded = grid([50, 51, 52], [51, 52, 53], [99, 99], [50, 51, 52])
    assert best_label(recorded) == LABELS[0]
    assert any("missing: " in note and LABELS[1] in note for note in choice_notes(recorded))


def test_test_images_do_not_decide(grid: Grid) -> None:
    recorded = replace(grid([50] * 3, [51] * 3, [52] * 3, [51] * 3), split="test")
    assert best_setting(recorded) is None
    [note] = choice_notes(recorded)
    assert "--split val" in note


def test_without_results_nothing_is_chosen(grid: Grid) -> None:
    assert best_setting(grid([], [], [], [])) is None
    assert choice_notes(grid([50], [], [], [])) == []


def test_notes_of_the_table(grid: Grid, make_recorded: Callable[..., RecordedPlan]) -> None:
    recorded = grid(*([50.0 + index, 50.5 + index, 51.0 + index, 50.2 + index, 50.4 + index, 50.6 + index]
                      for index in range(4)))  # fmt: skip
    notes = make_annotated_table(recorded).notes
    assert sum("Best setting: T=4, alpha=0.5" in note for note in notes) == 1
    assert not any("Picking the best" in note for note in notes)  # said by the note on the best setting
    assert choice_notes(make_recorded("baseline+se")) == []
    assert list(make_table(recorded).frame["step"])[1:] == LABELS


@pytest.mark.parametrize(
    ("arguments", "remark"),
    [
        ("", "distillation from resnet20; "),
        ("(method=dkd,growing)", "distillation from resnet20 with DKD, growing weights; "),
    ],
)
def test_caption_leaves_the_numbers_to_the_labels(
    arguments: str, remark: str, make_record: Callable[..., RunRecord], make_recorded: Callable[..., RecordedPlan]
) -> None:
    text = caption(make_recorded(f"distill-grid{arguments}:resnet20>resnet8", [make_record("resnet8")], split="val"))
    assert remark in text
    assert "validation split" in text
    assert "same model trained without a teacher" in text
