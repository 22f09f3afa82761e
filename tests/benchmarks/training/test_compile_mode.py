import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from torch import nn

from arch.models import build
from arch.spec import parse
from benchmarks.definition.recipe import Recipe
from benchmarks.training.compile_mode import COMPILED, MODES, CompileMode, compile_model, next_step
from benchmarks.training.step import DeviceImages, TrainingStep
from benchmarks.training.trainer import train

RECIPE = Recipe(epochs=2, batch_size=16, lr=0.05, warmup_epochs=1, crop_padding=1)
PLAIN = "resnet8+width=0.25"
RANDOM = "resnet8+width=0.25+drop_path=0.3"


@pytest.fixture
def compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """A C++ compiler, an empty cache of compiled nets, and torch's settings as before afterwards."""
    import torch._inductor.config as inductor

    if not (shutil.which("g++") or shutil.which("c++")):
        pytest.skip("no C++ compiler")
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    with inductor.patch(deterministic=False):
        yield
    torch.compiler.reset()


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[dict[str, Any]]]:
    """The settings that `torch.compile` was called with; it compiles nothing."""
    import torch._inductor.config as inductor

    calls: list[dict[str, Any]] = []

    def compile_nothing(model: nn.Module, **settings: Any) -> nn.Module:
        calls.append(settings)
        return model

    monkeypatch.setattr(torch, "compile", compile_nothing)
    with inductor.patch(deterministic=False):
        yield calls


def net(spec: str) -> nn.Module:
    torch.manual_seed(0)
    return build(parse(spec).variant(), 10, 1)


def images(count: int) -> DeviceImages:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (count, 8, 8, 1), dtype=torch.uint8, generator=generator)
    return DeviceImages(pixels.permute(0, 3, 1, 2), torch.randint(10, (count,), generator=generator))


def trained(spec: str, compile_mode: CompileMode) -> tuple[list[float], dict[str, torch.Tensor]]:
    """Losses of training and of evaluation, epoch by epoch, and the final weights."""
    model, split = net(spec), images(40)
    curve, _ = train(model, split, split, RECIPE, seed=3, compile_mode=compile_mode)
    return [loss for epoch in curve for loss in (epoch.train_loss, epoch.loss)], model.state_dict()


def test_a_net_as_written_is_itself() -> None:
    model = nn.Linear(2, 2)
    assert compile_model(model, "eager") is model


def test_every_execution_but_the_plain_one_is_tried_somewhere() -> None:
    assert {how for ways in COMPILED.values() for how in ways} == set(get_args(CompileMode)) - {"eager"} == MODES.keys()


@pytest.mark.parametrize(("compile_mode", "mode"), [("compile", None), ("cuda_graphs", "reduce-overhead")])
def test_a_net_is_compiled_for_one_shape_without_timing_kernels(
    compile_mode: CompileMode, mode: str | None, compiled: list[dict[str, Any]]
) -> None:
    import torch._inductor.config as inductor

    compile_model(nn.Linear(2, 2), compile_mode)
    assert compiled == [{"dynamic": False, "mode": mode}]
    assert inductor.deterministic


@pytest.mark.parametrize(("compile_mode", "marks"), [("eager", 0), ("compile", 0), ("cuda_graphs", 1)])
def test_only_graphs_are_told_of_the_next_step(
    compile_mode: CompileMode, marks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[None] = []
    monkeypatch.setattr(torch.compiler, "cudagraph_mark_step_begin", lambda: calls.append(None))
    next_step(compile_mode)
    assert len(calls) == marks


def test_a_step_runs_what_was_compiled_and_keeps_the_net(monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[int] = []
    model = net(PLAIN)

    def instead(model: nn.Module, compile_mode: CompileMode) -> Any:
        def forward(batch: torch.Tensor) -> Any:
            called.append(len(batch))
            return model(batch)

        return forward

    monkeypatch.setattr("benchmarks.training.step.compile_model", instead)
    step = TrainingStep(model, RECIPE, steps_per_epoch=10, compile_mode="compile")
    batch = images(16)
    step(batch.images, batch.labels, 0, torch.Generator().manual_seed(0))
    assert called == [16]
    assert step.model is model


@pytest.mark.parametrize(("compile_mode", "times"), [("eager", 0), ("compile", 1)])
def test_compiling_ends_with_the_first_step(
    compile_mode: CompileMode, times: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: list[None] = []
    monkeypatch.setattr("benchmarks.training.step.compile_model", lambda model, compile_mode: model)
    monkeypatch.setattr("benchmarks.training.step.end_compiling", lambda: ended.append(None))
    step, batch = TrainingStep(net(PLAIN), RECIPE, 10, compile_mode), images(16)
    assert ended == []
    for iteration in range(3):
        step(batch.images, batch.labels, iteration, torch.Generator().manual_seed(0))
        assert len(ended) == times


@pytest.mark.slow
@pytest.mark.usefixtures("compiler")
def test_compiled_a_net_learns_the_same_and_a_seed_gives_one_net() -> None:
    plain, _ = trained(PLAIN, "eager")
    assert trained(PLAIN, "compile")[0] == pytest.approx(plain, rel=1e-3)
    losses, weights = trained(RANDOM, "compile")
    torch.manual_seed(99)  # what was drawn before does not matter
    torch.compiler.reset()
    again, same = trained(RANDOM, "compile")
    assert losses == again
    assert all(torch.equal(tensor, same[name]) for name, tensor in weights.items())
