import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from optuna.trial import FrozenTrial

from arch.errors import InputError
from benchmarks.budget.profile import read_profile
from benchmarks.execution.progress import Display
from search import trial_attrs
from search.finalists import Finalist
from search.report.outputs import export_winner, write_outputs
from search.settings import SearchSettings
from search.space import ChoiceSpace

TEXT_FILES = ["finalists.md", "front.md", "trials.csv", "importance.json"]


def test_all_outputs_are_written(
    search: SearchSettings, all_kinds: list[FrozenTrial], make_finalist: Callable[..., Finalist], display: Display
) -> None:
    winner = make_finalist("resnet8+se+width=1.5", (98.0, 99.0), (97.0, 98.0, 99.0))
    summary = write_outputs(search, all_kinds, [winner, make_finalist("resnet8", (90.0,))], 90.0, display)
    folder = search.out / search.name
    names = [*TEXT_FILES, "front.png", "importance.png"]
    assert summary.files == [folder / name for name in names]
    assert {file.name for file in folder.iterdir()} == set(names)
    finalists, front, trials, importance, *pictures = summary.files
    assert "98.50 ± 0.71" in finalists.read_text()
    assert "13 candidates trained" in finalists.read_text()
    assert "in 1.5 min" in finalists.read_text()
    assert "resnet8" in front.read_text()
    assert pd.read_csv(trials)["trial"].tolist() == list(range(len(all_kinds)))
    assert isinstance(search.space, ChoiceSpace)
    assert json.loads(importance.read_text()).keys() == search.space.choices.keys()
    assert all(picture.read_bytes().startswith(b"\x89PNG") for picture in pictures)
    assert summary.path == "baseline+width=1.5+se", "the width has the larger gain"


def test_footnotes_name_the_images_of_the_error_of_a_profile(
    search: SearchSettings, all_kinds: list[FrozenTrial], make_finalist: Callable[..., Finalist], display: Display
) -> None:
    on_profile = replace(search, profile=read_profile("rtx3090"))
    finalists, front, *_ = write_outputs(
        on_profile, all_kinds, [make_finalist("resnet8", (90.0,), (91.0,))], 90.0, display
    ).files
    for table in (finalists, front):
        assert "predicted for NVIDIA GeForce RTX 3090" in table.read_text()
        assert "96 to 480 px, not 8 px" in table.read_text()


def test_outputs_without_finalists(search: SearchSettings, all_kinds: list[FrozenTrial], display: Display) -> None:
    summary = write_outputs(search, all_kinds, [], 1.0, display)
    assert len(summary.lines) == 3
    assert summary.to_json()["winner"] is None
    assert summary.path == "baseline+eca"  # the promoted candidate
    assert (search.out / search.name / "front.png").exists()


def test_importance_is_not_plotted_for_few_trials(
    search: SearchSettings, make_trial: Callable[..., FrozenTrial], display: Display
) -> None:
    summary = write_outputs(search, [make_trial()], [], 1.0, display)
    assert [file.name for file in summary.files] == [*TEXT_FILES, "front.png"]
    assert json.loads((search.out / search.name / "importance.json").read_text()) == {}


def test_unwritable_folder_is_reported_in_one_line(
    search: SearchSettings, make_trial: Callable[..., FrozenTrial], display: Display, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot write to") as error:
        write_outputs(replace(search, out=tmp_path / "file"), [make_trial()], [], 1.0, display)
    assert "\n" not in str(error.value)


def test_markup_in_a_spec_is_kept_in_trials_csv(
    search: SearchSettings, make_trial: Callable[..., FrozenTrial], display: Display, odd_spec: str
) -> None:
    write_outputs(search, [make_trial(**{trial_attrs.SPEC: odd_spec})], [], 1.0, display)
    trials = pd.read_csv(search.out / search.name / "trials.csv")
    assert trials[trial_attrs.SPEC].tolist() == [odd_spec]


def test_winner_without_weights_is_not_exported(
    search: SearchSettings, make_finalist: Callable[..., Finalist], display: Any
) -> None:
    winner = make_finalist("resnet8", (), (97.0,))
    assert export_winner(search, winner, search.out, display) == []
    (line,) = display.said
    assert line.startswith("warning: ")
    assert winner.test[0].name.file in line
