import json
from pathlib import Path

import pytest

from search.studies.real_comparison import interval, main, summarize


def outcome(*top1: float) -> dict[str, object]:
    return {"test_top1": list(top1), "winner": "resnet8", "summary": "64 candidates trained"}


def test_differences_are_paired_by_seed() -> None:
    table = summarize({"thompson": [outcome(60.0, 62.0), outcome(71.0)], "random": [outcome(60.0), outcome(70.0)]})
    assert table["n"].tolist() == [2, 2]
    assert table["test top-1 of the winners (%)"][0].startswith("66.00 [")
    assert table["thompson minus it"].tolist() == ["", "1.00 [1.00, 1.00]"]


def test_interval_is_that_of_student() -> None:
    assert interval([1.0, 2.0, 3.0]) == "2.00 [-0.48, 4.48]"  # t(0.975, 2) = 4.303, standard error 0.577
    assert interval([1.0]) == "1.00"


def test_finished_searches_are_not_repeated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for sampler, top1 in (("thompson", 60.0), ("random", 59.0)):
        folder = tmp_path / f"{sampler}_0"
        folder.mkdir()
        (folder / "summary.json").write_text(json.dumps(outcome(top1)))
    arguments = ["missing.toml", "--samplers", "thompson", "random", "--seeds", "1", "--out", str(tmp_path)]
    assert main(arguments) == 0
    assert "| random    | 1   | 59.00" in capsys.readouterr().out
    assert (tmp_path / "summary.md").read_text().count("|\n") == 4
