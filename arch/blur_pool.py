"""timm's BlurPool2d, with a reflected border that keeps the channels-last format on a GPU."""

from typing import Any

import timm.layers
import torch
from torch import Tensor
from torch.nn import functional as F

HEIGHT, WIDTH = 2, 3  # dimensions of an image batch


class BlurPool2d(timm.layers.BlurPool2d):
    """A blur with a stride (arXiv:1904.11486). The layer of timm, with a faster way to pad on a GPU.

    torch's reflection padding returns NCHW on a GPU. The convolution of the blur would then compute in NCHW, and the
    next layer would convert the result back. On a CPU, where torch keeps the format, and in compiled or traced models,
    the layer computes as in timm.
    """

    filt: Tensor  # (channels or 1, 1, filt_size, filt_size)

    def forward(self, x: Tensor) -> Tensor:
        is_captured = torch.compiler.is_compiling() or torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
        if not x.is_cuda or is_captured or self.pad_mode != "reflect":
            out: Tensor = super().forward(x)
            return out
        padded = _ReflectBorder.apply(x, self.padding[0])
        channels = x.shape[1]
        return F.conv2d(padded, self.filt.expand(channels, -1, -1, -1), stride=self.stride, groups=channels)


class _ReflectBorder(torch.autograd.Function):
    """Reflection padding. The backward pass is deterministic, and copies each gradient twice."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, padding: int) -> Tensor:
        ctx.padding = padding
        return reflect(reflect(x, padding, HEIGHT), padding, WIDTH)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return fold(fold(gradient, ctx.padding, WIDTH), ctx.padding, HEIGHT), None


def reflect(x: Tensor, padding: int, dim: int) -> Tensor:
    """Pad both ends of a dimension with its reflection, in the memory format of `x`."""
    last, distances = x.shape[dim] - 1, range(1, padding + 1)
    before = [x.narrow(dim, distance, 1) for distance in reversed(distances)]
    after = [x.narrow(dim, last - distance, 1) for distance in distances]
    return torch.cat([*before, x, *after], dim)


def fold(gradient: Tensor, padding: int, dim: int) -> Tensor:
    """Return the gradient of the input of `reflect`, in the memory format of the gradient of its output."""
    size = gradient.shape[dim] - 2 * padding
    first, last = padding, padding + size - 1
    folded = gradient.narrow(dim, first, size).clone()
    for distance in range(1, padding + 1):
        folded.narrow(dim, distance, 1).add_(gradient.narrow(dim, first - distance, 1))
        folded.narrow(dim, size - 1 - distance, 1).add_(gradient.narrow(dim, last + distance, 1))
    return folded
