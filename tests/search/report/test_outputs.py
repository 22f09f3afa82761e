import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from optuna.study import Study
from optuna.trial import FrozenTrial
from rich.console import Console

from arch.errors import InputError
from benchmarks.budget.verdict import ModelCost, PredictedHours, Verdict
from benchmarks.definition.benchmark import Split
from benchmarks.definition.config_parser import read_run_config
from benchmarks.execution.progress import Display
from benchmarks.records.store import RunRecord
from benchmarks.runs.run import Run
from search import trial_attrs
from search.finalists import Finalist
from search.report.outputs import (
    COLUMNS,
    accuracy,
    conclude,
    export_winner,
    finalists_frame,
    importance,
    tally,
    to_terminal,
    trials_frame,
    write_outputs,
)
from search.settings import SearchSettings

Make = Callable[..., FrozenTrial]
ODD = "resnet8+[red]a|b"


@pytest.fixture
def make_finalist(
    search: SearchSettings, make_result: Callable[[Run, float, float], RunRecord]
) -> Callable[..., Finalist]:
    """A finalist with these accuracies on the validation split, and on the test split."""

    def make(spec: str, validation: tuple[float, ...] = (), test: tuple[float, ...] = ()) -> Finalist:
        config = read_run_config(spec.replace(ODD, "resnet8"))
        verdict = Verdict(spec, "digits", search.benchmark.budget, 8, 64, ModelCost(77_754, 77_754, macs_torch=774_500))
        verdict = replace(verdict, hours=PredictedHours(0.5, 0.5, 0.5))

        def results(accuracies: tuple[float, ...], split: Split) -> tuple[RunRecord, ...]:
            run = Run(config, search.benchmark, 0, search.data, "cpu", search.out, spec, 1, 1, 0.5, split=split)
            return tuple(
                replace(make_result(replace(run, seed=seed), top1, 0.25 + 0.5 * seed), spec=spec)
                for seed, top1 in enumerate(accuracies)
            )

        return Finalist(
            spec, config.spec.variant(), verdict, results(validation, "val"), results(test, "test"), len(validation)
        )

    return make


@pytest.fixture
def everything(new_study: Callable[..., Study], make_trial: Make, failed: FrozenTrial) -> list[FrozenTrial]:
    """All kinds of trials: width decides, attention adds a little."""
    gains = {"": 0.0, "+se": 1.0, "+width=0.5": -20.0, "+width=1.5": 10.0}
    chosen = [(a, "", w) for a in ("", "+se") for w in ("", "+width=0.5", "+width=1.5")]
    chosen += [(a, "+silu", w) for a, _, w in chosen]
    found = [make_trial(*c, top1=[60 + sum(gains.get(f, 0.0) for f in c)]) for c in chosen]
    refused = make_trial("+cbam", top1=[], **{trial_attrs.FEASIBLE: False, trial_attrs.REASON: "2 parameters > 1"})
    return new_study([*found, make_trial("+eca", top1=[60.0, 70.0]), refused, failed, failed]).trials


def test_an_accuracy_is_the_mean_and_the_samples_deviation(make_finalist: Callable[..., Finalist]) -> None:
    def text(*accuracies: float) -> str:
        return accuracy(make_finalist("resnet8", accuracies).validation)

    assert text(98.0, 99.0, 100.0) == "99.00 ± 1.00"
    assert text(98.5) == "98.50"
    assert text() == ""


def test_the_finalists_table_says_what_each_costs_and_reaches(make_finalist: Callable[..., Finalist]) -> None:
    frame = finalists_frame([make_finalist("resnet8+se", (98.0, 99.0)), make_finalist("resnet8")])
    assert frame.columns.tolist() == COLUMNS
    assert frame.to_numpy().tolist() == [
        ["resnet8+se", "77,754", "774.5 k", "30.0 min", "98.50 ± 0.71", "2"],  # as measured
        ["resnet8", "77,754", "774.5 k", "30.0 min", "", "0"],  # as predicted
    ]


def test_every_trial_has_a_line_with_its_accuracy_after_each_rung(
    everything: list[FrozenTrial], search: SearchSettings
) -> None:
    frame = trials_frame(everything, search)
    epochs = [rung.recipe.epochs for rung in search.rungs.benchmarks]
    columns = [f"val_top1_epoch{number}" for number in epochs]
    assert frame["trial"].tolist() == list(range(len(everything)))
    assert frame["state"].tolist() == ["COMPLETE"] * 14 + ["FAIL"] * 2
    assert frame[columns].to_numpy()[12].tolist()[:2] == [60.0, 70.0]
    assert frame[columns].notna().to_numpy().sum() == 14
    assert frame[trial_attrs.REASON].dropna().tolist() == ["2 parameters > 1", "the loss is nan", "the loss is nan"]
    assert frame.loc[12, trial_attrs.SPEC] == "resnet8+eca"


def test_how_the_trials_ended_is_told_in_words(everything: list[FrozenTrial]) -> None:
    expected = "13 candidates trained, 1 of 14 (7%) over the budget, 2 failed (most often: the loss is nan)"
    assert tally(everything) == expected
    assert tally(everything[:2]) == "2 candidates trained, 0 of 2 (0%) over the budget"
    assert tally([]) == "0 candidates trained, 0 of 0 (0%) over the budget"


def test_what_decides_the_accuracy_is_the_most_important(everything: list[FrozenTrial]) -> None:
    shares = importance(trial_attrs.ranked(everything))
    assert next(iter(shares)) == "width"
    assert shares["width"] > 0.8
    assert sum(shares.values()) == pytest.approx(1.0)
    assert list(shares.values()) == sorted(shares.values(), reverse=True)


@pytest.mark.parametrize("number", [0, 1, 7, 20])
def test_of_what_says_too_little_no_importance_is_told(make_trial: Make, number: int) -> None:
    shares = importance([make_trial() for _ in range(number)])
    assert all(share == 0 for share in shares.values())


def write(search: SearchSettings, everything: list[FrozenTrial], finalists: list[Finalist], folder: Path) -> list[Path]:
    return write_outputs(search, everything, finalists, "resnet8", "a summary", folder)


def test_all_files_are_written_and_can_be_read(
    search: SearchSettings, everything: list[FrozenTrial], make_finalist: Callable[..., Finalist], tmp_path: Path
) -> None:
    files = write(search, everything, [make_finalist("resnet8+se", (98.0, 99.0))], tmp_path / "new")
    names = ["finalists.md", "front.md", "trials.csv", "importance.json", "front.png", "importance.png"]
    assert [file.name for file in files] == names
    assert {file.name for file in (tmp_path / "new").iterdir()} == set(names)
    markdown, front, csv, shares, *pictures = files
    assert "98.50 ± 0.71" in markdown.read_text()
    assert markdown.read_text().endswith("a summary\n")
    assert "resnet8" in front.read_text()
    assert pd.read_csv(csv)["trial"].tolist() == list(range(len(everything)))
    assert json.loads(shares.read_text()).keys() == search.space.choices.keys()  # type: ignore[attr-defined]
    assert all(picture.read_bytes().startswith(b"\x89PNG") for picture in pictures)


def test_few_trials_leave_no_figure_of_importance(search: SearchSettings, make_trial: Make, tmp_path: Path) -> None:
    files = write(search, [make_trial()], [], tmp_path)
    assert "importance.png" not in [file.name for file in files]
    assert json.loads((tmp_path / "importance.json").read_text()) == {}


def test_a_folder_that_cannot_be_written_is_one_line(search: SearchSettings, make_trial: Make, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot write to") as error:
        write(search, [make_trial()], [], tmp_path / "file")
    assert "\n" not in str(error.value)


def test_signs_in_a_name_stay_text(
    search: SearchSettings, make_trial: Make, make_finalist: Callable[..., Finalist], tmp_path: Path
) -> None:
    frame = finalists_frame([make_finalist(ODD, (98.0,))])
    stream = io.StringIO()
    Console(file=stream, width=140).print(to_terminal(frame, "finalists [bold]of digits"))
    assert ODD in stream.getvalue()
    assert "finalists [bold]of digits" in stream.getvalue()
    write(search, [make_trial(**{trial_attrs.SPEC: ODD})], [make_finalist(ODD, (98.0,))], tmp_path)
    header, _, line = (tmp_path / "finalists.md").read_text().splitlines()[:3]
    assert ODD.replace("|", r"\|") in line
    assert line.replace(r"\|", "").count("|") == header.count("|")
    assert pd.read_csv(tmp_path / "trials.csv")[trial_attrs.SPEC].tolist() == [ODD]


def test_a_conclusion_names_winner_accuracy_and_the_command_that_goes_on(
    search: SearchSettings, everything: list[FrozenTrial], make_finalist: Callable[..., Finalist], display: Display
) -> None:
    winner = make_finalist("resnet8+se+width=1.5", (98.0, 99.0), (97.0, 98.0, 99.0))
    found = conclude(search, everything, [winner, make_finalist("resnet8", (90.0,))], 90.0, display)
    text = "\n".join(found.lines)
    assert found.summary.endswith("in 1.5 min")
    assert "winner: resnet8+se+width=1.5 (chosen on the validation split among 2)" in text
    assert f"test top-1 98.00 ± 1.00 (n = 3), final epoch of 40, benchmark id {search.test_id}" in text
    assert f"ablate run {found.path} --benchmark digits --out {search.out} --seeds 3" in text
    assert found.path == "baseline+width=1.5+se"  # width is worth more
    assert all(str(file) in text for file in found.files)
    assert (search.out / search.name / "finalists.md") in found.files


def test_a_conclusion_can_be_read_by_programs(
    search: SearchSettings, everything: list[FrozenTrial], make_finalist: Callable[..., Finalist], display: Display
) -> None:
    winner = make_finalist("resnet8+se+width=1.5", (98.0, 99.0), (97.0, 98.0))
    told: dict[str, Any] = json.loads(json.dumps(conclude(search, everything, [winner], 1.0, display).to_json()))
    assert (told["winner"], told["test_top1"]) == ("resnet8+se+width=1.5", [97.0, 98.0])
    assert (told["validation_id"], told["test_id"]) == (search.validation_id, search.test_id)
    (finalist,) = told["finalists"]
    assert finalist["validation_top1"] == [98.0, 99.0]
    assert (finalist["params"], finalist["macs"], finalist["hours"]) == (77_754, 774_500, 0.5)


def test_without_finalists_the_conclusion_is_the_candidates(
    search: SearchSettings, everything: list[FrozenTrial], display: Display
) -> None:
    found = conclude(search, everything, [], 1.0, display)
    assert len(found.lines) == 2
    assert found.to_json()["winner"] is None
    assert found.path == "baseline+eca"  # of the one that went furthest
    assert (search.out / search.name / "front.png").exists()


def test_a_winner_whose_weights_found_no_room_is_not_exported(
    search: SearchSettings, make_finalist: Callable[..., Finalist], display: Any
) -> None:
    winner = make_finalist("resnet8", (), (97.0,))
    assert export_winner(search, winner, search.out, display) == []
    (line,) = display.said
    assert line.startswith("warning: ")
    assert f"{winner.test[0].run_id}.safetensors is not there" in line


def test_a_finalist_whose_seed_failed_says_of_how_many_its_mean_is(make_finalist: Callable[..., Finalist]) -> None:
    frame = finalists_frame([replace(make_finalist("resnet8+se", (98.0, 99.0)), seeds=3)])
    assert frame["n"].tolist() == ["2 of 3"]
