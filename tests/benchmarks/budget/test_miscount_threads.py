"""Public threads about miscounts of FLOP counters, each as a test with the value that its author expected."""

from collections.abc import Callable

import pytest
import torch
import torchvision
from timm.layers import Attention
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from benchmarks.budget.cost import count_on_meta, countable_attention, measure_cost
from benchmarks.budget.operators import training_work

TOKENS, WIDTH, HEADS, HIDDEN = 24, 16, 2, 64
PRODUCTS = 2 * TOKENS**2 * WIDTH  # queries by keys, and weights by values
ENCODER_LAYER = TOKENS * (4 * WIDTH**2 + 2 * WIDTH * HIDDEN) + PRODUCTS


class OnTokens(nn.Module):
    """Applies a function to the tokens of an image of the shape (width, tokens, 1)."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x.flatten(2).transpose(1, 2))


def count(build: Callable[[], nn.Module], shape: tuple[int, int, int]) -> tuple[int, int | None]:
    """Return the parameters and the MACs of convolutions, matrix products and attention."""
    cost, quick = measure_cost(build, shape, 2), count_on_meta(build, shape)
    assert (cost.params, cost.macs_torch, cost.uncounted) == (quick.params, quick.macs_torch, quick.uncounted)
    assert cost.uncounted == ()
    return cost.params, cost.macs_torch


def count_on_tokens(build: Callable[[], Callable[[Tensor], Tensor]], tokens: int = TOKENS) -> int | None:
    """Return the MACs for one image of `tokens` tokens with the width WIDTH."""
    return count(lambda: OnTokens(build()), (WIDTH, tokens, 1))[1]


def encoder_layer() -> nn.TransformerEncoderLayer:
    return nn.TransformerEncoderLayer(WIDTH, HEADS, HIDDEN, batch_first=True)


class SelfAttention(nn.MultiheadAttention):
    """Attention of the tokens among themselves."""

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        out: Tensor = super().forward(x, x, x)[0]
        return out


class AttentionOfHeads(nn.Module):
    """Attention whose heads are the channels of the image, in one operator."""

    def forward(self, x: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(x, x, x)


def test_attention_on_the_cpu_is_counted() -> None:
    """pytorch/pytorch 195460: 0 instead of 12,582,912 FLOPs."""
    assert count(AttentionOfHeads, (12, 64, 64)) == (0, 12_582_912 // 2)


@pytest.mark.parametrize("backend", [SDPBackend.MATH, SDPBackend.FLASH_ATTENTION])
def test_attention_is_counted_once(backend: SDPBackend) -> None:
    """pytorch/pytorch 134804: twice the FLOPs of two batches of 5 heads, 9 tokens and 4 channels."""
    with sdpa_kernel(backend):
        assert count(AttentionOfHeads, (2 * 5, 9, 4)) == (0, 2 * 5 * (9 * 9 * 4 + 9 * 9 * 4))


def test_inference_mode_is_counted() -> None:
    """pytorch/pytorch 126268: 0 for a ResNet-18 in inference mode."""

    class InInferenceMode(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = torchvision.models.resnet18()

        @torch.inference_mode()
        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.net(x)
            return out

    cost = count_on_meta(InInferenceMode, (3, 224, 224))
    assert (cost.params, cost.macs_torch) == (11_689_512, 1_814_073_344)


@pytest.mark.parametrize("convolution", [nn.Conv2d, nn.ConvTranspose2d])
def test_gradients_of_grouped_convolutions_are_divided_by_the_groups(
    convolution: type[nn.Conv2d | nn.ConvTranspose2d],
) -> None:
    """pytorch/pytorch 183405: the FLOPs of the weight gradient were those of a convolution without groups."""
    with torch.device("meta"):
        model = nn.Sequential(nn.Conv2d(3, 8, 1), convolution(8, 12, 3, padding=1, groups=4, bias=False))
    work = [operator for operator in training_work(model, (3, 10, 10), 2) if "grouped" in operator.kind]
    flops = 2 * (2 * 10 * 10) * 12 * (8 // 4) * 9
    assert [(operator.phase, operator.flops) for operator in work] == [
        ("", flops),
        ("input gradient", flops),
        ("weight gradient", flops),
    ]


@pytest.mark.parametrize("fused", [False, True])
def test_attention_of_timm_is_counted(fused: bool) -> None:
    """DeepSpeed 1467: matrix products in the attention of timm's ViT are missing."""

    def build() -> nn.Module:
        with countable_attention():
            attention = Attention(WIDTH, HEADS)
        setattr(attention, "fused_attn", fused)  # noqa: B010  # TorchScript's attributes are final for mypy
        return attention

    assert count_on_tokens(build) == TOKENS * 4 * WIDTH**2 + PRODUCTS


def test_matrix_products_and_functional_attention_are_counted() -> None:
    """DeepSpeed 4723: `a @ b` and `scaled_dot_product_attention` are missing."""
    assert count_on_tokens(lambda: lambda x: (x @ x.mT) @ x) == PRODUCTS
    assert count_on_tokens(lambda: lambda x: F.scaled_dot_product_attention(x, x, x)) == PRODUCTS


def test_shared_layer_is_counted_once_per_use() -> None:
    """DeepSpeed 7256: 180 instead of 60 KFLOPs for three uses of one linear layer of 100 by 100."""

    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            layer = nn.Linear(100, 100)
            self.branches = nn.ModuleList(nn.Sequential(layer) for _ in range(3))

        def forward(self, x: Tensor) -> Tensor:
            parts = x.flatten(1).chunk(3, 1)
            return torch.cat([branch(part) for branch, part in zip(self.branches, parts, strict=True)], 1)

    assert count(Shared, (3, 10, 10)) == (100 * 100 + 100, 60_000 // 2)


def test_swin_transformer_of_torchvision_is_counted() -> None:
    """flops-counter.pytorch 142: 3.13 instead of 4.5 GMACs."""
    cost = count_on_meta(lambda: torchvision.models.swin_t(num_classes=1000), (3, 224, 224))
    assert (cost.params, cost.macs_torch) == (28_288_354, 4_490_566_656)


def test_multihead_attention_is_counted() -> None:
    """flops-counter.pytorch 65: 0 for an `nn.MultiheadAttention` of 580 tokens with 512 channels."""
    params, macs = count(lambda: OnTokens(SelfAttention(512, 4, batch_first=True)), (512, 580, 1))
    assert params == 4 * 512**2 + 4 * 512
    assert macs == 580 * 4 * 512**2 + 2 * 580**2 * 512


def test_frozen_encoder_layer_is_counted() -> None:
    """flops-counter.pytorch 101: 0 if the parameters require no gradients, since torch then fuses the whole layer."""
    assert count_on_tokens(lambda: encoder_layer().requires_grad_(False)) == ENCODER_LAYER


@pytest.mark.parametrize("tokens", [8, 16])
def test_attention_is_quadratic_in_the_tokens(tokens: int) -> None:
    """calculate-flops.pytorch 46: the FLOPs of a `TransformerEncoderLayer` are linear in the number of tokens."""
    expected = tokens * (4 * WIDTH**2 + 2 * WIDTH * HIDDEN) + 2 * tokens**2 * WIDTH
    assert count_on_tokens(encoder_layer, tokens) == expected


@pytest.mark.parametrize("tokens", [8, 16])
def test_functional_attention_is_quadratic_in_the_tokens(tokens: int) -> None:
    """calculate-flops.pytorch 48: `scaled_dot_product_attention` and `q @ k` are missing, so FLOPs are linear."""
    assert count_on_tokens(lambda: lambda x: F.scaled_dot_product_attention(x, x, x), tokens) == 2 * tokens**2 * WIDTH
    assert count_on_tokens(lambda: lambda x: x @ x.mT, tokens) == tokens**2 * WIDTH


def test_macs_are_not_flops() -> None:
    """calculate-flops.pytorch 56: MACs and FLOPs of a ResNet-18 are confused; it has 1.81 GMACs."""
    cost = count_on_meta(torchvision.models.resnet18, (3, 224, 224))
    assert (cost.params, cost.macs_torch) == (11_689_512, 1_814_073_344)


def test_encoder_layer_without_gradients_is_counted() -> None:
    """olmoearth_pretrain 605: under `no_grad`, torch fuses a `TransformerEncoderLayer`, which counts as 0."""

    class WithoutGradients(nn.TransformerEncoderLayer):
        @torch.no_grad()
        def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
            return super().forward(x)

    assert count_on_tokens(lambda: WithoutGradients(WIDTH, HEADS, HIDDEN, batch_first=True)) == ENCODER_LAYER
    with torch.no_grad():
        assert count_on_tokens(encoder_layer) == ENCODER_LAYER


def test_functional_attention_block_is_counted() -> None:
    """olmoearth_pretrain 605: hooks on modules do not see the functional attention of torchvision's Swin."""

    class OnImages(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            windows = torchvision.models.swin_transformer.ShiftedWindowAttention
            self.attention = windows(WIDTH, [4, 4], [0, 0], HEADS)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.attention(x.permute(0, 2, 3, 1))
            return out

    windows, tokens = 4, 16
    expected = windows * (tokens * 4 * WIDTH**2 + 2 * tokens**2 * WIDTH)
    assert count(OnImages, (WIDTH, 8, 8))[1] == expected


def test_layer_with_two_names_is_counted_once_per_use() -> None:
    """olmoearth_pretrain 605: a module that is registered twice is counted twice."""

    class TwoNames(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(WIDTH, WIDTH)
            self.alias = nn.ModuleDict({"layer": self.layer})

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.alias["layer"](self.layer(x))
            return out

    params, macs = count(lambda: OnTokens(TwoNames()), (WIDTH, TOKENS, 1))
    assert (params, macs) == (WIDTH**2 + WIDTH, 2 * TOKENS * WIDTH**2)
