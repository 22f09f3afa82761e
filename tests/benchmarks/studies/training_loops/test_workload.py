from collections.abc import Callable, Iterator
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

Loop = Callable[[Workload], EpochTimer]
LOOPS: dict[str, Loop] = {"ours": ours, "bare": bare, "dataloader": dataloader, "airbench_style": airbench_style}


@pytest.fixture(autouse=True)
def _restore_torch_settings() -> Iterator[None]:
    """Restore torch's defaults, because our loop enables deterministic algorithms for the whole process."""
    yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture
def models(monkeypatch: pytest.MonkeyPatch) -> list[nn.Module]:
    """Return a list that records the models that are built."""
    built: list[nn.Module] = []

    def build_and_record(*args: Any) -> nn.Module:
        built.append(build(*args))
        return built[-1]

    monkeypatch.setattr("benchmarks.studies.training_loops.workload.build", build_and_record)
    return built


@pytest.mark.parametrize("loop", LOOPS.values(), ids=LOOPS)
def test_each_epoch_trains_the_same_model_and_returns_its_seconds(
    loop: Loop, workload: Workload, models: list[nn.Module]
) -> None:
    epoch = loop(workload)
    (model,) = models
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    assert epoch() > 0
    after = model.state_dict()
    assert all(not torch.equal(before[name], after[name]) for name, _ in model.named_parameters())
    assert int(after["stem.1.num_batches_tracked"]) == workload.steps == 2
    epoch()
    assert int(model.state_dict()["stem.1.num_batches_tracked"]) == 4


@pytest.mark.parametrize("loop", LOOPS.values(), ids=LOOPS)
def test_model_sees_whole_batches_of_normalized_images(loop: Loop, workload: Workload, models: list[nn.Module]) -> None:
    white, recipe = np.full_like(workload.images, 255), replace(workload.recipe, crop_padding=0)
    epoch = loop(replace(workload, images=white, recipe=recipe))
    batches: list[torch.Tensor] = []
    models[0].register_forward_pre_hook(lambda _, inputs: batches.append(inputs[0].detach().clone()))
    epoch()
    assert [batch.shape for batch in batches] == [(4, 3, 16, 16)] * 2
    assert all(torch.equal(batch, torch.ones_like(batch)) for batch in batches)  # (1 - 0.5) / 0.5


@pytest.mark.parametrize("loop", [bare, dataloader, airbench_style])
@pytest.mark.parametrize("warn_only", [False, True])
def test_reference_loops_restore_the_deterministic_setting(loop: Loop, warn_only: bool, workload: Workload) -> None:
    torch.use_deterministic_algorithms(True, warn_only=warn_only)
    loop(workload)()
    assert torch.are_deterministic_algorithms_enabled()
    assert torch.is_deterministic_algorithms_warn_only_enabled() == warn_only


@pytest.mark.parametrize("tuned", [False, True])
def test_only_the_tuned_loop_lets_cudnn_time_its_algorithms(tuned: bool, workload: Workload) -> None:
    settings: list[bool] = []
    workload.time_with_torch_defaults(lambda: settings.append(torch.backends.cudnn.benchmark), tuned)
    assert settings == [tuned]
    assert not torch.backends.cudnn.benchmark


def test_deterministic_setting_is_off_in_an_epoch_and_restored_after_an_error(workload: Workload) -> None:
    settings: list[bool] = []

    def fail() -> None:
        settings.append(torch.are_deterministic_algorithms_enabled())
        raise ZeroDivisionError

    torch.use_deterministic_algorithms(True, warn_only=True)
    with pytest.raises(ZeroDivisionError):
        workload.time_with_torch_defaults(fail)
    assert settings == [False]
    assert torch.are_deterministic_algorithms_enabled()


def test_our_loop_is_deterministic(workload: Workload, models: list[nn.Module]) -> None:
    for _ in range(2):
        ours(workload)()
    one, other = (model.state_dict() for model in models)
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert torch.are_deterministic_algorithms_enabled()


def test_our_loop_uses_the_compile_mode(workload: Workload, monkeypatch: pytest.MonkeyPatch) -> None:
    modes: list[str] = []

    def compile_nothing(model: nn.Module, compile_mode: str) -> nn.Module:
        modes.append(compile_mode)
        return model

    monkeypatch.setattr("benchmarks.training.step.compile_model", compile_nothing)
    partial(ours, compile_mode="compile")(workload)
    ours(workload)
    assert modes == ["compile", "eager"]


def test_every_model_starts_with_the_same_weights(workload: Workload) -> None:
    one, other = workload.model(), workload.model()
    assert all(torch.equal(tensor, other.state_dict()[name]) for name, tensor in one.state_dict().items())
    assert one.get_parameter("stem.0.weight").is_contiguous(memory_format=torch.channels_last)


def test_tensors_contain_the_images_in_channels_last_format(workload: Workload) -> None:
    images, labels = workload.tensors()
    assert images.is_contiguous(memory_format=torch.channels_last)
    assert np.array_equal(images.permute(0, 2, 3, 1).numpy(), workload.images)
    assert labels.tolist() == workload.labels.tolist()
