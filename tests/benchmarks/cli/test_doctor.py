import json
from collections.abc import Callable
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
def without_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace the two functions that start a worker process."""
    monkeypatch.setattr(doctor, "_describe_device", lambda device, report: "a device")
    monkeypatch.setattr(doctor, "_run_self_test", lambda device, report: "passed")


def findings_by_topic(out: Path) -> dict[str, Finding]:
    return {finding.topic: finding for finding in examine(out, "cpu", silent)}


@pytest.mark.slow
def test_healthy_installation_has_no_problem(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--out", str(tmp_path / "runs"), "--device", "cpu", "--json"]) == 0
    findings = json.loads(capsys.readouterr().out)
    assert [finding["topic"] for finding in findings] == TOPICS
    texts = {finding["topic"]: finding["text"] for finding in findings}
    assert "identical results" in texts["self-test"]
    assert "cpu (" in texts["device"]
    assert "torch 2." in texts["versions"]
    assert not (tmp_path / "runs").exists()


@pytest.mark.usefixtures("without_workers")
def test_problem_is_printed_with_exit_code_3(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(device: str, report: object) -> str:
        raise WorkerFailed("RuntimeError: no kernel image is available")

    monkeypatch.setattr(doctor, "_run_self_test", fail)
    assert main(["doctor", "--out", str(tmp_path)]) == 3
    *_, problem, summary = capsys.readouterr().out.splitlines()
    assert "RuntimeError: no kernel image is available" in problem
    assert "1 problem" in summary


@pytest.mark.usefixtures("without_workers")
def test_gpu_that_cannot_be_used_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def resolve(device: str, warn: Callable[[str], None]) -> str:
        warn("the driver is too old")
        return "cpu"

    monkeypatch.setattr(doctor, "resolve_device", resolve)
    finding = findings_by_topic(tmp_path)["device"]
    assert (finding.text, finding.problem) == ("a device", "the driver is too old")


@pytest.mark.usefixtures("without_workers")
def test_records_finding_names_holder_and_damage(tmp_path: Path) -> None:
    (tmp_path / "records.jsonl").write_text("no record\n")
    (tmp_path / "checkpoints" / "run").mkdir(parents=True)
    with FolderLock(tmp_path):
        finding = findings_by_topic(tmp_path)["records"]
    assert finding.text.startswith("0 runs recorded, 1 unfinished, locked by pid ")
    assert "records.jsonl" in finding.problem
    assert "locked" not in findings_by_topic(tmp_path)["records"].text


@pytest.mark.usefixtures("without_workers")
def test_little_disk_space_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "MIN_FREE_BYTES", 2**60)
    assert "free some space" in findings_by_topic(tmp_path / "missing" / "folder")["--out"].problem


@pytest.mark.usefixtures("without_workers")
def test_file_in_place_of_the_output_folder_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert "cannot be written to" in findings_by_topic(tmp_path / "file")["--out"].problem


@pytest.mark.usefixtures("without_workers")
def test_missing_sandbox_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "best_sandbox", lambda: "none")
    assert "bubblewrap" in findings_by_topic(tmp_path)["sandbox"].problem
