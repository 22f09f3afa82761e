import json
from pathlib import Path

import pytest

from ablation.cli import main


def test_the_page_and_the_origin_of_its_numbers_lie_beside_the_records(
    recorded: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", "--out", str(recorded)]) == 0
    page = recorded / "digits_baseline+se_report.pdf"
    assert page.read_bytes().startswith(b"%PDF")
    origin = json.loads(page.with_suffix(".json").read_text())
    assert [len(row["runs"]) for row in origin["rows"]] == [6, 6]
    assert "written: " in capsys.readouterr().out


def test_twice_the_same_bytes_and_other_records_others(recorded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = recorded / "digits_baseline+se_report.pdf"
    content = []
    for arguments in ([], [], ["--seeds", "5"]):
        assert main(["report", "--out", str(recorded), *arguments]) == 0
        content.append(page.read_bytes())
    assert content[0] == content[1] != content[2]


def test_the_figures_alone(recorded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", "--out", str(recorded), "--figures", str(tmp_path / "slides"), "--json"]) == 0
    files = [Path(file) for file in json.loads(capsys.readouterr().out)["files"]]
    assert all(file.exists() for file in files)
    assert {file.name for file in files[2:]} >= {"curves.png", "curves.svg", "top1_against_hours.svg"}


def test_a_folder_that_cannot_be_written_is_one_line(recorded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (recorded / "file").write_text("")
    assert main(["report", "--out", str(recorded), "--figures", str(recorded / "file" / "x")]) == 2
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1
    assert captured.err.startswith("ablate: cannot write ")
