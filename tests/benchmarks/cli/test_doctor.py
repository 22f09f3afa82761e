import json
from pathlib import Path

import pytest

from ablation.cli import main
from benchmarks.cli import doctor
from benchmarks.cli.doctor import Finding, examine
from benchmarks.execution.executor import WorkerFailed
from benchmarks.execution.progress import silent
from benchmarks.records.lock import FolderLock

TOPICS = ["versions", "commit", "computer", "sandbox", "--out", "cache", "records", "device", "self-test"]


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the two that start a child."""
    monkeypatch.setattr(doctor, "_device", lambda device, report: "a device")
    monkeypatch.setattr(doctor, "_self_test", lambda device, report: "well")


def found(out: Path) -> dict[str, Finding]:
    return {finding.topic: finding for finding in examine(out, "cpu", silent)}


@pytest.mark.slow
def test_a_healthy_installation_has_no_problem(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--out", str(tmp_path / "runs"), "--device", "cpu", "--json"]) == 0
    findings = json.loads(capsys.readouterr().out)
    assert [finding["topic"] for finding in findings] == TOPICS
    assert "it ends in the same numbers" in findings[-1]["text"]
    assert "cpu (" in findings[-2]["text"]
    assert "torch 2." in findings[0]["text"]
    assert not (tmp_path / "runs").exists()


@pytest.mark.usefixtures("quick")
def test_it_says_what_is_wrong_and_ends_with_3(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(device: str, report: object) -> str:
        raise WorkerFailed("RuntimeError: no kernel image is available")

    monkeypatch.setattr(doctor, "_self_test", broken)
    assert main(["doctor", "--out", str(tmp_path)]) == 3
    lines = capsys.readouterr().out.splitlines()
    assert "PROBLEM: RuntimeError: no kernel image is available" in lines[-2]
    assert lines[-1] == "1 problem(s)"


@pytest.mark.usefixtures("quick")
def test_records_holder_and_damage_are_told(tmp_path: Path) -> None:
    (tmp_path / "records.jsonl").write_text("no record\n")
    (tmp_path / "checkpoints" / "unit").mkdir(parents=True)
    with FolderLock(tmp_path):
        finding = found(tmp_path)["records"]
    assert finding.text.startswith("0 runs recorded, 1 unfinished, held by pid ")
    assert "records.jsonl: 1" in finding.problem
    assert "held" not in found(tmp_path)["records"].text


@pytest.mark.usefixtures("quick")
def test_little_space_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "LEAST_SPACE", 2**60)
    assert "make room" in found(tmp_path / "not" / "there")["--out"].problem


@pytest.mark.usefixtures("quick")
def test_a_file_in_place_of_the_folder_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert "cannot be written to" in found(tmp_path / "file")["--out"].problem


@pytest.mark.usefixtures("quick")
def test_no_sandbox_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "best_sandbox", lambda: "none")
    assert "bubblewrap" in found(tmp_path)["sandbox"].problem
