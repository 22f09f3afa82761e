from types import SimpleNamespace

import pytest
import torch

from benchmarks.training.distributed_context import SINGLE_PROCESS, DistributedContext
from benchmarks.training.running_epoch import RunningEpoch


def test_order_depends_on_seed_and_epoch_alone() -> None:
    def order(seed: int, epoch: int, context: DistributedContext = SINGLE_PROCESS) -> list[int]:
        indices: list[int] = RunningEpoch(seed, epoch, 50, torch.Generator(), context).order.tolist()
        return indices

    assert sorted(order(0, 0)) == list(range(50))
    torch.manual_seed(99)  # earlier random draws must not matter
    assert order(0, 0) == order(0, 0, DistributedContext(1, 2))
    assert len({tuple(order(seed, epoch)) for seed in range(3) for epoch in range(3)}) == 9


def test_processes_share_the_order_and_have_draws_of_their_own() -> None:
    epochs = [
        RunningEpoch(0, 1, 50, torch.Generator(), context)
        for context in (SINGLE_PROCESS, DistributedContext(0, 2), DistributedContext(1, 2), DistributedContext(2, 3))
    ]
    assert all(torch.equal(epoch.order, epochs[0].order) for epoch in epochs)
    draws = [tuple(torch.rand(4, generator=epoch.generator).tolist()) for epoch in epochs]
    assert draws[0] == draws[1]  # rank 0 makes the same draws as a single process
    assert len(set(draws)) == 3
    assert len({epoch.layers_seed for epoch in epochs}) == 3


def test_layers_draw_differently_in_each_epoch_and_identically_in_each_run() -> None:
    def draws(seed: int, epoch: int) -> tuple[float, ...]:
        RunningEpoch(seed, epoch, 5, torch.Generator(), SINGLE_PROCESS).start()
        return tuple(torch.rand(4).tolist())

    assert draws(0, 0) == draws(0, 0)
    assert len({draws(0, 0), draws(0, 1), draws(1, 0), draws(1, 1)}) == 4


def test_epoch_has_no_state_before_its_first_batch() -> None:
    epoch = RunningEpoch(0, 0, 5, torch.Generator(), SINGLE_PROCESS)
    epoch.start()
    assert epoch.tensors() == {}


def test_restored_epoch_continues_with_the_next_draws() -> None:
    epoch = RunningEpoch(0, 0, 5, torch.Generator(), SINGLE_PROCESS)
    epoch.start()
    torch.rand(3)
    torch.rand(7, generator=epoch.generator)
    epoch.batches, epoch.seconds = 2, 0.25
    epoch.loss_sum += 1.5
    epoch.correct += 3
    tensors = {name: tensor.clone() for name, tensor in epoch.tensors().items()}
    expected = torch.rand(4), torch.rand(4, generator=epoch.generator)
    restored = RunningEpoch(0, 0, 5, torch.Generator(), SINGLE_PROCESS)
    restored.restore(2, 0.25, tensors)
    torch.manual_seed(99)
    restored.start()
    assert torch.equal(torch.rand(4), expected[0])
    assert torch.equal(torch.rand(4, generator=restored.generator), expected[1])
    assert torch.equal(restored.order, epoch.order)
    assert (restored.loss_sum.item(), restored.correct.item()) == (1.5, 3)
    assert (restored.batches, restored.seconds) == (2, 0.25)


def test_timer_counts_the_time_between_start_and_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [10.0]
    monkeypatch.setattr("benchmarks.training.running_epoch.time", SimpleNamespace(perf_counter=lambda: now[0]))
    epoch = RunningEpoch(0, 0, 5, torch.Generator(), SINGLE_PROCESS)
    now[0] = 20.0
    epoch.start()
    now[0] = 23.0
    epoch.stop_timer()
    now[0] = 99.0  # time spent on saving
    epoch.start_timer()
    now[0] = 99.5
    epoch.stop_timer()
    assert epoch.seconds == 3.5
