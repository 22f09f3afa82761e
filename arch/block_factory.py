"""Create the blocks and shortcuts of a `Variant`: timm's for post-activation, otherwise those of `arch.blocks`."""

from typing import Any

from timm.models.res2net import Bottle2neck
from timm.models.resnet import BasicBlock, Bottleneck, downsample_avg, downsample_conv
from torch import nn

from arch.blocks import PadShortcut, PlainBlock, PreActBlock, branch_convs
from arch.blur_pool import BlurPool2d
from arch.custom_layers import (
    attention_layer,
    create_custom_block,
    create_custom_shortcut,
    find_activation,
    output_channels,
)
from arch.layers import is_custom
from arch.regularization import BlockRates, branch_end, drop_block_layer
from arch.variant import Variant


def create_block(variant: Variant, shape: tuple[int, int, int], rates: BlockRates) -> nn.Module:
    """Create one block.

    Args:
        variant: The variant, with the attention of this stage only.
        shape: Input channels, width of the stage and stride.
        rates: The rates of the random layers in this block.
    """
    in_chs, width, stride = shape
    layers: dict[str, Any] = {
        "act_layer": find_activation(variant.act),
        "attn_layer": attention_layer(variant.attention),
        "aa_layer": BlurPool2d if variant.blurpool else None,
        "drop_block": drop_block_layer(rates.drop_block),
    }
    if variant.block == "conv":
        return PlainBlock(in_chs, width, stride, **layers)
    out_chs = output_channels(variant, width)
    shortcut = _create_shortcut(variant, in_chs, out_chs, stride) if stride > 1 or in_chs != out_chs else None
    if is_custom(variant.block):
        layers |= {"shortcut": shortcut, "drop_path": rates.drop_path, "shakedrop": rates.shakedrop}
        return create_custom_block(variant, (in_chs, out_chs, stride), layers)
    layers["drop_path"] = branch_end(out_chs, variant.layer_scale, rates)
    if variant.order == "post":
        return _create_post_block(variant, shape, shortcut, layers)
    convs, pyramid = branch_convs(variant, in_chs, width, stride), variant.order == "pyramid"
    return PreActBlock(in_chs, convs, stride=stride, shortcut=shortcut, pyramid=pyramid, **layers)


def _create_post_block(
    variant: Variant, shape: tuple[int, int, int], shortcut: nn.Module | None, layers: dict[str, Any]
) -> nn.Module:
    """Create a block of timm's ResNet or Res2Net (arXiv:1904.01169)."""
    if variant.block == "basic":
        return BasicBlock(*shape, shortcut, **layers)
    # timm computes the inner width as floor(width * base_width / 64) * groups; adding 0.5 avoids rounding down
    _, width, _ = shape
    base_width: Any = (variant.inner_width(width) // variant.groups + 0.5) * 64 / width
    if variant.scale == 1:
        return Bottleneck(*shape, shortcut, variant.groups, base_width, **layers)
    return Bottle2neck(*shape, shortcut, variant.groups, base_width, variant.scale, norm_layer=nn.BatchNorm2d, **layers)


def _create_shortcut(variant: Variant, in_chs: int, out_chs: int, stride: int) -> nn.Module:
    if is_custom(variant.shortcut):
        return create_custom_shortcut(variant.shortcut, in_chs, out_chs, stride)
    if variant.shortcut == "pad":
        return PadShortcut(in_chs, out_chs, stride)
    create = downsample_avg if variant.shortcut == "avg" else downsample_conv
    shortcut: Any = create(in_chs, out_chs, 1, stride)
    # a pre-activation shortcut has no norm: drop the last layer of ([pool], convolution, norm)
    return nn.Sequential(*list(shortcut)[:-1]) if variant.order != "post" else nn.Sequential(*shortcut)
