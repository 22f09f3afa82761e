import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from ablation.cli import main
from benchmarks.records.store import FailedRun, RecordStore, RunRecord

Make = Callable[..., RunRecord]


def output(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main([*arguments]) == 0
    return capsys.readouterr().out


def test_rows_and_failed_and_unfinished_runs_are_listed(recorded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = RecordStore(recorded)
    store.append(FailedRun("resnet8+eca", "k", 7, "abcd", "p", "loss is nan", "", ""))
    (recorded / "checkpoints" / "k-abcd-seed8").mkdir(parents=True)
    text = output(capsys, "runs", "--out", str(recorded))
    for fact in ("digits", "plan baseline+se", "resnet8+se", "0-5", "92.25", "2026-01-01 00:00"):
        assert fact in text
    assert "failed: resnet8+eca seed 7 (abcd): loss is nan" in text
    assert "unfinished: k-abcd-seed8" in text
    content = json.loads(output(capsys, "runs", "--out", str(recorded), "--json"))
    assert [row["seeds"] for row in content["plans"][0]["rows"]] == [[*range(6)]] * 2
    assert (len(content["failed"]), len(content["unfinished"])) == (1, 1)


def test_empty_folder_is_described(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "no records" in output(capsys, "runs", "--out", str(tmp_path))


def test_reading_commands_read_several_folders(
    recorded: Path, tmp_path: Path, make_record: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = RecordStore(tmp_path / "first"), RecordStore(tmp_path / "second")
    for index, store in enumerate((first, second)):
        store.create()
        for record in RecordStore(recorded).records():
            if record.seed % 2 == index:
                store.append(record)
    outs = ["--out", str(first.out), "--out", str(second.out)]
    shutil.rmtree(recorded)
    assert [row["n"] for row in json.loads(output(capsys, "table", *outs, "--json"))["rows"]] == [6, 6]
    assert "0-5" in output(capsys, "runs", *outs)
    content = json.loads(output(capsys, "report", *outs, "--json"))
    assert {Path(file).parent for file in content["files"]} == {first.out}


@pytest.mark.parametrize("command", [["run", "baseline"], ["redo", "x"], ["remove", "x"], ["merge", "x"]])
def test_writing_commands_take_one_folder(command: list[str], tmp_path: Path, error_line: Callable[..., str]) -> None:
    line = error_line(*command, "--out", str(tmp_path / "a"), "--out", str(tmp_path / "b"))
    assert "--out" in line
    assert "once" in line
    assert list(tmp_path.iterdir()) == []


def test_row_with_an_unknown_part_is_listed_with_a_note(
    recorded: Path, make_record: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    record = RecordStore(recorded).records()[0]
    RecordStore(recorded).append(replace(record, spec="resnet8+simam", key="gone", plan="baseline+simam"))
    text = output(capsys, "runs", "--out", str(recorded))
    assert "resnet8+simam cannot be read" in text
    assert "simam" in output(capsys, "table", "--out", str(recorded))
    assert "+2.00" in output(capsys, "table", "baseline+se", "--out", str(recorded))


def test_label_is_shown_in_every_output(recorded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = ["--out", str(recorded)]
    assert "SENet" in output(capsys, "table", *out, "--label", "+se=SENet", "--format", "latex")
    assert "SENet" in output(capsys, "table", *out)
    files = json.loads(output(capsys, "report", *out, "--json"))["files"]
    content = json.loads(Path(files[1]).read_text())
    assert [row["step"] for row in content["rows"]] == ["baseline (resnet8)", "SENet"]
    assert any(sentence.startswith("SENet") for sentence in content["findings"])
    assert content["rows"][1]["spec"] == "resnet8+se"
