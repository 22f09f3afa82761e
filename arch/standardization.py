"""Weight Standardization: replace convolutions by ones whose filters have mean 0 and variance 1."""

from typing import Any

from timm.layers import StdConv2d
from torch import nn

ATTENTION_NAMES = ("se", "attn")  # attributes of blocks in timm and in this package


def standardize_weights(module: nn.Module) -> None:
    """Replace the convolutions inside a module, except those of attention layers, by timm's `StdConv2d`.

    It standardizes each filter before the convolution (arXiv:1903.10520, equations 5 and 6).
    """
    for name, child in module.named_children():
        if type(child) is nn.Conv2d:
            setattr(module, name, _standardized(child))
        elif name not in ATTENTION_NAMES:
            standardize_weights(child)


def _standardized(conv: Any) -> StdConv2d:
    shape = (conv.in_channels, conv.out_channels, conv.kernel_size, conv.stride, conv.padding, conv.dilation)
    return StdConv2d(*shape, conv.groups, bias=conv.bias is not None)
