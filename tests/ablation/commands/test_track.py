"""Test `--track` with a stand-in for wandb, whose real package would take seconds to import."""

import json
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ablation.cli import main
from ablation.report.trackers.live_tracking import LiveTracking
from benchmarks.records.store import RecordStore

FAKE = Path(__file__).parent.parent / "fake_tracker.py"
Run = Callable[..., int]


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[list[Any]]]:
    """Install the stand-in as wandb, and return a function that reads its calls."""
    folder, file = tmp_path / "packages", tmp_path / "log"
    folder.mkdir()
    shutil.copyfile(FAKE, folder / "wandb.py")
    monkeypatch.setenv("FAKE_LOG", str(file))
    monkeypatch.setenv("PYTHONPATH", str(folder))
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setattr("ablation.report.trackers.live_tracking.RETRY_SECONDS", 600.0)
    return lambda: [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


@pytest.fixture
def train(tiny: Path, tmp_path: Path) -> Run:
    """Return a function that trains one row with `--track wandb`, and returns the exit code."""
    options = ["--benchmark", str(tiny), "--device", "cpu", "--seeds", "1", "--runs-per-device", "1"]

    def train(*more: str) -> int:
        return main(["run", "baseline", *options, "--track", "wandb", "--out", str(tmp_path / "out"), *more])

    return train


@pytest.mark.slow
def test_epochs_are_sent_once_with_the_numbers_of_the_record(
    train: Run, log: Callable[[], list[list[Any]]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train() == 0
    assert "warning" not in capsys.readouterr().err
    [record] = RecordStore(tmp_path / "out").records()
    calls = log()
    assert calls[:2] == [["import"], ["init", record.run_id, record.spec, None]]
    assert [call for call in calls if call[0] == "log"] == [
        ["log", record.run_id, epoch["epoch"], epoch["top1"]] for epoch in record.curve
    ]
    assert calls[-2][2]["final/top1"] == record.top1
    assert calls[-1] == ["finish", record.run_id, 0]

    assert train() == 0  # nothing is left to train
    assert log() == calls
    assert main(["redo", "baseline", "--out", str(tmp_path / "out"), "--track", "wandb"]) == 0
    assert [call[0] for call in log()[len(calls) :]] == [call[0] for call in calls]


@pytest.mark.slow
@pytest.mark.parametrize("call", ["import", "init", "log", "finish"])
def test_a_tracker_that_fails_is_one_warning(
    call: str,
    train: Run,
    log: Callable[[], list[list[Any]]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("FAKE_FAILURE", call)
    assert train() == 0
    warnings = [line for line in capsys.readouterr().err.splitlines() if "warning" in line]
    assert len(warnings) == 1
    assert f"RuntimeError: {call} is out of reach" in warnings[0]
    assert len(RecordStore(tmp_path / "out").records()) == 1
    assert log()[-1][0] == call


@pytest.mark.slow
def test_a_tracker_that_hangs_is_ended(
    train: Run,
    log: Callable[[], list[list[Any]]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("FAKE_HANG", "import")
    monkeypatch.setattr("ablation.report.trackers.live_tracking.END_SECONDS", 0.1)
    assert train() == 0
    warnings = [line for line in capsys.readouterr().err.splitlines() if "warning" in line]
    assert len(warnings) == 1
    assert "0.1 s" in warnings[0]
    assert len(RecordStore(tmp_path / "out").records()) == 1


def test_a_tracker_is_started_again_after_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outcomes, warnings, done = ["no network", "no network", ""], list[str](), threading.Event()

    def run_child(tracking: LiveTracking, tracker: str) -> str:
        outcome = outcomes.pop(0)
        if not outcome:
            done.set()
        return outcome

    monkeypatch.setattr("ablation.report.trackers.live_tracking.RETRY_SECONDS", 0.0)
    monkeypatch.setattr(LiveTracking, "_run_child", run_child)
    with LiveTracking(["mlflow"], tmp_path, warnings.append):
        assert done.wait(60)
    assert outcomes == []
    assert len(warnings) == 1
    assert "no network" in warnings[0]


def test_a_folder_that_cannot_be_written_is_a_warning(tmp_path: Path) -> None:
    (tmp_path / "trackers").touch()
    warnings: list[str] = []
    with LiveTracking(["wandb"], tmp_path, warnings.append):
        pass
    assert len(warnings) == 1
    assert "trackers" in warnings[0]


@pytest.mark.parametrize("command", [["run", "baseline"], ["redo", "baseline"], ["finetune", "timm/resnet18"]])
@pytest.mark.parametrize("tracker", ["wandb", "wandbs"])
def test_a_missing_tracker_is_reported_before_anything_is_trained(
    tracker: str,
    command: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("ablation.report.trackers.export.find_spec", lambda name: None)
    assert main([*command, "--track", tracker, "--out", str(tmp_path / "out")]) == 2
    line = capsys.readouterr().err
    assert ("pip install 'timm-ablate[wandb]'" if tracker == "wandb" else "did you mean 'wandb'") in line
    assert not (tmp_path / "out").exists()
