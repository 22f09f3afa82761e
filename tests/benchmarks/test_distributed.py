"""Several processes that share each batch, on the CPU."""

from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from benchmarks import engine
from benchmarks.benchmark import Benchmark, with_world_size
from benchmarks.distributed import TrainingTogetherFailed, run_together
from benchmarks.progress import Progress, silent
from benchmarks.run import run
from benchmarks.training.data import CachedData
from benchmarks.treatment import read_setup
from benchmarks.unit import Unit

SPEC = "resnet8+width=0.25"


@pytest.fixture
def unit(tiny: Benchmark, digits: CachedData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Unit:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    two = with_world_size(tiny, 2)
    return Unit(read_setup(SPEC), two, 0, digits, "cpu", tmp_path / "runs", SPEC, 1, 2, 0.1)


@pytest.mark.slow
def test_two_processes_train_one_net_and_go_on_from_its_checkpoint(unit: Unit, tmp_path: Path) -> None:
    told: list[Progress] = []
    result = run(told.append, unit)
    assert [progress.done for progress in told] == [0, 1, 2]
    assert result.definition["recipe"]["world_size"] == 2
    assert result.images_seen == 2 * 64  # all of them, and none of them twice
    assert (unit.out / "weights" / f"{unit.id}.safetensors").exists()
    (unit.out / "weights" / f"{unit.id}.safetensors").unlink()
    again = run(told.append, unit)  # the checkpoint of the last epoch is there
    assert [progress.done for progress in told[3:]] == [2]
    assert (again.curve, again.per_class) == (result.curve, result.per_class)
    alone = run(silent, replace(unit, benchmark=with_world_size(unit.benchmark, 1), out=tmp_path / "alone"))
    assert alone.benchmark_id != result.benchmark_id
    assert alone.curve[0]["train_loss"] == pytest.approx(result.curve[0]["train_loss"], rel=0.2)


@pytest.mark.slow
def test_an_error_in_one_of_them_is_the_reason(unit: Unit) -> None:
    recipe = replace(unit.benchmark.recipe, lr=1e30, warmup_epochs=0)
    failing = replace(unit, benchmark=replace(unit.benchmark, recipe=recipe))
    with pytest.raises(TrainingTogetherFailed, match=r"^TrainingFailed: the loss is "):
        run_together(silent, failing)


@pytest.mark.slow
def test_none_of_them_outlives_a_child_that_is_ended(unit: Unit) -> None:
    recipe = replace(unit.benchmark.recipe, epochs=10_000)
    endless = replace(unit, benchmark=replace(unit.benchmark, recipe=recipe))
    family: list[psutil.Process] = []

    def look(number: int, progress: Progress) -> None:
        if progress.done == 1:
            family.extend(process for process in psutil.process_iter() if endless.id and _is_ours(process))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(engine.call_each("benchmarks.run:run", [(endless,)], 1, look))
    assert len(family) >= 3  # torchrun and its two
    _, alive = psutil.wait_procs(family, timeout=20)
    assert alive == []


def _is_ours(process: psutil.Process) -> bool:
    try:
        return "benchmarks.distributed" in process.cmdline()
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
