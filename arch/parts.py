"""`PARTS`: what a spec can add to a base. A part is a pure function `Variant -> Variant`.

To add one of your own, write its entry here; for an attention layer that is one call of `attention`.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace

from arch.errors import InputError
from arch.variant import STEMS, Variant


@dataclass(frozen=True)
class Value:
    """What may follow `part=`: a number between two bounds, or one of some words."""

    default: float | int | str
    minimum: float = 0
    maximum: float = 0
    choices: tuple[str, ...] = ()

    def __str__(self) -> str:
        if self.choices:
            return "one of " + ", ".join(self.choices)
        kind = "a whole number" if isinstance(self.default, int) else "a number"
        return f"{kind} from {self.minimum:g} to {self.maximum:g}"

    def read(self, text: str) -> float | int | str:
        """Returns `text` as a value of this kind. Raises InputError naming what is valid."""
        if self.choices and text in self.choices:
            return text
        pattern = r"[0-9]{1,9}" if isinstance(self.default, int) else r"([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?"
        if not self.choices and re.fullmatch(pattern, text):
            number = int(text) if isinstance(self.default, int) else float(text)
            if self.minimum <= number <= self.maximum:
                return number
        raise InputError(f"{text!r} is not {self}")


@dataclass(frozen=True)
class Part:
    """One architectural change, by its usual name, with the paper it comes from."""

    name: str
    paper: str
    apply: Callable[..., Variant]  # (variant) or (variant, value)
    value: Value | None = None
    layer: str = ""  # for attention: "package.module:Class" when timm does not have it

    @property
    def summary(self) -> str:
        """What the part does, in a line."""
        return (self.apply.__doc__ or "").strip().splitlines()[0]


PARTS: dict[str, Part] = {}


def register(part: Part) -> None:
    """Adds a part. Raises ValueError when the name is taken."""
    if part.name in PARTS:
        raise ValueError(f"a part named {part.name!r} is registered already")
    PARTS[part.name] = part


def part(paper: str, value: Value | None = None) -> Callable[[Callable[..., Variant]], Callable[..., Variant]]:
    """Registers the decorated function as the part of its name."""

    def add(apply: Callable[..., Variant]) -> Callable[..., Variant]:
        register(Part(apply.__name__, paper, apply, value))
        return apply

    return add


def attention(name: str, paper: str, *, reduction: int | None = None, layer: str = "") -> None:
    """Registers an attention layer, put at the end of each residual branch after those that are there.

    name: as `timm.layers.get_attn` knows it, unless `layer` says "package.module:Class", built as `Class(channels)`.
    reduction: the layer's default reduction ratio r where `name=r` may set it: r times fewer hidden channels.
    """

    def apply(variant: Variant, value: int | None = None) -> Variant:
        entry = name if value == reduction else f"{name}={value}"
        return replace(variant, attention=(*variant.attention, entry))

    apply.__doc__ = f"{name} attention at the end of each residual branch"
    register(Part(name, paper, apply, Value(reduction, 1, 64) if reduction else None, layer))


def activation(name: str, paper: str) -> None:
    """Registers an activation that replaces the one in use; `name` as `timm.layers.get_act_layer` knows it."""

    def apply(variant: Variant) -> Variant:
        return replace(variant, act=name)

    apply.__doc__ = f"{name} in place of the activation in use"
    register(Part(name, paper, apply))


def pooling(name: str, kind: str, paper: str) -> None:
    """Registers a global pooling that replaces the one in use; `kind` is one of `arch.variant.POOLS`."""

    def apply(variant: Variant) -> Variant:
        return replace(variant, pool=kind)

    apply.__doc__ = f"{kind} global pooling before the classifier"
    register(Part(name, paper, apply))


attention("se", "Hu et al. 2018, arXiv:1709.01507", reduction=16)
attention("cbam", "Woo et al. 2018, arXiv:1807.06521", reduction=16)
attention("lcbam", "Woo et al. 2018, arXiv:1807.06521; timm's lighter form", reduction=16)
attention("ese", "Lee & Park 2020, arXiv:1911.06667")
attention("eca", "Wang et al. 2020, arXiv:1910.03151")
attention("ecam", "Wang et al. 2020, arXiv:1910.03151; with timm's MLP")
attention("ceca", "Wang et al. 2020, arXiv:1910.03151; timm's circular padding")
attention("gc", "Cao et al. 2019, arXiv:1904.11492", reduction=8)
attention("gca", "Cao et al. 2019, arXiv:1904.11492; fused by addition", reduction=8)
attention("coord", "Hou et al. 2021, arXiv:2103.02907")
attention("scoord", "Hou et al. 2021, arXiv:2103.02907; timm's simpler form")
attention("ela", "Xu & Wan 2024, arXiv:2403.01123")
attention("strip", "Hou et al. 2020, arXiv:2003.13328; timm's strip attention")

activation("relu", "Nair & Hinton 2010")
activation("leaky_relu", "Maas et al. 2013")
activation("elu", "Clevert et al. 2016, arXiv:1511.07289")
activation("gelu", "Hendrycks & Gimpel 2016, arXiv:1606.08415")
activation("silu", "Elfwing et al. 2018, arXiv:1702.03118")
activation("mish", "Misra 2020, arXiv:1908.08681")
activation("hard_swish", "Howard et al. 2019, arXiv:1905.02244")

pooling("avg_pool", "avg", "Lin et al. 2014, arXiv:1312.4400")
pooling("max_pool", "max", "Oquab et al. 2015, CVPR")
pooling("avgmax_pool", "avgmax", "timm's mean of average and maximum")
pooling("catavgmax_pool", "catavgmax", "timm's average and maximum side by side")
pooling("gem", "gem", "Radenovic et al. 2019, arXiv:1711.02512")


@part("ResNet-D, He et al. 2019, arXiv:1812.01187")
def avg_down(variant: Variant) -> Variant:
    """average pooling and a stride-1 projection where a shortcut downsamples"""
    return replace(variant, shortcut="avg")


@part("option A of He et al. 2016, arXiv:1512.03385")
def pad_shortcut(variant: Variant) -> Variant:
    """shortcuts without parameters: average pooling and zero channels"""
    return replace(variant, shortcut="pad")


@part("Zhang 2019, arXiv:1904.11486")
def blurpool(variant: Variant) -> Variant:
    """a blur before each downsampling of the residual branch"""
    return replace(variant, blurpool=True)


@part("He et al. 2016, arXiv:1603.05027")
def preact(variant: Variant) -> Variant:
    """norm and activation before each convolution"""
    return replace(variant, order="pre")


@part("Huang et al. 2016, arXiv:1603.09382", Value(0.1, 0.0, 0.9))
def drop_path(variant: Variant, rate: float) -> Variant:
    """stochastic depth, rising linearly to this rate at the last block"""
    return replace(variant, drop_path=rate)


@part("Srivastava et al. 2014, JMLR 15", Value(0.1, 0.0, 0.9))
def dropout(variant: Variant, rate: float) -> Variant:
    """dropout before the classifier"""
    return replace(variant, dropout=rate)


@part("Luo et al. 2019, arXiv:1903.07071", Value(1, 1, 2))
def last_stride(variant: Variant, stride: int) -> Variant:
    """the stride of the last stage"""
    return replace(variant, strides=(*variant.strides[:-1], stride))


@part("Zagoruyko & Komodakis 2016, arXiv:1605.07146", Value(2.0, 0.1, 16.0))
def width(variant: Variant, factor: float) -> Variant:
    """every width times this factor, to the nearest multiple of 8 or of the groups"""

    def scale(channels: int, multiple: int) -> int:
        return channels if factor == 1 else max(multiple, round(channels * factor / multiple) * multiple)

    step = variant.groups if variant.groups > 8 else 8
    return replace(
        variant,
        widths=tuple(scale(channels, step) for channels in variant.widths),
        stem_width=scale(variant.stem_width, 8),
        growth=round(variant.growth * factor),
    )


@part("He et al. 2016, arXiv:1512.03385", Value(2.0, 0.1, 16.0))
def depth(variant: Variant, factor: float) -> Variant:
    """blocks in every stage times this factor, at least one"""
    return replace(variant, depths=tuple(max(1, int(blocks * factor + 0.5)) for blocks in variant.depths))


@part("Xie et al. 2017, arXiv:1611.05431", Value(32, 1, 1024))
def groups(variant: Variant, number: int) -> Variant:
    """groups of the 3x3 convolution in bottleneck blocks"""
    return replace(variant, groups=number)


@part("He et al. 2019, arXiv:1812.01187", Value("deep", choices=STEMS))
def stem(variant: Variant, kind: str) -> Variant:
    """the first layers: kernel size, pooling, or three 3x3 convolutions"""
    return replace(variant, stem=kind)
