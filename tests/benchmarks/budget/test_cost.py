from collections.abc import Iterator
from typing import Any

import pytest
import timm
import torch
from timm.layers import set_fused_attn
from torch import Tensor, nn

from arch.models import build
from arch.spec import parse
from benchmarks.budget.cost import count_attention, count_on_meta, measure_cost
from benchmarks.budget.verdict import Cost


@pytest.fixture
def _plain_attention() -> Iterator[None]:
    count_attention()
    yield
    set_fused_attn(True)


class Small(nn.Module):
    """Three inputs to two outputs, with a layer that is built and not used."""

    def __init__(self) -> None:
        super().__init__()
        self.used = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.frozen = nn.Conv2d(4, 2, 1).requires_grad_(False)
        self.unused = nn.Linear(5, 5)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.frozen(self.norm(self.used(x))).mean((2, 3))
        return out


class Shy(nn.Module):
    """Works less while it is traced, as fvcore does it."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(12, 12, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layer(x.flatten(1))
        traced = torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
        return out if traced else self.layer(self.layer(out))


@pytest.mark.parametrize(
    ("spec", "params", "gmacs"),
    [("resnet18", 11_220_132, 0.557), ("resnet18+se", 11_310_244, 0.557)],
)
def test_published_counts_are_reached(spec: str, params: int, gmacs: float) -> None:
    cost = measure_cost(build(parse(spec).variant(), 100), (3, 32, 32))
    assert (cost.params, cost.trainable_params, cost.dead_params) == (params, params, ())
    assert round(cost.macs / 1e9, 3) == gmacs


def test_a_convolution_is_counted_as_by_hand() -> None:
    cost = measure_cost(nn.Conv2d(3, 8, 3, padding=1, bias=False), (3, 10, 12))
    assert cost == Cost(216, 216, (), macs_fvcore=216 * 120, macs_torch=216 * 120)


def test_parameters_that_nothing_reaches_are_named() -> None:
    cost = measure_cost(Small(), (3, 8, 8))
    assert cost.dead_params == ("unused.weight", "unused.bias")
    assert cost.params == (3 * 4 * 9 + 4) + 8 + (4 * 2 + 2) + 30


def test_frozen_parameters_are_neither_trainable_nor_dead() -> None:
    cost = measure_cost(Small(), (3, 8, 8))
    assert cost.trainable_params == cost.params - (4 * 2 + 2)


def test_shared_parameters_are_counted_once() -> None:
    layer = nn.Linear(12, 12)
    assert measure_cost(nn.Sequential(nn.Flatten(), layer, layer), (3, 2, 2)).params == 12 * 12 + 12


@pytest.mark.parametrize("training", [True, False])
def test_the_model_is_left_as_it_was(training: bool) -> None:
    model = Small().train(training)
    model.frozen.train(not training)
    model(torch.randn(4, 3, 8, 8)).sum().backward()
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    gradients = [None if p.grad is None else p.grad.clone() for p in model.parameters()]
    flags = [module.training for module in model.modules()]
    measure_cost(model, (3, 8, 8))
    torch.testing.assert_close(model.state_dict(), state, rtol=0, atol=0)
    torch.testing.assert_close([p.grad for p in model.parameters()], gradients, rtol=0, atol=0)
    assert [module.training for module in model.modules()] == flags
    assert not model.frozen.weight.requires_grad


@pytest.mark.parametrize(("fvcore", "torch_"), [(10, 20), (20, 10)])
def test_the_larger_count_counts(fvcore: int, torch_: int) -> None:
    assert Cost(1, 1, (), fvcore, torch_).macs == 20


def test_a_model_that_hides_from_tracing_is_counted() -> None:
    cost = measure_cost(Shy(), (3, 2, 2))
    assert (cost.macs_fvcore, cost.macs_torch, cost.macs) == (144, 432, 432)


@pytest.mark.usefixtures("_plain_attention")
def test_attention_is_counted() -> None:
    """A patch embedding, one block of width 32 over 16 patches and a class token, a classifier."""
    shape: dict[str, Any] = {
        "img_size": 8,
        "patch_size": 2,
        "embed_dim": 32,
        "depth": 1,
        "num_heads": 2,
        "num_classes": 10,
    }
    model = timm.create_model("vit_tiny_patch16_224", **shape)
    tokens, width = 17, 32
    attention = 2 * tokens * tokens * width
    layers = 16 * 12 * width + tokens * width * (3 * width + width + 2 * 4 * width) + width * 10
    cost = measure_cost(model, (3, 8, 8))
    assert cost.macs_torch == attention + layers
    assert attention + layers <= cost.macs_fvcore <= 1.1 * (attention + layers)  # it counts the norms too


@pytest.mark.parametrize("spec", ["resnet8", "resnet8+se", "resnet8+preact+gem", "resnet8+cbam+drop_path"])
def test_counting_on_the_meta_device_is_counting(spec: str) -> None:
    cost = measure_cost(build(parse(spec).variant(), 10), (3, 16, 16))
    params, macs = count_on_meta(lambda: build(parse(spec).variant(), 10), (3, 16, 16))
    assert params == cost.params
    assert 0.9 * cost.macs <= macs <= cost.macs


def test_unusual_channels_and_sizes_are_counted() -> None:
    model = build(parse("resnet8").variant(), 10, in_chans=1)
    assert measure_cost(model, (1, 8, 8)).params == sum(p.numel() for p in model.parameters())
    assert measure_cost(model, (1, 16, 16)).macs > 3.9 * measure_cost(model, (1, 8, 8)).macs
