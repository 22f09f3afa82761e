"""Put faults into the training step, to test that fake CUDA tensors make them visible."""

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor

from arch.spec import parse
from benchmarks.training import augment, batch_augmentation, step, trainer
from benchmarks.training.step import DeviceImages, TrainingStep
from tests.fake_cuda.device import DEVICE, fake_cuda
from tests.fake_cuda.recorder import Recorder
from tests.fake_cuda.training import DEFAULT_IMAGES, RECIPE, problems, record_step

RESNET8 = parse("resnet8").variant()


@pytest.fixture(autouse=True)
def _fake_cuda() -> Iterator[None]:
    with fake_cuda():
        yield


def change_batch(monkeypatch: pytest.MonkeyPatch, change: Callable[[Tensor], Tensor]) -> None:
    """Change the normalized batch in every step."""
    normalize = augment.normalize
    monkeypatch.setattr(batch_augmentation, "normalize", lambda *arguments: change(normalize(*arguments)))


def problems_of_step() -> set[str]:
    return problems(record_step(DEFAULT_IMAGES.build(RESNET8)))


def test_a_step_without_faults() -> None:
    assert problems_of_step() == set()


def test_a_tensor_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    change_batch(monkeypatch, lambda batch: batch - torch.tensor([0.1, 0.2, 0.3]).view(1, 3, 1, 1))
    with pytest.raises(RuntimeError, match=r"cuda:0.*cpu|cpu.*cuda:0"):
        problems_of_step()


def test_a_constant_that_every_step_copies_to_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    change_batch(monkeypatch, lambda batch: batch - torch.tensor([0.1, 0.2, 0.3], device=DEVICE).view(1, 3, 1, 1))
    assert problems_of_step() == {"host waits: copy to the GPU"}


@pytest.mark.parametrize("shape", [(), (1, 3, 1, 1)])
def test_a_float64_constant(shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    constant = torch.full(shape, 0.5, dtype=torch.float64, device=DEVICE)
    change_batch(monkeypatch, lambda batch: (batch * constant).float())
    assert "float64: mul" in problems_of_step()


@pytest.mark.parametrize(
    ("read", "reason"),
    [
        (lambda loss: loss.item(), "_local_scalar_dense"),
        (lambda loss: bool(loss.isfinite()), "_local_scalar_dense"),
        (lambda loss: loss.cpu(), "copy to the CPU"),
        (lambda loss: loss.tolist(), "copy to the CPU"),
        (lambda loss: loss.expand(2)[loss.expand(2).isfinite()], "boolean mask"),
        (lambda loss: torch.cuda.synchronize(), "synchronize"),
    ],
)
def test_a_read_in_the_loop(read: Callable[[Tensor], object], reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    call = TrainingStep.__call__

    def mutant(self: TrainingStep, *arguments: Any) -> tuple[Tensor, Tensor]:
        loss, correct = call(self, *arguments)
        read(loss)
        return loss, correct

    monkeypatch.setattr(TrainingStep, "__call__", mutant)
    training = TrainingStep(DEFAULT_IMAGES.build(RESNET8).to(DEVICE), RECIPE, 3)
    with Recorder() as recorder:
        trainer.train_epoch(training, DEFAULT_IMAGES.random(12), 3)
    at_the_end = {"_local_scalar_dense": 2, "synchronize": 1}
    assert recorder.synchronizations[reason] == 3 + at_the_end.get(reason, 0)


def test_labels_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    take = DeviceImages.take

    def mutant(self: DeviceImages, indices: Tensor) -> DeviceImages:
        taken = take(self, indices)
        return DeviceImages(taken.images, taken.labels.cpu())

    monkeypatch.setattr(DeviceImages, "take", mutant)
    with pytest.raises(RuntimeError, match=r"cuda:0.*cpu|cpu.*cuda:0"):
        problems_of_step()


def test_no_autocast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(step, "autocast", lambda recipe, device: nullcontext())
    assert {"convolution in torch.float32", "mm in torch.float32"} <= problems_of_step()


def test_loss_in_half_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(step, "create_loss", lambda recipe, device: lambda logits, targets: logits.mean())
    with pytest.raises(AssertionError, match="float16"):
        problems_of_step()


def test_an_optimizer_that_is_not_fused(monkeypatch: pytest.MonkeyPatch) -> None:
    class SGD(torch.optim.SGD):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs | {"fused": False})

    monkeypatch.setattr(torch.optim, "SGD", SGD)
    assert problems_of_step() == {"host waits: _local_scalar_dense"}


def test_an_operator_that_is_not_deterministic(monkeypatch: pytest.MonkeyPatch) -> None:
    change_batch(
        monkeypatch, lambda batch: batch.put_(torch.zeros(1, dtype=torch.int64, device=DEVICE), batch[0, 0, 0, :1])
    )
    assert problems_of_step() == {"not deterministic: put_"}


def test_images_in_nchw(monkeypatch: pytest.MonkeyPatch) -> None:
    change_batch(monkeypatch, lambda batch: batch.contiguous())
    assert "convolution: not channels last" in problems_of_step()
    assert "layout change: clone" in problems_of_step()
