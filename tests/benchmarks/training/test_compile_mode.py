import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from timm.layers import DropPath
from torch import nn
from torch._dynamo.utils import counters

from benchmarks.budget import throughput
from benchmarks.definition.benchmark import DatasetConfig
from benchmarks.definition.recipe import Recipe
from benchmarks.training.compile_mode import (
    COMPILED_MODES,
    CompileMode,
    CompileModeFailed,
    compile_model,
    reset_compiler,
    untimed_mode,
    uses_compiler,
    uses_graph,
)
from benchmarks.training.determinism import make_deterministic
from benchmarks.training.step import DeviceImages, StepOptions, TrainingStep
from benchmarks.training.step_check import NUM_CHECKED_STEPS
from benchmarks.training.trainer import Splits, TrainingOptions, train

RECIPE = Recipe(epochs=2, batch_size=16, lr=0.05, warmup_epochs=1, crop_padding=1)


@pytest.fixture
def compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Require a C++ compiler, use an empty cache of compiled code, and restore torch's settings afterwards."""
    import torch._inductor.config as inductor

    if not (shutil.which("g++") or shutil.which("c++")):
        pytest.skip("no C++ compiler")
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    with inductor.patch(deterministic=False):
        yield
    torch.compiler.reset()


@pytest.fixture
def compile_calls(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[dict[str, Any]]]:
    """Yield a list that records the settings of each `torch.compile` call; nothing is compiled."""
    import torch._inductor.config as inductor

    calls: list[dict[str, Any]] = []

    def compile_nothing(model: nn.Module, **settings: Any) -> nn.Module:
        calls.append(settings)
        return model

    monkeypatch.setattr(torch, "compile", compile_nothing)
    with inductor.patch(deterministic=False):
        yield calls


def net(drop_rate: float = 0.0) -> nn.Module:
    """Return a small network with every kind of layer whose compiled code could differ from eager mode."""
    torch.manual_seed(0)
    convolution = [nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU()]
    classifier = [nn.Flatten(), nn.Linear(4 * 6 * 6, 10)]
    drop = [DropPath(drop_rate), nn.Dropout(drop_rate)] if drop_rate else []
    return nn.Sequential(*convolution, *drop, *classifier)


def images(count: int) -> DeviceImages:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (count, 8, 8, 1), dtype=torch.uint8, generator=generator)
    return DeviceImages(pixels.permute(0, 3, 1, 2), torch.randint(10, (count,), generator=generator))


def train_net(drop_rate: float, compile_mode: CompileMode) -> tuple[list[float], dict[str, torch.Tensor]]:
    """Train a network; return the training and evaluation loss of each epoch, and the final weights."""
    model, split = net(drop_rate), images(40)
    curve, _ = train(model, Splits(split, split), RECIPE, 3, TrainingOptions(compile_mode))
    return [loss for epoch in curve for loss in (epoch.train_loss, epoch.loss)], model.state_dict()


def test_eager_returns_the_model_itself() -> None:
    model = nn.Linear(2, 2)
    assert compile_model(model, "eager") is model


def test_every_compile_mode_is_tried_on_some_device() -> None:
    tried = {mode for modes in COMPILED_MODES.values() for mode in modes}
    assert tried == set(get_args(CompileMode)) - {"eager"}


def test_modes_use_the_compiler_or_a_graph_or_both() -> None:
    uses = {mode: (uses_compiler(mode), uses_graph(mode)) for mode in get_args(CompileMode)}
    assert uses == {
        "eager": (False, False),
        "compile": (True, False),
        "cuda_graphs": (False, True),
        "compile_cuda_graphs": (True, True),
    }


def test_runs_that_are_not_timed_use_cuda_graphs_on_a_gpu() -> None:
    modes = [untimed_mode(device, RECIPE) for device in ("cpu", "cuda", "cuda:1")]
    assert modes == ["eager", "cuda_graphs", "cuda_graphs"]
    assert untimed_mode("cuda", replace(RECIPE, mixup=0.5)) == "eager"


@pytest.mark.parametrize("compile_mode", ["compile", "compile_cuda_graphs"])
def test_model_is_compiled_for_one_shape_without_timing_kernels(
    compile_mode: CompileMode, compile_calls: list[dict[str, Any]]
) -> None:
    import torch._inductor.config as inductor

    compile_model(nn.Linear(2, 2), compile_mode)
    assert compile_calls == [{"dynamic": False}]
    assert inductor.deterministic


def test_model_of_cuda_graphs_is_not_compiled(compile_calls: list[dict[str, Any]]) -> None:
    model = nn.Linear(2, 2)
    assert compile_model(model, "cuda_graphs") is model
    assert compile_calls == []


def test_step_calls_the_compiled_model_and_keeps_the_original(monkeypatch: pytest.MonkeyPatch) -> None:
    batch_sizes: list[int] = []
    model = net()

    def compile_nothing(model: nn.Module, compile_mode: CompileMode) -> Any:
        def forward(batch: torch.Tensor) -> Any:
            batch_sizes.append(len(batch))
            return model(batch)

        return forward

    monkeypatch.setattr("benchmarks.training.step.compile_model", compile_nothing)
    step = TrainingStep(model, RECIPE, 10, StepOptions("compile"))
    batch = images(16)
    step(batch.images, batch.labels, 0)
    assert batch_sizes == [16] * (NUM_CHECKED_STEPS + 1)
    assert step.model is model


class Rounding(nn.Module):
    """Computes as a compiled model would: with other rounding, or wrong."""

    def __init__(self, model: nn.Module, factor: float) -> None:
        super().__init__()
        self.model, self.factor = model, factor

    def forward(self, batch: torch.Tensor) -> Any:
        return self.factor * self.model(batch)


@pytest.mark.parametrize(
    ("drop_rate", "factor", "is_accepted"), [(0.0, 1.0001, True), (0.0, 2.0, False), (0.3, 9, False)]
)
def test_compiled_model_must_give_about_the_numbers_of_the_model(
    drop_rate: float, factor: float, is_accepted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.training.step.compile_model", lambda model, mode: Rounding(model, factor))
    if is_accepted:
        train_net(drop_rate, "compile")
        return
    with pytest.raises(CompileModeFailed, match="in eager mode"):
        train_net(drop_rate, "compile")


def test_model_that_cannot_be_compiled_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(batch: torch.Tensor) -> Any:
        raise RuntimeError("no C++ compiler\nand more")

    monkeypatch.setattr("benchmarks.training.step.compile_model", lambda model, mode: fail)
    with pytest.raises(CompileModeFailed) as raised:
        train_net(0.0, "compile")
    assert str(raised.value) == "no C++ compiler"


@pytest.mark.parametrize(("compile_mode", "num_calls"), [("eager", 0), ("compile", 1)])
def test_compile_workers_are_shut_down_after_the_first_step(
    compile_mode: CompileMode, num_calls: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[None] = []
    monkeypatch.setattr("benchmarks.training.step.compile_model", lambda model, compile_mode: model)
    monkeypatch.setattr("benchmarks.training.graphed_step.shut_down_compile_workers", lambda: calls.append(None))
    step, batch = TrainingStep(net(), RECIPE, 10, StepOptions(compile_mode)), images(16)
    assert calls == []
    for iteration in range(3):
        step(batch.images, batch.labels, iteration)
        assert len(calls) == num_calls


@pytest.mark.slow
@pytest.mark.usefixtures("compiler")
def test_compiled_training_equals_eager_and_is_deterministic() -> None:
    eager_losses, _ = train_net(0.0, "eager")
    assert train_net(0.0, "compile")[0] == pytest.approx(eager_losses, rel=1e-3)
    losses, weights = train_net(0.3, "compile")
    torch.manual_seed(99)  # earlier random draws must not matter
    torch.compiler.reset()
    losses_again, weights_again = train_net(0.3, "compile")
    assert losses == losses_again
    assert all(torch.equal(tensor, weights_again[name]) for name, tensor in weights.items())


@pytest.mark.slow
@pytest.mark.usefixtures("compiler")
def test_training_reuses_the_code_that_the_budget_check_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throughput, "MIN_WINDOW_SECONDS", 1e-6)
    torch.use_deterministic_algorithms(False)  # torch's default, as in the process of a budget check
    throughput.measure_throughput(net(), RECIPE, DatasetConfig("digits", 10, image_size=8, in_chans=1), "compile")
    reset_compiler()
    counters.clear()
    make_deterministic()
    train_net(0.0, "compile")
    compiled = counters["aot_autograd"]
    assert (compiled["autograd_cache_hit"], compiled["autograd_cache_miss"]) == (1, 0)
    assert counters["inductor"]["fxgraph_cache_miss"] == 0


TIME_OR_TRAIN = """
import sys
import torch
from torch._dynamo.utils import counters
from torch import nn
from benchmarks.budget import throughput
from benchmarks.definition.benchmark import DatasetConfig
from benchmarks.definition.recipe import Recipe
from benchmarks.training.determinism import make_deterministic
from benchmarks.training.step import random_images
from benchmarks.training.trainer import Splits, TrainingOptions, train

recipe = Recipe(epochs=1, batch_size=16, warmup_epochs=0, crop_padding=1)
model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 6 * 6, 10))
if sys.argv[1] == "time":
    throughput.MIN_WINDOW_SECONDS = 1e-6
    throughput.measure_throughput(model, recipe, DatasetConfig("digits", 10, image_size=8, in_chans=1), "compile")
else:
    make_deterministic()
    split = random_images(16, (1, 8, 8), 10, torch.Generator())
    train(model, Splits(split, split), recipe, 0, TrainingOptions("compile"))
print([counters["inductor"][f"fxgraph_cache_{outcome}"] for outcome in ("hit", "miss")])
"""


@pytest.mark.slow
@pytest.mark.usefixtures("compiler")
def test_a_training_process_finds_the_code_that_the_timing_process_compiled() -> None:
    def run(task: str) -> list[int]:
        command = [sys.executable, "-c", TIME_OR_TRAIN, task]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        numbers: list[int] = json.loads(output.splitlines()[-1])
        return numbers

    timing_hits, timing_misses = run("time")
    assert timing_misses > 0
    assert run("train") == [timing_hits + timing_misses, 0]
