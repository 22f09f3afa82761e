import json
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from benchmarks.definition.recipe import Recipe
from benchmarks.training.distributed_context import SINGLE_PROCESS, DistributedContext
from benchmarks.training.seeds import derive_seed
from benchmarks.training.state import EpochMetrics, RunningEpoch, TrainingState
from benchmarks.training.step import TrainingStep

CPU = torch.device("cpu")
RECIPE = Recipe(epochs=2, batch_size=4, lr=0.1, warmup_epochs=1, crop_padding=1)
LINE = EpochMetrics(1, 0.1 + 0.2, 50.0, 1 / 3, 25.0, 100.0, 8, 0.7, 0.1)


def net(seed: int) -> nn.Sequential:
    torch.manual_seed(seed)
    layers = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Dropout(0.5), nn.Linear(4, 2)
    return nn.Sequential(*layers).to(memory_format=torch.channels_last)


def training(seed: int, recipe: Recipe = RECIPE) -> TrainingState:
    return TrainingState(TrainingStep(net(seed), recipe, steps_per_epoch=2), seed=5, images=9)


def train_batch(state: TrainingState) -> None:
    """One batch of noise that follows from where the epoch stands."""
    running = state.epoch
    chosen = running.order[running.batches * 4 :][:4]
    images = (chosen[:, None, None, None] * torch.arange(27).reshape(3, 3, 3)).to(torch.uint8)
    loss, right = state.step(images, chosen % 2, running.epoch * 2 + running.batches, running.generator)
    running.loss_sum += loss
    running.right += right
    running.batches += 1


def trained(batches: int, recipe: Recipe = RECIPE) -> TrainingState:
    state = training(0, recipe)
    state.epoch.enter()
    for _ in range(batches):
        train_batch(state)
    return state


def copied(state: TrainingState) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """As a file would keep it."""
    return {name: tensor.clone() for name, tensor in state.tensors().items()}, json.loads(json.dumps(state.numbers()))


def same(one: dict[str, Tensor], two: dict[str, Tensor]) -> bool:
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def test_seeds_are_told_apart_by_purpose() -> None:
    seeds = [derive_seed(0), derive_seed(1), derive_seed(0, 1), derive_seed(0, 1, "images"), derive_seed(0, "layers")]
    seeds += [derive_seed(0, 1, "images", 1), derive_seed(0, 11), derive_seed(0, 1, 1), derive_seed(-1)]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert derive_seed(0, 1, "images") == derive_seed(0, 1, "images")


def test_an_epochs_order_follows_from_seed_and_epoch() -> None:
    def order(seed: int, epoch: int, context: DistributedContext = SINGLE_PROCESS) -> list[int]:
        places: list[int] = RunningEpoch(seed, epoch, 50, CPU, context).order.tolist()
        return places

    assert sorted(order(0, 0)) == list(range(50))
    torch.manual_seed(99)  # what was drawn before does not matter
    assert order(0, 0) == order(0, 0, DistributedContext(1, 2))
    assert len({tuple(order(seed, epoch)) for seed in range(3) for epoch in range(3)}) == 9


def test_processes_of_one_training_share_the_order_and_draw_for_themselves() -> None:
    epochs = [
        RunningEpoch(0, 1, 50, CPU, context)
        for context in (SINGLE_PROCESS, DistributedContext(0, 2), DistributedContext(1, 2), DistributedContext(2, 3))
    ]
    assert all(torch.equal(epoch.order, epochs[0].order) for epoch in epochs)
    draws = [tuple(torch.rand(4, generator=epoch.generator).tolist()) for epoch in epochs]
    assert draws[0] == draws[1]  # the first one's are those of a process alone
    assert len(set(draws)) == 3
    assert len({epoch.layers_seed for epoch in epochs}) == 3


def test_layers_draw_anew_in_each_epoch_and_the_same_in_each_run() -> None:
    def draws(seed: int, epoch: int) -> tuple[float, ...]:
        RunningEpoch(seed, epoch, 5, CPU, SINGLE_PROCESS).enter()
        return tuple(torch.rand(4).tolist())

    assert draws(0, 0) == draws(0, 0)
    assert len({draws(0, 0), draws(0, 1), draws(1, 0), draws(1, 1)}) == 4


def test_before_its_first_batch_an_epoch_has_nothing_to_keep() -> None:
    epoch = RunningEpoch(0, 0, 5, CPU, SINGLE_PROCESS)
    epoch.enter()
    assert epoch.tensors() == {}


def test_an_epoch_goes_on_with_the_draws_that_were_next() -> None:
    epoch = RunningEpoch(0, 0, 5, CPU, SINGLE_PROCESS)
    epoch.enter()
    torch.rand(3)
    torch.rand(7, generator=epoch.generator)
    epoch.batches, epoch.seconds = 2, 0.25
    epoch.loss_sum += 1.5
    epoch.right += 3
    tensors = {name: tensor.clone() for name, tensor in epoch.tensors().items()}
    expected = torch.rand(4), torch.rand(4, generator=epoch.generator)
    again = RunningEpoch(0, 0, 5, CPU, SINGLE_PROCESS)
    again.restore(2, 0.25, tensors)
    torch.manual_seed(99)
    again.enter()
    assert torch.equal(torch.rand(4), expected[0])
    assert torch.equal(torch.rand(4, generator=again.generator), expected[1])
    assert torch.equal(again.order, epoch.order)
    assert (again.loss_sum.item(), again.right.item(), again.batches, again.seconds) == (1.5, 3, 2, 0.25)


def test_only_the_time_between_start_and_stop_is_an_epochs(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [10.0]
    monkeypatch.setattr("benchmarks.training.state.time", SimpleNamespace(perf_counter=lambda: now[0]))
    epoch = RunningEpoch(0, 0, 5, CPU, SINGLE_PROCESS)
    now[0] = 20.0
    epoch.enter()
    now[0] = 23.0
    epoch.stop_clock()
    now[0] = 99.0  # saving
    epoch.start_clock()
    now[0] = 99.5
    epoch.stop_clock()
    assert epoch.seconds == 3.5


@pytest.mark.parametrize("batches", [0, 1, 2])
def test_a_state_comes_back_exactly(batches: int) -> None:
    saved, loaded = trained(batches), training(1)
    saved.curve.append(LINE)
    kept = copied(saved)
    loaded.restore(kept)
    loaded.epoch.enter()
    assert same(loaded.tensors(), kept[0]) or batches == 0
    assert same(loaded.step.model.state_dict(), saved.step.model.state_dict())
    assert loaded.numbers() == kept[1]
    assert loaded.curve == [LINE]
    assert loaded.position(2) == saved.position(2) == 3 + batches


def test_a_restored_state_trains_on_as_the_saved_one() -> None:
    saved, loaded = trained(1), training(1)
    kept = copied(saved)
    train_batch(saved)
    loaded.restore(kept)
    loaded.epoch.enter()
    train_batch(loaded)
    assert same(loaded.tensors(), saved.tensors())


def test_a_state_is_named_by_whose_it_is() -> None:
    names = set(trained(1).tensors())
    momenta = {"0.weight", "0.bias", "1.weight", "1.bias", "4.weight", "4.bias"}
    statistics = {"1.running_mean", "1.running_var", "1.num_batches_tracked"}
    assert names == {
        *(f"model.{name}" for name in momenta | statistics),
        *(f"momentum.{name}" for name in momenta),
        *("epoch.loss_sum", "epoch.right", "random.images", "random.layers"),
    }


def test_without_momentum_there_is_none_to_keep() -> None:
    saved = trained(1, replace(RECIPE, momentum=0.0))
    assert not any(name.startswith("momentum.") for name in saved.tensors())
    loaded = training(1, replace(RECIPE, momentum=0.0))
    loaded.restore(copied(saved))
    assert same(loaded.step.model.state_dict(), saved.step.model.state_dict())


def contiguous(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """As a file gives them back."""
    return {name: tensor.contiguous() for name, tensor in tensors.items()}


def test_momenta_and_weights_have_the_memory_format_of_training() -> None:
    tensors, numbers = copied(trained(1))
    loaded = training(1)
    loaded.restore((contiguous(tensors), numbers))
    kernel = loaded.step.model.get_parameter("0.weight")
    for tensor in (kernel, loaded.step.optimizer.state[kernel]["momentum_buffer"]):
        assert tensor.is_contiguous(memory_format=torch.channels_last)
        assert not tensor.is_contiguous()
    assert torch.equal(loaded.step.optimizer.state[kernel]["momentum_buffer"], tensors["momentum.0.weight"])


def test_what_was_loaded_is_not_trained_on_in_place() -> None:
    tensors, numbers = copied(trained(1))
    before = {name: tensor.clone() for name, tensor in tensors.items()}
    loaded = training(1)
    loaded.restore((tensors, numbers))
    loaded.epoch.enter()
    train_batch(loaded)
    assert same(tensors, before)


def test_the_state_of_the_gradient_scaler_comes_back() -> None:
    saved, loaded = trained(1), training(1)
    saved.step.scaler = torch.amp.GradScaler("cpu", init_scale=8.0, growth_interval=5)
    loaded.step.scaler = torch.amp.GradScaler("cpu", init_scale=2.0)
    loaded.restore(copied(saved))
    assert loaded.step.scaler.state_dict() == saved.step.scaler.state_dict()


def one_weight(tensors: dict[str, Tensor]) -> None:
    del tensors["model.4.bias"]


def one_momentum(tensors: dict[str, Tensor]) -> None:
    del tensors["momentum.4.bias"]


def the_order(tensors: dict[str, Tensor]) -> None:
    del tensors["random.images"]


def another_shape(tensors: dict[str, Tensor]) -> None:
    tensors["model.4.bias"] = torch.zeros(3)


@pytest.mark.parametrize("lack", [one_weight, one_momentum, the_order, another_shape])
def test_a_state_that_lacks_something_is_not_gone_on_from(lack: Callable[[dict[str, Tensor]], None]) -> None:
    kept = copied(trained(1))
    lack(kept[0])
    with pytest.raises((KeyError, ValueError)):
        training(1).restore(kept)
