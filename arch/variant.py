"""`Variant`: the architecture as plain data, which is everything that a row of an ablation may change."""

import hashlib
import json
from dataclasses import dataclass, fields, replace
from typing import Any

from arch.layers import CUSTOM_LAYERS, FIELDS, is_custom, with_version

BLOCKS = ("basic", "bottleneck", "conv")
ORDERS = ("post", "pre", "pyramid")
SHORTCUTS = ("conv", "avg", "pad")
STEMS = ("conv3", "conv3_pool", "conv7", "conv7_pool", "deep", "patch2")
POOLS = ("avg", "max", "avgmax", "catavgmax", "gem")
EXPANSION = 4  # output channels of a bottleneck block / width of its stage


@dataclass(frozen=True)
class Variant:
    """An image classifier with stages of identical blocks. Equal variants are one architecture and share one row.

    Raises:
        ValueError: If the fields contradict each other.
    """

    depths: tuple[int, ...]  # blocks in each stage
    widths: tuple[int, ...]  # channels of each stage, before a bottleneck's expansion
    strides: tuple[int, ...]  # stride of the first block of each stage
    stem_width: int  # output channels of the stem
    block: str = "basic"  # one of BLOCKS, or a plugin's; "conv" is a single 3x3 convolution without a shortcut
    order: str = "post"  # one of ORDERS: norm and activation after or before the convolution
    shortcut: str = "conv"  # one of SHORTCUTS: how a shortcut changes the shape
    stem: str = "conv3"  # one of STEMS
    growth: int = 0  # channels added evenly over all blocks (alpha of PyramidNet)
    groups: int = 1  # groups of the 3x3 convolution of a bottleneck (cardinality of ResNeXt)
    inner_ratio: float = 1.0  # channels of the 3x3 convolution of a bottleneck / its width
    scale: int = 1  # parts into which these channels are split; each but one has a 3x3 convolution (Res2Net)
    attention: tuple[str, ...] = ()  # applied in this order at the end of each residual branch or plain block
    attention_stages: tuple[int, ...] = ()  # stages that have attention, counted from 1; empty: all
    act: str = "relu"  # a name that timm.layers.get_act_layer accepts
    blurpool: bool = False  # replaces each strided 3x3 convolution with a stride-1 convolution and a blur
    weight_standardization: bool = False  # standardizes the filters of all convolutions outside attention layers
    layer_scale: float = 0.0  # initial value of a learned scale per channel of each residual branch; 0: no scale
    drop_path: float = 0.0  # stochastic depth rate of the last block, rising linearly from 0
    shakedrop: float = 0.0  # rate of ShakeDrop in the last block, rising linearly; replaces stochastic depth
    drop_block: float = 0.0  # rate of DropBlock in the last stage; a quarter of it in the one before
    dropout: float = 0.0  # dropout rate before the classifier
    pool: str = "avg"  # one of POOLS: global pooling

    def __post_init__(self) -> None:
        for name, valid in (
            ("block", BLOCKS),
            ("order", ORDERS),
            ("shortcut", SHORTCUTS),
            ("stem", STEMS),
            ("pool", POOLS),
        ):
            value = getattr(self, name)
            if value not in valid and not is_custom(value) and (FIELDS.get(name), value) not in CUSTOM_LAYERS:
                raise ValueError(f"{name} must be one of {', '.join(valid)}")
        if not 0 < len(self.depths) == len(self.widths) == len(self.strides):
            raise ValueError("depths, widths and strides must have one entry per stage")
        if min(self.depths + self.widths + self.strides + (self.stem_width, self.groups, self.scale)) < 1:
            raise ValueError("depths, widths, strides, stem width, groups and scale must be at least 1")
        if not set(self.attention_stages) <= set(range(1, len(self.depths) + 1)):
            raise ValueError(f"attention_stages must be from 1 to {len(self.depths)}")
        if self.groups > 1 and self.block in ("basic", "conv"):
            raise ValueError("groups require bottleneck blocks (resnet50, resnext50, pyramidnet272)")
        if self.scale > 1:
            self._check_scale()
        if self.drop_path and self.shakedrop:
            raise ValueError("drop_path and shakedrop both drop residual branches: use one of them")
        if self.block == "conv":
            self._check_plain()
        self._check_channels()

    def _check_scale(self) -> None:
        """Reject what the block of Res2Net does not have."""
        if self.block != "bottleneck":
            raise ValueError("res2net requires bottleneck blocks (resnet50, resnext50)")
        if self.order != "post":
            raise ValueError(f"res2net requires blocks with post-activation, not {self.order}")
        if self.blurpool:
            raise ValueError("res2net cannot be combined with blurpool: its strided blocks already pool one split")

    def _check_plain(self) -> None:
        """Reject options that need a shortcut: around one layer it would be linear (He et al. 2016, section 3.2)."""
        for name in ("order", "shortcut", "layer_scale", "drop_path", "shakedrop"):
            value = getattr(self, name)
            if value != getattr(Variant, name):
                raise ValueError(f"{name} {value} requires residual blocks (basic, bottleneck): conv has no shortcut")

    def _check_channels(self) -> None:
        widths = sum(self.block_widths(), ())
        for inner in map(self.inner_width, widths):
            if not inner:
                raise ValueError(f"a width of {min(widths)} channels cannot be split into {self.scale} scales")
            if inner % self.groups:
                raise ValueError(f"{self.groups} groups do not divide {inner} channels")
        expansion = EXPANSION if self.block == "bottleneck" else 1
        channels = [self.stem_width, *(width * expansion for width in widths)]
        if self.shortcut == "pad" and channels != sorted(channels):
            raise ValueError("pad shortcuts cannot reduce channels: a stage has fewer channels than the one before")

    def block_widths(self) -> tuple[tuple[int, ...], ...]:
        """Return the width of every block, one tuple per stage.

        With `growth`, each block adds growth / (number of blocks) channels, rounded down (PyramidNet, Han et al. 2017,
        arXiv:1610.02915, section 2.1).
        """
        blocks, done, stages = sum(self.depths), 0, []
        for depth, width in zip(self.depths, self.widths, strict=True):
            stages.append(tuple(width + self.growth * (done + i + 1) // blocks for i in range(depth)))
            done += depth
        return tuple(stages)

    def inner_width(self, width: int) -> int:
        """Return the channels of each 3x3 convolution of a bottleneck with this width."""
        return round(width * self.inner_ratio / self.scale)

    def attention_in(self, stage: int) -> tuple[str, ...]:
        """Return the attention layers in each block of a stage, counted from 1."""
        return self.attention if not self.attention_stages or stage in self.attention_stages else ()

    def with_versions(self) -> "Variant":
        """Return the variant with the versions of the plugins whose layers it names. See `arch.layers`."""
        changes: dict[str, Any] = {}
        for name in FIELDS:
            value = getattr(self, name)
            changes[name] = (
                with_version(name, value)
                if isinstance(value, str)
                else tuple(with_version(name, word) for word in value)
            )
        return replace(self, **changes)

    def key(self) -> str:
        """Return a hash that is equal for equal architectures on every machine and in every version.

        Fields with their default value are left out, so that adding a field changes no existing key.
        """
        chosen = {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) != f.default}
        chosen |= {
            f.name: float(chosen[f.name]) for f in fields(self) if f.name in chosen and isinstance(f.default, float)
        }
        return hashlib.sha256(json.dumps(chosen, sort_keys=True).encode()).hexdigest()[:16]
