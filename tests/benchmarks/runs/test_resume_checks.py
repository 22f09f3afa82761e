from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.definition.versions import versions
from benchmarks.execution.progress import Progress, silent
from benchmarks.records.store import RunRecord
from benchmarks.runs.dispatch import execute_run
from benchmarks.runs.resume_checks import find_changes
from benchmarks.runs.run import IfChanged, Run
from benchmarks.training.tensor_file import read_tensors
from benchmarks.training.trainer import TrainingFailed

VERSIONS = versions()
CHANGE = f"torch 99.0, now {VERSIONS['torch']}"

StopRun = Callable[[Run, int], None]
StartWith = Callable[..., None]


@pytest.fixture
def start_with(stop_run: StopRun, monkeypatch: pytest.MonkeyPatch) -> StartWith:
    """Return a function that trains a run with changed versions until an epoch begins, by default the second."""

    def start(run: Run, changed_versions: dict[str, str], epoch: int = 1) -> None:
        with monkeypatch.context() as patch:
            patch.setattr("benchmarks.runs.resume_checks.versions", lambda: VERSIONS | changed_versions)
            stop_run(run, epoch)

    return start


def files_in(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize(
    ("changed_versions", "message"),
    [
        ({"torch": "99.0"}, CHANGE),
        ({"timm": "0.1", "python": "2.7"}, f"timm 0.1, now {VERSIONS['timm']}, python 2.7, now {VERSIONS['python']}"),
    ],
)
def test_other_versions_stop_a_run_and_are_named(
    changed_versions: dict[str, str], message: str, run: Run, start_with: StartWith
) -> None:
    start_with(run, changed_versions)
    before = files_in(run.checkpoint_folder)
    with pytest.raises(TrainingFailed) as raised:
        execute_run(silent, run)
    assert message in str(raised.value)
    assert "--if-changed" in str(raised.value)
    assert files_in(run.checkpoint_folder) == before
    assert not run.output_file("weights").exists()


def test_another_driver_stops_a_run_and_both_are_recorded(
    run: Run, stop_run: StopRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    def set_driver(version: str) -> None:
        monkeypatch.setattr("benchmarks.runs.resume_checks.gpu_versions", lambda device: {"driver": version})

    set_driver("580.1")
    stop_run(run, 1)
    set_driver("590.2")
    with pytest.raises(TrainingFailed, match=r"started with driver 580\.1, now 590\.2"):
        execute_run(silent, run)
    record = execute_run(silent, replace(run, if_changed="resume"))
    assert record.versions == VERSIONS | {"driver": "590.2"}
    assert any("driver 580.1, now 590.2" in change for change in record.resumed_with_changes)


def test_another_device_stops_a_run_and_is_named(run: Run, stop_run: StopRun, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("benchmarks.runs.resume_checks.device_name", lambda device: "cpu (99 threads)")
        stop_run(run, 1)
    with pytest.raises(TrainingFailed, match=r"device cpu \(99 threads\), now cpu \(\d+ threads?\)"):
        execute_run(silent, run)


@pytest.mark.parametrize("epoch", [0, 1])
def test_a_run_that_resumes_with_other_versions_records_the_change(
    epoch: int, run: Run, start_with: StartWith, finished_record: RunRecord
) -> None:
    start_with(run, {"torch": "99.0"}, epoch)
    reports: list[Progress] = []
    record = execute_run(reports.append, replace(run, if_changed="resume"))
    assert [report.done for report in reports] == [*range(epoch, 3)]
    assert record.resumed_with_changes == [f"epoch {epoch + 1}: {CHANGE}"]
    assert read_tensors(run.output_file("weights"))[1]["changed"] == record.resumed_with_changes
    assert record.versions == VERSIONS
    assert record.numbers() == finished_record.numbers()  # only the version numbers have changed


def test_all_changes_in_the_course_of_a_training_are_recorded(run: Run, start_with: StartWith) -> None:
    resuming = replace(run, if_changed="resume")
    start_with(resuming, {"torch": "98.0"}, epoch=0)
    start_with(resuming, {"torch": "99.0"}, epoch=1)
    record = execute_run(silent, resuming)
    assert record.resumed_with_changes == ["epoch 1: torch 98.0, now 99.0", f"epoch 2: {CHANGE}"]


def test_a_change_that_was_accepted_once_is_not_reported_again(
    run: Run, start_with: StartWith, stop_run: StopRun
) -> None:
    start_with(run, {"torch": "99.0"}, epoch=0)
    stop_run(replace(run, if_changed="resume"), 1)
    assert find_changes(silent, [run]) == {}
    assert execute_run(silent, run).resumed_with_changes == [f"epoch 1: {CHANGE}"]


def test_a_run_with_other_versions_may_restart(run: Run, start_with: StartWith, finished_record: RunRecord) -> None:
    start_with(run, {"torch": "99.0"})
    reports: list[Progress] = []
    record = execute_run(reports.append, replace(run, if_changed="restart"))
    assert [report.done for report in reports] == [0, 1, 2]
    assert record.resumed_with_changes == []
    assert record.numbers() == finished_record.numbers()


def test_a_restarted_run_deletes_the_old_checkpoints(run: Run, start_with: StartWith, stop_run: StopRun) -> None:
    start_with(run, {"torch": "99.0"})
    stop_run(replace(run, if_changed="restart"), 0)
    assert sorted(files_in(run.checkpoint_folder)) == ["000000001.safetensors", "000000001.sha256"]
    assert find_changes(silent, [run]) == {}


@pytest.mark.parametrize("if_changed", ["stop", "resume", "restart"])
def test_without_changes_a_run_resumes(if_changed: IfChanged, run: Run, stop_run: StopRun) -> None:
    stop_run(run, 1)
    reports: list[Progress] = []
    record = execute_run(reports.append, replace(run, if_changed=if_changed))
    assert [report.done for report in reports] == [1, 2]
    assert record.resumed_with_changes == []


def test_changes_are_found_for_each_run_that_has_some(run: Run, start_with: StartWith) -> None:
    runs = [replace(run, seed=seed) for seed in range(4)]  # the last run has no checkpoint
    start_with(runs[0], {}, epoch=0)
    start_with(runs[1], {"torch": "99.0"}, epoch=0)
    start_with(runs[2], {"timm": "0.1", "python": "2.7"}, epoch=0)
    before = [files_in(run.checkpoint_folder) for run in runs[:3]]
    assert find_changes(silent, runs) == {
        runs[1].id: [CHANGE],
        runs[2].id: [f"timm 0.1, now {VERSIONS['timm']}", f"python 2.7, now {VERSIONS['python']}"],
    }
    assert [files_in(run.checkpoint_folder) for run in runs[:3]] == before
