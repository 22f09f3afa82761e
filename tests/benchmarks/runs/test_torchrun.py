"""Several processes that share each batch, on the CPU."""

from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from benchmarks.execution import local
from benchmarks.definition.benchmark import Benchmark, with_world_size
from benchmarks.runs.torchrun import TorchrunFailed, run_with_torchrun
from benchmarks.execution.progress import Progress, silent
from benchmarks.runs.dispatch import execute_run
from benchmarks.datasets.cache import CachedDataset
from benchmarks.definition.overrides import read_run_config
from benchmarks.runs.run import Run

SPEC = "resnet8+width=0.25"


@pytest.fixture
def run(tiny: Benchmark, digits: CachedDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    two = with_world_size(tiny, 2)
    return Run(read_run_config(SPEC), two, 0, digits, "cpu", tmp_path / "runs", SPEC, 1, 2, 0.1)


@pytest.mark.slow
def test_two_processes_train_one_net_and_go_on_from_its_checkpoint(run: Run, tmp_path: Path) -> None:
    told: list[Progress] = []
    result = execute_run(told.append, run)
    assert [progress.done for progress in told] == [0, 1, 2]
    assert result.definition["recipe"]["world_size"] == 2
    assert result.images_seen == 2 * 64  # all of them, and none of them twice
    assert (run.out / "weights" / f"{run.id}.safetensors").exists()
    (run.out / "weights" / f"{run.id}.safetensors").unlink()
    again = execute_run(told.append, run)  # the checkpoint of the last epoch is there
    assert [progress.done for progress in told[3:]] == [2]
    assert (again.curve, again.per_class) == (result.curve, result.per_class)
    alone = execute_run(silent, replace(run, benchmark=with_world_size(run.benchmark, 1), out=tmp_path / "alone"))
    assert alone.benchmark_id != result.benchmark_id
    assert alone.curve[0]["train_loss"] == pytest.approx(result.curve[0]["train_loss"], rel=0.2)


@pytest.mark.slow
def test_an_error_in_one_of_them_is_the_reason(run: Run) -> None:
    recipe = replace(run.benchmark.recipe, lr=1e30, warmup_epochs=0)
    failing = replace(run, benchmark=replace(run.benchmark, recipe=recipe))
    with pytest.raises(TorchrunFailed, match=r"^TrainingFailed: the loss is "):
        run_with_torchrun(silent, failing)


@pytest.mark.slow
def test_none_of_them_outlives_a_child_that_is_ended(run: Run) -> None:
    recipe = replace(run.benchmark.recipe, epochs=10_000)
    endless = replace(run, benchmark=replace(run.benchmark, recipe=recipe))
    family: list[psutil.Process] = []

    def look(number: int, progress: Progress) -> None:
        if progress.done == 1:
            family.extend(process for process in psutil.process_iter() if endless.id and _is_ours(process))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(local.call_each("benchmarks.runs.dispatch:execute_run", [(endless,)], 1, look))
    assert len(family) >= 3  # torchrun and its two
    _, alive = psutil.wait_procs(family, timeout=20)
    assert alive == []


def _is_ours(process: psutil.Process) -> bool:
    try:
        return "benchmarks.runs.torchrun" in process.cmdline()
    except psutil.Error:
        return False


@pytest.mark.parametrize("world_size", [3, 0, 64, 65])
def test_a_batch_that_cannot_be_shared_is_refused(
    world_size: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from ablation.cli import main

    assert main(["run", "baseline", "--world-size", str(world_size), "--out", str(tmp_path / "out")]) == 2
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    assert "world_size" in line or "world-size" in line
