from collections.abc import Callable
from dataclasses import replace

import pytest

from ablation.analysis.records import RecordedPlan
from ablation.report.figure_style import SCREEN
from ablation.report.loss_figure import draw_losses
from benchmarks.records.store import RunRecord

Make = Callable[..., RunRecord]
MakeRecorded = Callable[..., RecordedPlan]


def curve(train: float, test: float) -> list[dict[str, float]]:
    return [{"epoch": epoch, "train_loss": train / epoch, "loss": test / epoch} for epoch in (1, 2)]


def test_lines_are_means_of_test_and_training_loss(make_record: Make, make_recorded: MakeRecorded) -> None:
    records = [make_record(seed=seed, curve=curve(4.0 + seed, 2.0 + seed)) for seed in (0, 1)]
    axes = draw_losses(make_recorded("baseline", records), SCREEN).axes[0]
    test, train = axes.get_lines()[:2]
    assert test.get_ydata().tolist() == [2.5, 1.25]  # type: ignore[union-attr]
    assert train.get_ydata().tolist() == [4.5, 2.25]  # type: ignore[union-attr]
    assert test.get_linewidth() > train.get_linewidth()
    assert test.get_color() == train.get_color()
    assert [text.get_text() for text in axes.texts] == ["baseline 1.25"]


@pytest.mark.parametrize(("train", "scale"), [(4.0, "linear"), (40.0, "log"), (0.0, "linear")])
def test_distillation_loss_has_a_logarithmic_axis(
    train: float, scale: str, make_record: Make, make_recorded: MakeRecorded
) -> None:
    axes = draw_losses(make_recorded("baseline", [make_record(curve=curve(train, 2.0))]), SCREEN).axes[0]
    assert axes.get_yscale() == scale
    assert axes.get_ylabel() == ("loss (log scale)" if scale == "log" else "loss")
    low, high = axes.get_ylim()
    assert low <= min(1.0, train / 2)
    assert high >= max(2.0, train)


def test_rows_without_records_are_omitted(make_record: Make, make_recorded: MakeRecorded) -> None:
    recorded = make_recorded("baseline+se", [make_record("baseline+se")])
    assert [text.get_text() for text in draw_losses(recorded, SCREEN).axes[0].texts] == ["+se 2.00"]
    assert len(draw_losses(replace(recorded, records=[]), SCREEN).axes[0].texts) == 0


def test_legend_states_what_the_training_loss_contains_besides_the_labels(
    make_record: Make, make_recorded: MakeRecorded
) -> None:
    def legend(plan: str, smoothing: float) -> str:
        recorded = make_recorded(plan, [make_record()])
        recipe = replace(recorded.benchmark.recipe, label_smoothing=smoothing)
        recorded = replace(recorded, benchmark=replace(recorded.benchmark, recipe=recipe))
        return draw_losses(recorded, SCREEN, "title").texts[1].get_text()

    assert "(" not in legend("baseline", 0.0)
    assert "(with label smoothing)" in legend("baseline", 0.1)
    assert "(with label smoothing and distillation loss)" in legend("distill:resnet20>resnet8", 0.1)


def test_a_long_title_loses_its_last_parts(make_record: Make, make_recorded: MakeRecorded) -> None:
    recorded = make_recorded("baseline", [make_record()])
    title = "digits (0123456789ab), cpu (1 thread), torch 2.14.1, " + ", ".join(["a condition of some runs"] * 9)
    shown = draw_losses(recorded, SCREEN, title).texts[0].get_text()
    assert shown.startswith("digits (0123456789ab), cpu (1 thread)")
    assert title.startswith(shown)
