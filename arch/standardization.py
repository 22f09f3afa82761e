"""Weight Standardization: replace convolutions by ones whose filters have mean 0 and variance 1."""

from typing import Any

import torch
from torch import Tensor, nn

ATTENTION_NAMES = ("se", "attn")  # attributes of blocks in timm and in this package
EPSILON = 1e-6  # added to the variance, as in timm


class StandardizedConv2d(nn.Conv2d):
    """Convolution that standardizes each filter first (arXiv:1903.10520).

    The numbers are those of timm's `StdConv2d`, which uses a batch norm of the filters: fvcore counts it as MACs of the
    image, and it copies the filters to another memory format than channels last.
    """

    def forward(self, x: Tensor) -> Tensor:
        variance, mean = torch.var_mean(self.weight, (1, 2, 3), correction=0, keepdim=True)
        out: Tensor = self._conv_forward(x, (self.weight - mean) * (variance + EPSILON).rsqrt(), self.bias)
        return out


def standardize_weights(module: nn.Module) -> None:
    """Replace the convolutions inside a module by standardized ones, except those of attention layers."""
    for name, child in module.named_children():
        if type(child) is nn.Conv2d:
            setattr(module, name, _standardized(child))
        elif name not in ATTENTION_NAMES:
            standardize_weights(child)


def _standardized(conv: Any) -> StandardizedConv2d:
    shape = (conv.in_channels, conv.out_channels, conv.kernel_size, conv.stride, conv.padding, conv.dilation)
    return StandardizedConv2d(*shape, conv.groups, bias=conv.bias is not None)
