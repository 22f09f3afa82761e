import csv
import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from ablation.cli import main
from benchmarks.records.store import RecordStore, RunRecord

Make = Callable[..., RunRecord]


def printed(arguments: list[str], capsys: pytest.CaptureFixture[str], code: int = 0) -> str:
    assert main(["table", *arguments]) == code
    return capsys.readouterr().out


def test_the_default_is_the_plan_recorded_last_with_its_verdict(
    recorded: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = printed(["--out", str(recorded)], capsys)
    for cell in ("baseline (resnet8)", "+se", "+2.00 [", "0.002", "real", "unpaired"):
        assert cell in out
    assert [file.name for file in recorded.iterdir()] == ["records.jsonl"]  # what `ablate run` wrote is left as it is


def test_paired_judges_by_the_seeds(recorded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = printed(["--out", str(recorded), "--paired"], capsys)
    assert "0.031" in out
    assert "paired by seed" in " ".join(out.split())
    content = json.loads(printed(["--out", str(recorded), "--paired", "--json"], capsys))
    assert (content["pairing"], content["rows"][1]["p"]) == ("paired", 2.0**-5)


@pytest.mark.parametrize(
    ("form", "begin"), [("markdown", "| step"), ("latex", "% \\usepackage{booktabs}"), ("html", "<figure>")]
)
def test_a_form_is_printed_and_nothing_else(
    form: str, begin: str, recorded: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = printed(["--out", str(recorded), "--format", form], capsys)
    assert out.startswith(begin)
    assert "written" not in out


def test_csv_reads_back(recorded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = list(csv.DictReader(io.StringIO(printed(["--out", str(recorded), "--format", "csv"], capsys))))
    assert [line["verdict"] for line in lines] == ["", "real"]
    assert lines[1]["step"] == "'+se"


def test_picked_from_is_told(recorded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "luck" not in printed(["--out", str(recorded)], capsys)
    assert "+se as the best of 50" in printed(["--out", str(recorded), "--num-candidates", "51"], capsys)


def test_another_plan_of_the_same_records(recorded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = printed(["baseline+eca~se", "--out", str(recorded)], capsys)
    assert "no result" in out
    assert "~se" in out
    assert "92.25" in out


def test_two_ids_never_meet_and_what_differs_is_told(recorded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = RecordStore(recorded)
    one = store.results()[0]
    definition = {**one.definition, "recipe": {**one.definition["recipe"], "lr": 0.2}}
    store.append(replace(one, definition=definition, benchmark_id="another"))
    assert main(["table", "--out", str(recorded)]) == 2
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    assert "differ in recipe.lr (0.1, 0.2): choose one with --id" in line
    assert "real" in printed(["--out", str(recorded), "--id", one.benchmark_id], capsys)
    assert main(["table", "--out", str(recorded), "--id", "neither"]) == 2
    assert "no such records of digits" in capsys.readouterr().err


def test_missing_and_failed_seeds_are_in_the_table(
    recorded: Path, make_result: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    out = printed(["--out", str(recorded), "--seeds", "8"], capsys)
    assert out.count("6 of 8") == 2


@pytest.mark.parametrize(
    "arguments",
    [["--format", "word"], ["--seeds", "0"], ["--num-candidates", "0"], ["nope:baseline"], ["baseline+sse"]],
)
def test_bad_input_is_one_line(arguments: list[str], recorded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["table", "--out", str(recorded), *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("ablate: ")
    assert captured.err.count("\n") == 1
