"""Build the layers that a variant names: attention and activations of timm or of a plugin, and a plugin's other layers.

A plugin's class gets those of the offered keyword arguments that are parameters of its constructor.
"""

import inspect
from collections.abc import Mapping
from functools import cache, partial
from typing import Any

from timm.layers import get_act_layer, get_attn
from torch import Tensor, nn

from arch.blocks import Layer
from arch.errors import InputError
from arch.layers import VERSION_SIGN, find_layer, is_custom
from arch.variant import EXPANSION, Variant

BLOCK_ARGUMENTS = {  # parameter of a block -> the field of `Variant` that needs it
    "act_layer": "act",
    "attn_layer": "attention",
    "aa_layer": "blurpool",
    "shortcut": "shortcut",
    "layer_scale": "layer_scale",
    "drop_path": "drop_path",
    "shakedrop": "shakedrop",
    "drop_block": "drop_block",
    "groups": "groups",
    "order": "order",
}

# The backward pass of these activations needs their input, so in place they would copy it first.
NEVER_IN_PLACE = frozenset({"silu", "mish", "hard_swish"})


def parameters_of(layer: Any) -> Mapping[str, inspect.Parameter]:
    """Return the parameters of a class or function by name."""
    return inspect.signature(layer).parameters


def attention_layer(attention: tuple[str, ...]) -> Layer | None:
    """Return a factory that creates several attention layers, applied in order; None if there are none."""
    layers = [_find_attention(entry) for entry in attention]

    def create(channels: int, **_: Any) -> nn.Module:  # timm also passes device and dtype, which a layer may not accept
        modules = [layer(channels) for layer in layers]
        return modules[0] if len(modules) == 1 else nn.Sequential(*modules)

    return create if layers else None


def _find_attention(entry: str) -> Layer:
    """Return the layer factory of an entry such as `se` or `se=8`, which is called with the number of channels."""
    name, _, reduction = entry.partition("=")
    if is_custom(name):
        layer: Layer = find_layer("attention", name)
        return partial(layer, reduction=int(reduction)) if reduction else layer
    layer = get_attn(name)
    return partial(layer, rd_ratio=1 / int(reduction)) if reduction else layer


@cache
def find_activation(name: str) -> Layer:
    """Return the factory of an activation, which is called with or without `inplace`."""
    if not is_custom(name):
        found: Layer = get_act_layer(name)
        return (lambda inplace=False: found()) if name in NEVER_IN_PLACE else found
    layer: Layer = find_layer("activation", name)
    takes_inplace = "inplace" in parameters_of(layer)

    def create(inplace: bool = False) -> nn.Module:
        return layer(inplace=inplace) if takes_inplace else layer()

    return create


def output_channels(variant: Variant, width: int) -> int:
    """Return the output channels of a block in a stage of this width."""
    if is_custom(variant.block):
        return width * int(getattr(find_layer("block", variant.block), "expansion", 1))
    return width * (EXPANSION if variant.block == "bottleneck" else 1)


def create_custom_block(variant: Variant, shape: tuple[int, int, int], layers: dict[str, Any]) -> nn.Module:
    """Create a plugin's block.

    Args:
        variant: The variant, whose parts the block must accept.
        shape: Input channels, output channels and stride.
        layers: The keyword arguments that depend on the place of the block.

    Raises:
        InputError: If the block does not accept a part of the variant.
    """
    layer = find_layer("block", variant.block)
    parameters = parameters_of(layer)
    for argument, field in BLOCK_ARGUMENTS.items():
        if argument not in parameters and getattr(variant, field) != getattr(Variant, field):
            name = variant.block.partition(VERSION_SIGN)[0]
            raise InputError(f"block {name} does not accept {field}: its constructor needs a parameter {argument}")
    fields = ("groups", "order", "layer_scale")
    offered = layers | {name: getattr(variant, name) for name in fields}
    block: nn.Module = layer(*shape, **{name: value for name, value in offered.items() if name in parameters})
    return block


def create_custom_stem(variant: Variant, in_chans: int, act_layer: Layer) -> nn.Module:
    """Create a plugin's stem."""
    layer = find_layer("stem", variant.stem)
    arguments: dict[str, Any] = {"act_layer": act_layer} if "act_layer" in parameters_of(layer) else {}
    stem: nn.Module = layer(in_chans, variant.stem_width, **arguments)
    return stem


def custom_stem_stride(variant: Variant) -> int:
    """Return the factor by which a plugin's stem reduces each side of the image."""
    return int(getattr(find_layer("stem", variant.stem), "stride", 1))


def create_custom_shortcut(name: str, in_chs: int, out_chs: int, stride: int) -> nn.Module:
    """Create a plugin's downsampling shortcut."""
    shortcut: nn.Module = find_layer("downsampling", name)(in_chs, out_chs, stride)
    return shortcut


def create_custom_pool(name: str, channels: int) -> nn.Module:
    """Create a plugin's global pooling, in the form that timm's classifier head needs."""
    layer = find_layer("pooling", name)
    return CustomPool(layer(channels=channels) if "channels" in parameters_of(layer) else layer())


class CustomPool(nn.Module):
    """A plugin's global pooling. Maps (batch, channels, height, width) to (batch, channels)."""

    pool_type = "custom"  # read by timm's ClassifierHead

    def __init__(self, pool: nn.Module) -> None:
        super().__init__()
        self.pool = pool

    def feat_mult(self) -> int:
        """Return the number of output channels per input channel."""
        return 1

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.pool(x)
        return out.flatten(1)
