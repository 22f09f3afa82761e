"""Random layers that regularize residual branches during training, and their rates in each block."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Any

import torch
from timm.layers import DropPath, LayerScale2d, calculate_drop_path_rates
from torch import Tensor, nn
from torch.nn import functional as F

from arch.variant import Variant

DROP_BLOCK_PIXELS = 4  # side of a dropped square: half the side of the last maps of a network for 32 px
DROP_BLOCK_STAGES = (1.0, 0.25)  # factors of the rate in the last stage and in the one before


@dataclass(frozen=True)
class BlockRates:
    """The rates of the random layers in one block; 0 means that there is no such layer."""

    drop_path: float = 0.0
    shakedrop: float = 0.0
    drop_block: float = 0.0


def block_rates(variant: Variant) -> list[list[BlockRates]]:
    """Return the rates of every block, one list per stage.

    Stochastic depth (arXiv:1603.09382) rises linearly from 0 in the first block, as in timm. ShakeDrop rises linearly
    from rate / (number of blocks), as in arXiv:1802.02375. DropBlock has its whole rate in the last stage
    and a quarter of it in the one before (arXiv:1810.12890, section 4.1). Its rate does not grow during training, as in
    the paper's schedule, because an architecture does not depend on the length of the training.
    """
    blocks = sum(variant.depths)
    drop_path: Any = calculate_drop_path_rates(variant.drop_path, blocks)
    stages, done = [], 0
    for stage, depth in enumerate(variant.depths):
        from_last = len(variant.depths) - 1 - stage
        factor = DROP_BLOCK_STAGES[from_last] if from_last < len(DROP_BLOCK_STAGES) else 0.0
        stages.append(
            [
                BlockRates(drop_path[index], variant.shakedrop * (index + 1) / blocks, variant.drop_block * factor)
                for index in range(done, done + depth)
            ]
        )
        done += depth
    return stages


def drop_block_layer(rate: float) -> Callable[[], nn.Module] | None:
    """Return a factory of DropBlock layers; None if the rate is 0."""
    return partial(DropBlock, rate) if rate else None


def branch_end(channels: int, layer_scale: float, rates: BlockRates) -> nn.Module | None:
    """Create the layers between a residual branch and its sum with the shortcut; None if there are none.

    Args:
        channels: Output channels of the branch.
        layer_scale: Initial value of LayerScale; 0: no such layer.
        rates: The rates of the block.
    """
    layers: list[nn.Module] = []
    if layer_scale:
        layers.append(LayerScale2d(channels, layer_scale))
    if rates.drop_path:
        layers.append(DropPath(rates.drop_path))
    if rates.shakedrop:
        layers.append(ShakeDrop(rates.shakedrop))
    return nn.Sequential(*layers) if len(layers) > 1 else next(iter(layers), None)


class DropBlock(nn.Module):
    """DropBlock (arXiv:1810.12890, algorithm 1): set squares of a feature map to 0 during training.

    The squares are drawn for each image, are the same in all channels, as in timm, and lie inside the map. Where a map
    is smaller than a square, the whole map is dropped at the given rate. timm's `DropBlock2d` also draws squares that
    the borders cut off, without a smaller probability: at a rate of 0.1, it drops 18% of 8x8 and 60% of 4x4 maps.
    """

    def __init__(self, rate: float, pixels: int = DROP_BLOCK_PIXELS) -> None:
        super().__init__()
        self.rate, self.pixels = rate, pixels

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        sides = x.shape[2:]
        square = [min(self.pixels, side) for side in sides]
        places = [side - pixels + 1 for side, pixels in zip(sides, square, strict=True)]
        gamma = self.rate * prod(sides) / (prod(square) * prod(places))  # equation 1
        corners = x.new_empty(len(x), 1, *places).bernoulli_(gamma)
        height, width = square
        padded = F.pad(corners, (width - 1, width - 1, height - 1, height - 1))
        kept = 1 - F.max_pool2d(padded, square, stride=1)
        scale = kept.numel() / kept.sum(dtype=torch.float32).clamp(min=1)
        return x * kept.mul_(scale.to(kept.dtype))

    def extra_repr(self) -> str:
        return f"rate={self.rate:g}, pixels={self.pixels}"


class ShakeDrop(nn.Module):
    """ShakeDrop (arXiv:1802.02375, equation 6) on a residual branch.

    In training, the branch is multiplied by b + alpha - b * alpha, and its gradient by b + beta - b * beta. Here, b is
    1 with probability 1 - rate, otherwise 0, alpha is uniform in [-1, 1], and beta in [0, 1]. All three are drawn for
    each image, as in the code of arXiv:2010.01412: on the device, from torch's global generator, like the draws of
    `DropPath`. In evaluation, the branch is multiplied by the expectation, 1 - rate.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x * (1 - self.rate)
        shape = (len(x), *[1] * (x.ndim - 1))
        kept = torch.empty(shape, dtype=torch.bool, device=x.device).bernoulli_(1 - self.rate)
        alpha, beta = x.new_empty(shape).uniform_(-1, 1), x.new_empty(shape).uniform_(0, 1)
        out: Tensor = _Scaled.apply(x, alpha.masked_fill_(kept, 1), beta.masked_fill_(kept, 1))
        return out

    def extra_repr(self) -> str:
        return f"rate={self.rate:g}"


class _Scaled(torch.autograd.Function):
    """Multiply a tensor by one factor, and its gradient by another one."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, factor: Tensor, gradient_factor: Tensor) -> Tensor:
        ctx.save_for_backward(gradient_factor)
        return x * factor

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (gradient_factor,) = ctx.saved_tensors
        return gradient * gradient_factor, None, None
