import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

from arch.spec import parse
from benchmarks.definition.overrides import PREVIOUS, Distillation, RunConfig
from benchmarks.definition.recipe import Recipe
from benchmarks.execution.local import LocalExecutor
from benchmarks.execution.progress import Report
from benchmarks.training.checkpoint import Checkpoint, load_newest
from benchmarks.training.distillation import Distiller, weights_digest
from benchmarks.training.distributed_context import SINGLE_PROCESS, DistributedContext
from benchmarks.training.step import DeviceImages
from benchmarks.training.tensor_file import read_tensors, write_tensors
from benchmarks.training.trainer import Splits, TrainingOptions, train

RECIPE = Recipe(epochs=3, batch_size=8, lr=0.2, warmup_epochs=1, crop_padding=0, flip=0.0)
ADAMW = replace(RECIPE, optimizer="adamw", lr=0.01, clip_grad=0.1, ema_decay=0.5, grad_accum_steps=2)


def net() -> nn.Sequential:
    """Return a network without batch norm, because its statistics would differ between processes."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 16), nn.LayerNorm(16), nn.ReLU(), nn.Linear(16, 3))


def images(count: int) -> DeviceImages:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (count, 3, 2, 2), dtype=torch.uint8, generator=generator)
    return DeviceImages(pixels, torch.randint(3, (count,), generator=generator))


def train_net(
    context: DistributedContext, folder: Path | None, recipe: Recipe = RECIPE
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Train a network; return its final weights, and the numbers of its curve and final evaluation."""
    model, split = net(), images(35)
    checkpoint = Checkpoint(folder, {}) if folder else None
    options = TrainingOptions(context=context, checkpoint=checkpoint)
    curve, final = train(model, Splits(split, split), recipe, 3, options)
    epochs = [replace(epoch, train_seconds=0.0, eval_seconds=0.0) for epoch in curve]
    return model.state_dict(), {
        "losses": [loss for epoch in epochs for loss in (epoch.train_loss, epoch.loss)],
        "counts": [count for epoch in epochs for count in (epoch.train_top1, epoch.top1, epoch.images_seen)],
        "final": [final.top1, *final.per_class],
    }


def distill(context: DistributedContext, recipe: Recipe) -> str:
    """Train a student of a fixed teacher; return a hash of its weights."""
    torch.manual_seed(1)
    teacher, student = nn.Sequential(nn.Flatten(), nn.Linear(12, 3)), net()
    distiller = Distiller(Distillation(RunConfig(parse("resnet8"))), teacher, recipe.epochs)
    train(student, Splits(images(35), images(35)), recipe, 3, TrainingOptions(context=context, distiller=distiller))
    return weights_digest(student)


def run_process(report: Report, rank: int, folder: Path) -> None:
    """Run everything that needs two processes in one of them, and write its results to a file."""
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    context = DistributedContext(rank, 2)
    sums = torch.tensor(rank + 1.0, dtype=torch.float64), torch.tensor([10 * rank, 1])
    context.all_reduce(*sums)
    computed_by: list[int] = []
    shared = context.compute_once(
        lambda: computed_by.append(rank) or {"rank": rank, "evaluation": (1.5, None)}  # type: ignore[func-returns-value]
    )
    weights, numbers = train_net(context, folder / f"checkpoints-{rank}")
    model = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(12), nn.Linear(12, 3))
    distiller = Distiller(Distillation(PREVIOUS), None, RECIPE.epochs)
    train(model, Splits(images(35), images(35)), RECIPE, 3, TrainingOptions(context=context, distiller=distiller))
    assert distiller.teacher is not None
    distilled = distill(context, ADAMW)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("benchmarks.training.trainer.with_teacher_logits", lambda images, step: images)
        distilled_in_each_step = distill(context, ADAMW)
    results = {
        "teacher": weights_digest(distiller.teacher),
        "distilled": [distilled, distilled_in_each_step],
        "shard": context.shard(torch.arange(6)).tolist(),
        "sums": [tensor.tolist() for tensor in sums],
        "computed_by": computed_by,
        "shared": repr(shared),
        **numbers,
    }
    write_tensors(folder / f"{rank}.safetensors", weights, results)
    write_tensors(folder / f"adamw-{rank}.safetensors", *train_net(context, None, ADAMW))
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run two processes, and return the folder with their results."""
    folder = tmp_path_factory.mktemp("context")
    with LocalExecutor().session(runs_per_device=2) as session:
        futures = [session.submit(f"{__name__}:run_process", rank, folder) for rank in range(2)]
        while session.wait():
            pass
    assert [future.result() for future in futures] == [None, None]
    return folder


def test_single_process_has_the_whole_batch_and_shares_nothing() -> None:
    model, batch, total = net(), torch.arange(5), torch.tensor(3.0)
    assert DistributedContext(0, 1) == SINGLE_PROCESS
    assert SINGLE_PROCESS.wrap(model) is model
    assert SINGLE_PROCESS.shard(batch) is batch
    SINGLE_PROCESS.all_reduce(total)
    assert total.item() == 3.0
    assert SINGLE_PROCESS.compute_once(lambda: model) is model


@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_shards_are_equal_parts_of_the_batch(size: int) -> None:
    shards = [DistributedContext(rank, size).shard(torch.arange(12)) for rank in range(size)]
    assert [len(shard) for shard in shards] == [12 // size] * size
    assert torch.equal(torch.cat(shards), torch.arange(12))


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_two_processes_share_sums_and_the_first_ones_results(rank: int, folder: Path) -> None:
    results = read_tensors(folder / f"{rank}.safetensors")[1]
    assert results["shard"] == [[0, 1, 2], [3, 4, 5]][rank]
    assert results["sums"] == [3.0, [10, 2]]
    assert results["computed_by"] == [[0], []][rank]
    assert results["shared"] == repr({"rank": 0, "evaluation": (1.5, None)})


@pytest.mark.slow
def test_two_processes_have_the_same_weights_and_metrics(folder: Path) -> None:
    (weights, numbers), (others, other_numbers) = (read_tensors(folder / f"{rank}.safetensors") for rank in range(2))
    assert weights.keys() == others.keys()
    assert all(torch.equal(weights[name], others[name]) for name in weights)
    names = ("losses", "counts", "final")
    assert [numbers[name] for name in names] == [other_numbers[name] for name in names]


@pytest.mark.slow
def test_two_processes_have_the_same_previous_teacher(folder: Path) -> None:
    one, other = (read_tensors(folder / f"{rank}.safetensors")[1]["teacher"] for rank in range(2))
    assert one == other  # including norm statistics, which depend on each process's images


@pytest.mark.slow
def test_two_processes_may_compute_the_logits_of_a_fixed_teacher_once(folder: Path) -> None:
    digests = [read_tensors(folder / f"{rank}.safetensors")[1]["distilled"] for rank in range(2)]
    assert len({digest for pair in digests for digest in pair}) == 1


@pytest.mark.slow
def test_two_processes_train_as_one_does(folder: Path) -> None:
    expected, alone = train_net(SINGLE_PROCESS, None)
    weights, together = read_tensors(folder / "0.safetensors")
    torch.testing.assert_close(weights, dict(expected))
    assert together["losses"] == pytest.approx(alone["losses"], rel=1e-4)
    assert together["counts"] == pytest.approx(alone["counts"])
    assert together["final"] == pytest.approx(alone["final"])
    assert json.dumps(alone["losses"][0]) != json.dumps(alone["losses"][-2])  # the loss changes during training


@pytest.mark.slow
def test_two_processes_accumulate_gradients_and_average_weights_as_one_does(folder: Path) -> None:
    expected, alone = train_net(SINGLE_PROCESS, None, replace(ADAMW, grad_accum_steps=1))
    for rank in range(2):
        weights, together = read_tensors(folder / f"adamw-{rank}.safetensors")
        torch.testing.assert_close(weights, dict(expected))
        assert together["losses"] == pytest.approx(alone["losses"], rel=1e-4)


@pytest.mark.slow
def test_only_the_first_process_saves_checkpoints(folder: Path) -> None:
    loaded = load_newest(folder / "checkpoints-0")
    assert loaded is not None
    assert (loaded[1]["epoch"], loaded[1]["batch"]) == (3, 0)
    weights = read_tensors(folder / "0.safetensors")[0]
    assert all(torch.equal(loaded[0][f"model.{name}"], weights[name]) for name in weights)
    assert not (folder / "checkpoints-1").exists()
