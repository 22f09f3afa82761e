import json
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from benchmarks.definition.recipe import Recipe
from benchmarks.training.state import EpochMetrics, TrainingState
from benchmarks.training.step import TrainingStep
from benchmarks.training.tensor_file import TensorsAndHeader

RECIPE = Recipe(epochs=2, batch_size=4, lr=0.1, warmup_epochs=1, crop_padding=1)
METRICS = EpochMetrics(1, 0.1 + 0.2, 50.0, 1 / 3, 25.0, 100.0, 8, 0.7, 0.1)


def net(seed: int) -> nn.Sequential:
    torch.manual_seed(seed)
    layers = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Dropout(0.5), nn.Linear(4, 2)
    return nn.Sequential(*layers).to(memory_format=torch.channels_last)


def untrained_state(seed: int, recipe: Recipe = RECIPE) -> TrainingState:
    return TrainingState(TrainingStep(net(seed), recipe, steps_per_epoch=2), seed=5, num_images=9)


def train_batch(state: TrainingState) -> None:
    """Train on one batch, with images that depend on the position in the epoch."""
    running = state.epoch
    indices = running.order[running.batches * 4 :][:4]
    images = (indices[:, None, None, None] * torch.arange(27).reshape(3, 3, 3)).to(torch.uint8)
    loss, correct = state.step(images, indices % 2, running.epoch * 2 + running.batches)
    running.loss_sum += loss
    running.correct += correct
    running.batches += 1


def trained_state(batches: int, recipe: Recipe = RECIPE) -> TrainingState:
    state = untrained_state(0, recipe)
    state.epoch.start()
    for _ in range(batches):
        train_batch(state)
    return state


def copy_of(state: TrainingState) -> TensorsAndHeader:
    """Return a copy of the tensors and numbers that a checkpoint file would contain."""
    return {name: tensor.clone() for name, tensor in state.tensors().items()}, json.loads(json.dumps(state.numbers()))


def equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("batches", [0, 1, 2])
def test_restored_state_equals_the_saved_one(batches: int) -> None:
    saved, restored = trained_state(batches), untrained_state(1)
    saved.curve.append(METRICS)
    copy = copy_of(saved)
    restored.restore(copy)
    restored.epoch.start()
    assert equal(restored.tensors(), copy[0]) or batches == 0
    assert equal(restored.step.model.state_dict(), saved.step.model.state_dict())
    assert restored.numbers() == copy[1]
    assert restored.curve == [METRICS]
    assert restored.position == saved.position == 3 + batches


def test_restored_state_trains_like_the_saved_one() -> None:
    saved, restored = trained_state(1), untrained_state(1)
    copy = copy_of(saved)
    train_batch(saved)
    restored.restore(copy)
    restored.epoch.start()
    train_batch(restored)
    assert equal(restored.tensors(), saved.tensors())


def test_names_of_tensors() -> None:
    names = set(trained_state(1).tensors())
    parameters = {"0.weight", "0.bias", "1.weight", "1.bias", "4.weight", "4.bias"}
    statistics = {"1.running_mean", "1.running_var", "1.num_batches_tracked"}
    assert names == {
        *(f"model.{name}" for name in parameters | statistics),
        *(f"momentum.{name}" for name in parameters),
        *("epoch.loss_sum", "epoch.correct", "random.images", "random.layers"),
    }


def test_without_momentum_no_momenta_are_saved() -> None:
    saved = trained_state(1, replace(RECIPE, momentum=0.0))
    assert not any(name.startswith("momentum.") for name in saved.tensors())
    restored = untrained_state(1, replace(RECIPE, momentum=0.0))
    restored.restore(copy_of(saved))
    assert equal(restored.step.model.state_dict(), saved.step.model.state_dict())


def test_restored_tensors_have_the_memory_format_of_the_training() -> None:
    tensors, numbers = copy_of(trained_state(1))
    restored = untrained_state(1)
    contiguous = {name: tensor.contiguous() for name, tensor in tensors.items()}  # like tensors loaded from a file
    restored.restore((contiguous, numbers))
    kernel = restored.step.model.get_parameter("0.weight")
    for tensor in (kernel, restored.step.optimizer.state[kernel]["momentum_buffer"]):
        assert tensor.is_contiguous(memory_format=torch.channels_last)
        assert not tensor.is_contiguous()
    assert torch.equal(restored.step.optimizer.state[kernel]["momentum_buffer"], tensors["momentum.0.weight"])


def test_training_does_not_change_the_loaded_tensors() -> None:
    tensors, numbers = copy_of(trained_state(1))
    before = {name: tensor.clone() for name, tensor in tensors.items()}
    restored = untrained_state(1)
    restored.restore((tensors, numbers))
    restored.epoch.start()
    train_batch(restored)
    assert equal(tensors, before)


def test_gradient_scaler_is_restored() -> None:
    saved, restored = trained_state(1), untrained_state(1)
    saved.step.scaler = torch.amp.GradScaler("cpu", init_scale=8.0, growth_interval=5)
    restored.step.scaler = torch.amp.GradScaler("cpu", init_scale=2.0)
    restored.restore(copy_of(saved))
    assert restored.step.scaler.state_dict() == saved.step.scaler.state_dict()


def remove_weight(tensors: dict[str, Tensor]) -> None:
    del tensors["model.4.bias"]


def remove_momentum(tensors: dict[str, Tensor]) -> None:
    del tensors["momentum.4.bias"]


def remove_generator(tensors: dict[str, Tensor]) -> None:
    del tensors["random.images"]


def change_shape(tensors: dict[str, Tensor]) -> None:
    tensors["model.4.bias"] = torch.zeros(3)


@pytest.mark.parametrize("change", [remove_weight, remove_momentum, remove_generator, change_shape])
def test_state_that_does_not_fit_is_refused(change: Callable[[dict[str, Tensor]], None]) -> None:
    copy = copy_of(trained_state(1))
    change(copy[0])
    with pytest.raises((KeyError, ValueError)):
        untrained_state(1).restore(copy)
