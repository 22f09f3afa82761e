from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from arch.models import build
from benchmarks.studies.training_loops.airbench_style import airbench_style
from benchmarks.studies.training_loops.bare import bare
from benchmarks.studies.training_loops.dataloader import dataloader
from benchmarks.studies.training_loops.ours import ours
from benchmarks.studies.training_loops.workload import EpochTimer, Workload

Peer = Callable[[Workload], EpochTimer]
PEERS: dict[str, Peer] = {"ours": ours, "bare": bare, "dataloader": dataloader, "airbench_style": airbench_style}


@pytest.fixture(autouse=True)
def _as_before() -> Any:
    """Our own epoch makes its process deterministic."""
    yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture
def nets(monkeypatch: pytest.MonkeyPatch) -> list[nn.Module]:
    """The nets that were built."""
    built: list[nn.Module] = []

    def note(*arguments: Any) -> nn.Module:
        built.append(build(*arguments))
        return built[-1]

    monkeypatch.setattr("benchmarks.studies.training_loops.workload.build", note)
    return built


@pytest.mark.parametrize("peer", PEERS.values(), ids=PEERS)
def test_every_peer_trains_an_epoch_and_says_its_seconds(peer: Peer, workload: Workload, nets: list[nn.Module]) -> None:
    epoch = peer(workload)
    (net,) = nets
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    assert epoch() > 0
    after = net.state_dict()
    assert all(not torch.equal(before[name], after[name]) for name, _ in net.named_parameters())
    assert int(after["stem.1.num_batches_tracked"]) == workload.steps == 2


@pytest.mark.parametrize("peer", PEERS.values(), ids=PEERS)
def test_every_peer_goes_on_with_the_same_net(peer: Peer, workload: Workload, nets: list[nn.Module]) -> None:
    epoch = peer(workload)
    epoch()
    epoch()
    (net,) = nets
    assert int(net.state_dict()["stem.1.num_batches_tracked"]) == 4


@pytest.mark.parametrize("peer", PEERS.values(), ids=PEERS)
def test_every_peer_trains_on_whole_batches_of_normal_images(
    peer: Peer, workload: Workload, nets: list[nn.Module]
) -> None:
    white, recipe = np.full_like(workload.images, 255), replace(workload.recipe, crop_padding=0)
    epoch = peer(replace(workload, images=white, recipe=recipe))
    seen: list[torch.Tensor] = []
    nets[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach().clone()))
    epoch()
    assert [batch.shape for batch in seen] == [(4, 3, 32, 32)] * 2
    assert all(torch.equal(batch, torch.ones_like(batch)) for batch in seen)  # (1 - 0.5) / 0.5


@pytest.mark.parametrize("peer", [bare, dataloader, airbench_style])
def test_peers_run_with_torchs_defaults_and_leave_our_settings(peer: Peer, workload: Workload) -> None:
    torch.use_deterministic_algorithms(True, warn_only=True)
    peer(workload)()
    assert torch.are_deterministic_algorithms_enabled()
    assert torch.is_deterministic_algorithms_warn_only_enabled()


def test_settings_come_back_after_an_error(workload: Workload) -> None:
    found: list[bool] = []

    def fail() -> None:
        found.append(torch.are_deterministic_algorithms_enabled())
        raise ZeroDivisionError

    torch.use_deterministic_algorithms(True, warn_only=True)
    with pytest.raises(ZeroDivisionError):
        workload.time(fail)
    assert found == [False]
    assert torch.are_deterministic_algorithms_enabled()


def test_our_own_epoch_is_deterministic(workload: Workload, nets: list[nn.Module]) -> None:
    for _ in range(2):
        ours(workload)()
    one, two = (net.state_dict() for net in nets)
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert torch.are_deterministic_algorithms_enabled()


def test_our_epoch_is_executed_as_asked(workload: Workload, monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[str] = []

    def executable(model: nn.Module, compile_mode: str) -> nn.Module:
        found.append(compile_mode)
        return model

    monkeypatch.setattr("benchmarks.training.step.compile_model", executable)
    partial(ours, compile_mode="compile")(workload)
    ours(workload)
    assert found == ["compile", "eager"]


def test_every_net_starts_with_the_same_weights(workload: Workload) -> None:
    one, two = workload.net(), workload.net()
    assert all(torch.equal(tensor, two.state_dict()[name]) for name, tensor in one.state_dict().items())
    assert one.get_parameter("stem.0.weight").is_contiguous(memory_format=torch.channels_last)


def test_tensors_hold_the_images_channels_last(workload: Workload) -> None:
    images, labels = workload.tensors()
    assert images.is_contiguous(memory_format=torch.channels_last)
    assert np.array_equal(images.permute(0, 2, 3, 1).numpy(), workload.images)
    assert labels.tolist() == workload.labels.tolist()
