"""Tests of runs in which several CPU processes share each batch."""

from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from benchmarks.definition.benchmark import with_world_size
from benchmarks.execution.local import LocalExecutor
from benchmarks.execution.progress import Progress, silent
from benchmarks.runs.dispatch import execute_run
from benchmarks.runs.run import Run
from benchmarks.runs.torchrun import TorchrunFailed, run_with_torchrun


@pytest.fixture
def shared_run(run: Run, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return replace(run, benchmark=with_world_size(run.benchmark, 2))


@pytest.mark.slow
def test_two_processes_train_one_model_and_resume_from_its_checkpoint(shared_run: Run, tmp_path: Path) -> None:
    reports: list[Progress] = []
    record = execute_run(reports.append, shared_run)
    assert [progress.done for progress in reports] == [0, 1, 2]
    assert record.definition["recipe"]["world_size"] == 2
    assert record.images_seen == 2 * 64  # each image once per epoch
    assert shared_run.output_file("weights").exists()
    shared_run.output_file("weights").unlink()
    resumed = execute_run(reports.append, shared_run)  # resumes from the checkpoint of the last epoch
    assert [progress.done for progress in reports[3:]] == [2]
    assert (resumed.curve, resumed.per_class) == (record.curve, record.per_class)
    alone = replace(shared_run, benchmark=with_world_size(shared_run.benchmark, 1), out=tmp_path / "alone")
    single = execute_run(silent, alone)
    assert single.benchmark_id != record.benchmark_id
    assert single.curve[0]["train_loss"] == pytest.approx(record.curve[0]["train_loss"], rel=0.2)


@pytest.mark.slow
def test_the_error_of_a_process_is_the_reason_of_the_failure(shared_run: Run) -> None:
    recipe = replace(shared_run.benchmark.recipe, lr=1e30, warmup_epochs=0)
    failing = replace(shared_run, benchmark=replace(shared_run.benchmark, recipe=recipe))
    with pytest.raises(TorchrunFailed, match=r"^TrainingFailed: the loss is "):
        run_with_torchrun(silent, failing)


@pytest.mark.slow
def test_no_process_outlives_a_killed_worker(shared_run: Run) -> None:
    recipe = replace(shared_run.benchmark.recipe, epochs=10_000)
    endless = replace(shared_run, benchmark=replace(shared_run.benchmark, recipe=recipe))
    processes: list[psutil.Process] = []

    def interrupt(progress: Progress) -> None:
        if progress.done == 1:
            processes.extend(filter(_is_training, psutil.Process().children(recursive=True)))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        LocalExecutor().call("benchmarks.runs.dispatch:execute_run", interrupt, endless)
    assert len(processes) >= 3  # torchrun and its two processes
    _, alive = psutil.wait_procs(processes, timeout=20)
    assert alive == []


def _is_training(process: psutil.Process) -> bool:
    try:
        return "benchmarks.runs.torchrun:main" in process.cmdline()
    except psutil.Error:
        return False


@pytest.mark.parametrize("world_size", [3, 0, 64, 65])
def test_a_batch_that_cannot_be_shared_is_rejected(
    world_size: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from ablation.cli import main

    assert main(["run", "baseline", "--world-size", str(world_size), "--out", str(tmp_path / "out")]) == 2
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    assert "world_size" in line or "world-size" in line
