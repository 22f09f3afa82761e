from collections.abc import Callable
from dataclasses import replace

import pytest
import timm
import torch
from torch import Tensor, nn

from arch.models import build
from arch.spec import parse
from benchmarks.budget import layers as layers_module
from benchmarks.budget.builders import Builder
from benchmarks.budget.check import check
from benchmarks.budget.cost import count_on_meta, countable_attention
from benchmarks.budget.layers import add_layers, list_layers
from benchmarks.budget.request import CheckRequest
from benchmarks.budget.verdict import LayerCost
from benchmarks.definition.benchmark import Benchmark


class Net(nn.Module):
    """Model with a parameter of its own, a shared activation, a layer that runs last but is defined first, and more."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(4, 5)
        self.shift = nn.Parameter(torch.zeros(1, 4, 1, 1))
        self.conv = nn.Conv2d(3, 4, 3, bias=False)
        self.act = nn.ReLU()
        self.skip, self.empty = nn.Identity(), nn.Sequential()
        self.unused = nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.empty(self.act(self.skip(self.conv(x)) + self.shift))
        gram = x.flatten(2) @ x.flatten(2).transpose(1, 2)
        out: Tensor = self.act(self.head(gram.mean(1)))
        return out


EXPECTED = (
    LayerCost("shift", "parameter", "1x4x1x1", 4, 0, (1, 4, 1, 1)),
    LayerCost("conv", "Conv2d", "3x3, 3->4, padding 0, no bias", 108, 108 * 36, (1, 4, 6, 6)),
    LayerCost("act", "ReLU", "", 0, 0, (1, 4, 6, 6)),
    LayerCost("head", "Linear", "4->5", 25, 20, (1, 5)),
    LayerCost("act", "ReLU", "", 0, 0, (1, 5)),
    LayerCost("Net", "operators", "576 MACs", 0, 4 * 4 * 36, (1, 5)),
    LayerCost("unused", "Linear", "2->2", 6, 0, ()),
)


def test_layers_are_listed_in_the_order_of_execution() -> None:
    assert list_layers(Net, (3, 8, 8)) == EXPECTED


def test_model_is_left_unchanged() -> None:
    model = Net()
    assert list_layers(lambda: model, (3, 8, 8)) == EXPECTED
    assert model.training
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_model_that_reads_values_is_listed() -> None:
    class Reading(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x.flatten(1)) * float(self.weight.sum())

    assert [layer.macs for layer in list_layers(lambda: Reading(12, 5), (3, 2, 2))] == [60]


def test_attention_of_torch_is_one_layer() -> None:
    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = nn.MultiheadAttention(4, 2, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            tokens = x.flatten(2).transpose(1, 2)
            out: Tensor = self.attention(tokens, tokens, tokens)[0]
            return out

    (layer,) = list_layers(Attention, (4, 3, 3))
    assert (layer.name, layer.type, layer.output_shape) == ("attention", "MultiheadAttention", (1, 9, 4))
    assert layer.params == (12 * 4 + 12) + (4 * 4 + 4)
    assert layer.macs == 9 * (12 + 4) * 4 + 2 * 9 * 9 * 4


def test_weight_of_two_layers_is_counted_once() -> None:
    def builder() -> nn.Module:
        layers = nn.Linear(12, 12, bias=False), nn.Linear(12, 12, bias=False)
        layers[1].weight = layers[0].weight
        return nn.Sequential(nn.Flatten(), *layers)

    assert [layer.params for layer in list_layers(builder, (3, 2, 2))] == [0, 144, 0]


@pytest.mark.parametrize(
    "builder",
    [
        lambda: build(parse("resnet8+se").variant(), 10),
        lambda: timm.create_model("vit_tiny_patch16_224", img_size=32, depth=1),
        lambda: timm.create_model("mobilenetv3_small_050"),  # its norms contain their activations
    ],
    ids=["resnet", "vit", "mobilenet"],
)
def test_sums_are_the_counts_of_the_model(builder: Callable[[], nn.Module]) -> None:
    with countable_attention():
        layers, cost = list_layers(builder, (3, 32, 32)), count_on_meta(builder, (3, 32, 32))
    assert sum(layer.params for layer in layers) == cost.params
    assert sum(layer.macs for layer in layers) == cost.macs_torch


def test_layers_are_part_of_the_verdict_if_asked_for(tiny: Benchmark, linear: Builder) -> None:
    request = CheckRequest("mine", tiny, "cpu")
    assert check(request, linear).layers == ()
    layers = check(replace(request, layers=True), linear).layers
    assert [(layer.name, layer.params) for layer in layers] == [("0", 0), ("1", 650)]


@pytest.mark.parametrize(("limit", "value"), [("MAX_LAYERS", 1), ("MAX_LAYER_BYTES", 150)])
def test_number_of_layers_is_limited(
    limit: str, value: int, tiny: Benchmark, linear: Builder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layers_module, limit, value)
    verdict = check(CheckRequest("mine", tiny, "cpu", layers=True), linear)
    assert [layer.name for layer in verdict.layers] == ["0"]
    assert "first 1 of 2 layers" in verdict.notes[-1]


def test_failure_is_noted(tiny: Benchmark, linear: Builder) -> None:
    verdict = check(CheckRequest("mine", tiny, "cpu"), linear)
    failed = add_layers(verdict, lambda: nn.Linear(1, 1), tiny.data.input_shape)
    assert (failed.layers, "RuntimeError" in failed.notes[-1]) == ((), True)
