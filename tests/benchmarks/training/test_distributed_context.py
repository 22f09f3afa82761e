import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from benchmarks.definition.overrides import PREVIOUS, Distillation
from benchmarks.definition.recipe import Recipe
from benchmarks.execution.progress import silent
from benchmarks.training.checkpoint import Checkpoint, newest, read_tensors, write_tensors
from benchmarks.training.distillation import Distiller, weights_digest
from benchmarks.training.distributed_context import SINGLE_PROCESS, DistributedContext
from benchmarks.training.step import DeviceImages
from benchmarks.training.trainer import train

ROOT = Path(__file__).parent.parent.parent.parent
RECIPE = Recipe(epochs=3, batch_size=8, lr=0.2, warmup_epochs=1, crop_padding=0, flip=0.0)


def net() -> nn.Sequential:
    """Without batch norm, whose statistics are each process's own."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 16), nn.LayerNorm(16), nn.ReLU(), nn.Linear(16, 3))


def images(count: int) -> DeviceImages:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (count, 3, 2, 2), dtype=torch.uint8, generator=generator)
    return DeviceImages(pixels, torch.randint(3, (count,), generator=generator))


def trained(context: DistributedContext, folder: Path | None) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Weights, and the numbers of curve and evaluation."""
    model, split = net(), images(35)
    checkpoint = Checkpoint(folder, {}) if folder else None
    curve, final = train(model, split, split, RECIPE, 3, checkpoint, silent, "eager", context)
    lines = [replace(line, train_seconds=0.0, eval_seconds=0.0) for line in curve]
    return model.state_dict(), {
        "losses": [loss for line in lines for loss in (line.train_loss, line.loss)],
        "right": [right for line in lines for right in (line.train_top1, line.top1, line.images_seen)],
        "final": [final.top1, *final.per_class],
    }


# What follows runs in the two processes, which import this file as `test_world`.


def main(rank: int, folder: Path) -> None:
    """Everything that two processes do together, into a file for each."""
    import torch.distributed as dist

    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    context = DistributedContext(rank, 2)
    sums = torch.tensor(rank + 1.0, dtype=torch.float64), torch.tensor([10 * rank, 1])
    context.add_up(*sums)
    computed: list[int] = []
    shared = context.once(lambda: computed.append(rank) or {"by": rank, "evaluation": (1.5, None)})  # type: ignore[func-returns-value]
    weights, numbers = trained(context, folder / f"checkpoints-{rank}")
    model = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(12), nn.Linear(12, 3))
    itself = Distiller(Distillation(PREVIOUS), None, RECIPE.epochs)
    train(model, images(35), images(35), RECIPE, 3, None, silent, "eager", context, itself)
    assert itself.teacher is not None
    found = {
        "teacher": weights_digest(itself.teacher),
        "part": context.part(torch.arange(6)).tolist(),
        "sums": [tensor.tolist() for tensor in sums],
        "computed": computed,
        "shared": repr(shared),
        **numbers,
    }
    write_tensors(folder / f"{rank}.safetensors", weights, found)
    dist.destroy_process_group()


# What follows runs here.


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes have left."""
    folder = tmp_path_factory.mktemp("context")
    code = "import sys, test_world; test_world.main(int(sys.argv[1]), test_world.Path(sys.argv[2]))"
    paths = os.pathsep.join(map(str, [ROOT, Path(__file__).parent]))
    environment = {**os.environ, "PYTHONPATH": paths, "GLOO_SOCKET_IFNAME": "lo"}
    processes = [
        subprocess.Popen([sys.executable, "-c", code, str(rank), str(folder)], cwd=ROOT, env=environment)
        for rank in range(2)
    ]
    try:
        assert [process.wait(timeout=300) for process in processes] == [0, 0]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    return folder


def test_alone_a_process_has_all_and_shares_nothing() -> None:
    model, batch, total = net(), torch.arange(5), torch.tensor(3.0)
    assert DistributedContext(0, 1) == SINGLE_PROCESS
    assert SINGLE_PROCESS.wrap(model) is model
    assert SINGLE_PROCESS.part(batch) is batch
    SINGLE_PROCESS.add_up(total)
    assert total.item() == 3.0
    assert SINGLE_PROCESS.once(lambda: model) is model


@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_the_parts_are_the_batch(size: int) -> None:
    parts = [DistributedContext(rank, size).part(torch.arange(12)) for rank in range(size)]
    assert [len(part) for part in parts] == [12 // size] * size
    assert torch.equal(torch.cat(parts), torch.arange(12))


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_two_processes_share_sums_and_what_the_first_computes(rank: int, folder: Path) -> None:
    found = read_tensors(folder / f"{rank}.safetensors")[1]
    assert found["part"] == [[0, 1, 2], [3, 4, 5]][rank]
    assert found["sums"] == [3.0, [10, 2]]
    assert found["computed"] == [[0], []][rank]
    assert found["shared"] == repr({"by": 0, "evaluation": (1.5, None)})


@pytest.mark.slow
def test_two_processes_end_in_one_net(folder: Path) -> None:
    (one, numbers), (two, others) = (read_tensors(folder / f"{rank}.safetensors") for rank in range(2))
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)
    names = ("losses", "right", "final")
    assert [numbers[name] for name in names] == [others[name] for name in names]


@pytest.mark.slow
def test_two_processes_that_teach_themselves_have_one_teacher(folder: Path) -> None:
    one, two = (read_tensors(folder / f"{rank}.safetensors")[1]["teacher"] for rank in range(2))
    assert one == two  # the statistics of its norms too, which each process has of its own images


@pytest.mark.slow
def test_two_processes_train_as_one_does(folder: Path) -> None:
    expected, alone = trained(SINGLE_PROCESS, None)
    weights, together = read_tensors(folder / "0.safetensors")
    torch.testing.assert_close(weights, dict(expected))
    assert together["losses"] == pytest.approx(alone["losses"], rel=1e-4)
    assert together["right"] == pytest.approx(alone["right"])
    assert together["final"] == pytest.approx(alone["final"])
    assert json.dumps(alone["losses"][0]) != json.dumps(alone["losses"][-2])  # it learns at all


@pytest.mark.slow
def test_of_two_processes_only_the_first_keeps_the_state(folder: Path) -> None:
    loaded = newest(folder / "checkpoints-0")
    assert loaded is not None
    assert (loaded[1]["epoch"], loaded[1]["batch"]) == (3, 0)
    weights = read_tensors(folder / "0.safetensors")[0]
    assert all(torch.equal(loaded[0][f"model.{name}"], weights[name]) for name in weights)
    assert not (folder / "checkpoints-1").exists()
