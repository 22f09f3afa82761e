import io
from collections.abc import Callable
from dataclasses import replace

from optuna.trial import FrozenTrial
from rich.console import Console

from search import trial_attrs
from search.finalists import Finalist
from search.report.tables import (
    count_outcomes,
    finalists_frame,
    format_accuracy,
    front_frame,
    to_markdown,
    to_terminal,
    trials_frame,
)
from search.settings import SearchSettings


def test_accuracy_is_mean_and_sample_standard_deviation(make_finalist: Callable[..., Finalist]) -> None:
    def text(*accuracies: float) -> str:
        return format_accuracy(make_finalist("resnet8", accuracies).validation)

    assert text(98.0, 99.0, 100.0) == "99.00 ± 1.00"
    assert text(98.5) == "98.50"
    assert text() == ""


def test_finalists_frame_contains_cost_and_accuracy(make_finalist: Callable[..., Finalist]) -> None:
    frame = finalists_frame([make_finalist("resnet8+se", (98.0, 99.0)), make_finalist("resnet8")])
    assert frame.columns.tolist() == ["spec", "params", "MACs", "time", "val top-1 %", "n"]
    assert frame.to_numpy().tolist() == [
        ["resnet8+se", "77,754", "774.5 k", "30.0 min", "98.50 ± 0.71", "2"],  # measured time
        ["resnet8", "77,754", "774.5 k", "30.0 min", "", "0"],  # predicted time
    ]


def test_times_on_the_device_of_the_budget_are_predicted(
    make_finalist: Callable[..., Finalist], make_trial: Callable[..., FrozenTrial]
) -> None:
    finalist = make_finalist("resnet8", (98.0, 99.0))
    frame = finalists_frame([replace(finalist, verdict=replace(finalist.verdict, local_device="cpu (2 threads)"))])
    assert frame["predicted time"].tolist() == ["30.0 min"]  # not the mean of the runs
    cheap, fast_here = make_trial(reference_hours=0.5), make_trial("+se", top1=[95.0], reference_hours=1.5, hours=0.001)
    front = front_frame([fast_here, cheap], 3)
    assert front["predicted time"].tolist() == ["30.0 min", "1.5 h"]


def test_failed_seeds_of_a_finalist_are_counted(make_finalist: Callable[..., Finalist]) -> None:
    frame = finalists_frame([replace(make_finalist("resnet8+se", (98.0, 99.0)), seeds=3)])
    assert frame["n"].tolist() == ["2 of 3"]


def test_trials_frame_contains_all_trials_and_rungs(all_kinds: list[FrozenTrial], search: SearchSettings) -> None:
    frame = trials_frame(all_kinds, search)
    columns = [f"val_top1_epoch{rung.recipe.epochs}" for rung in search.rungs.benchmarks]
    assert frame["trial"].tolist() == list(range(len(all_kinds)))
    assert frame["state"].tolist() == ["COMPLETE"] * 14 + ["FAIL"] * 2
    assert frame[columns].to_numpy()[12].tolist()[:2] == [60.0, 70.0]
    assert frame[columns].notna().to_numpy().sum() == 14
    reasons = frame[trial_attrs.REASON].dropna().tolist()
    assert reasons == ["2 parameters > 1", "the loss is nan", "the loss is nan"]
    assert frame.loc[12, trial_attrs.SPEC] == "resnet8+eca"


def test_outcomes_are_counted(all_kinds: list[FrozenTrial]) -> None:
    text = count_outcomes(all_kinds)
    assert "13 candidates trained, 1 of 14 (7%) infeasible" in text
    assert "2 failed (most often: the loss is nan)" in text
    assert count_outcomes(all_kinds[:2]) == "2 candidates trained, 0 of 2 (0%) infeasible"
    assert count_outcomes(all_kinds[:1]) == "1 candidate trained, 0 of 1 (0%) infeasible"
    assert count_outcomes([]) == "0 candidates trained, 0 of 0 (0%) infeasible"


def test_markup_in_a_spec_is_escaped(make_finalist: Callable[..., Finalist], odd_spec: str) -> None:
    frame = finalists_frame([make_finalist(odd_spec, (98.0,))])
    stream = io.StringIO()
    Console(file=stream, width=140).print(to_terminal(frame, "finalists [bold]of digits"))
    assert odd_spec in stream.getvalue()
    assert "finalists [bold]of digits" in stream.getvalue()
    header, _, row = to_markdown(frame, "caption").splitlines()[:3]
    assert odd_spec.replace("|", r"\|") in row
    assert row.replace(r"\|", "").count("|") == header.count("|")
