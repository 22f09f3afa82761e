"""`PARTS`: what a spec can add to a base. A part is a pure function `Variant -> Variant`.

To add one of your own, write its entry here; for an attention layer that is one call of `attention`. The entries stand
in an order in which they can be applied: a part is followed by those that change what it brings.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import combinations

from arch.bases import BASES
from arch.errors import InputError
from arch.variant import BLOCKS, STEMS, Variant

STAGES = "1234"  # counted from 1; no base has more
SOME_STAGES = tuple("".join(some) for count in range(1, len(STAGES) + 1) for some in combinations(STAGES, count))
SEARCHED = tuple(name for name, base in BASES.items() if base.searched)
FACTORS = (0.5, 1.5, 2.0)  # of blocks or channels, as a search tries them
REGNET = "Radosavovic et al. 2020, arXiv:2003.13678"  # a depth and a width for each stage
BESIDE_TRUNK = ("attention", "act", "blurpool", "drop_path", "dropout", "pool")  # with attention_stages, no trunk's own


@dataclass(frozen=True)
class Value:
    """What may follow `part=`: a number between two bounds, or one of some words."""

    default: float | int | str
    minimum: float = 0
    maximum: float = 0
    choices: tuple[str, ...] = ()
    grid: tuple[float | int | str, ...] = ()  # values a search tries; empty: the default, or all choices

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

    def candidates(self) -> tuple[float | int | str, ...]:
        """The values a search tries: the grid, else all choices, else the default alone."""
        return self.grid or self.choices or (self.default,)


@dataclass(frozen=True)
class Part:
    """One architectural change, by its usual name, with the paper it comes from."""

    name: str
    paper: str
    apply: Callable[..., Variant]  # (variant) or (variant, value)
    value: Value | None = None
    group: str = ""  # parts of one group take each other's place: a search picks one at most; empty: its own name
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
    PARTS[part.name] = replace(part, group=part.group or part.name)


def part(
    paper: str, value: Value | None = None, group: str = ""
) -> Callable[[Callable[..., Variant]], Callable[..., Variant]]:
    """Registers the decorated function as the part of its name."""

    def add(apply: Callable[..., Variant]) -> Callable[..., Variant]:
        register(Part(apply.__name__, paper, apply, value, group))
        return apply

    return add


def attention(name: str, paper: str, *, reduction: int | None = None, layer: str = "") -> None:
    """Registers an attention layer, put at the end of each residual branch or plain block, after those there are.

    name: as `timm.layers.get_attn` knows it, unless `layer` says "package.module:Class", built as `Class(channels)`.
    reduction: the layer's default reduction ratio r where `name=r` may set it: r times fewer hidden channels.
    """

    def apply(variant: Variant, value: int | None = None) -> Variant:
        entry = name if value == reduction else f"{name}={value}"
        return replace(variant, attention=(*variant.attention, entry))

    apply.__doc__ = f"{name} attention at the end of each residual branch"
    value = Value(reduction, 1, 64, grid=(reduction, max(1, reduction // 2))) if reduction else None
    register(Part(name, paper, apply, value, "attention", layer))


def activation(name: str, paper: str) -> None:
    """Registers an activation that replaces the one in use; `name` as `timm.layers.get_act_layer` knows it."""

    def apply(variant: Variant) -> Variant:
        return replace(variant, act=name)

    apply.__doc__ = f"{name} in place of the activation in use"
    register(Part(name, paper, apply, group="act"))


def pooling(name: str, kind: str, paper: str) -> None:
    """Registers a global pooling that replaces the one in use; `kind` is one of `arch.variant.POOLS`."""

    def apply(variant: Variant) -> Variant:
        return replace(variant, pool=kind)

    apply.__doc__ = f"{kind} global pooling before the classifier"
    register(Part(name, paper, apply, group="pool"))


def stage_depth(stage: int) -> None:
    """Registers `depthN`: the factor of `depth`, for stage N alone."""

    def apply(variant: Variant, factor: float) -> Variant:
        return replace(variant, depths=_depths(variant, factor, stage))

    apply.__doc__ = f"blocks of stage {stage} times this factor, at least one"
    register(Part(f"depth{stage}", REGNET, apply, Value(2.0, 0.1, 16.0, grid=FACTORS)))


def stage_width(stage: int) -> None:
    """Registers `widthN`: the factor of `width`, for stage N alone."""

    def apply(variant: Variant, factor: float) -> Variant:
        return replace(variant, widths=_widths(variant, factor, stage))

    apply.__doc__ = f"width of stage {stage} times this factor, to the nearest multiple of 8 or of the groups"
    register(Part(f"width{stage}", REGNET, apply, Value(2.0, 0.1, 16.0, grid=FACTORS)))


def _depths(variant: Variant, factor: float, stage: int | None = None) -> tuple[int, ...]:
    return _scaled(variant.depths, lambda blocks: max(1, int(blocks * factor + 0.5)), stage)


def _widths(variant: Variant, factor: float, stage: int | None = None) -> tuple[int, ...]:
    return _scaled(variant.widths, lambda channels: _channels(channels, factor, max(8, variant.groups)), stage)


def _channels(channels: int, factor: float, multiple: int = 8) -> int:
    return channels if factor == 1 else max(multiple, round(channels * factor / multiple) * multiple)


def _scaled(numbers: tuple[int, ...], scale: Callable[[int], int], stage: int | None) -> tuple[int, ...]:
    """`numbers`, one a stage, all scaled or that of `stage` alone. Raises ValueError where there is no such stage."""
    if stage is not None and stage > len(numbers):
        raise ValueError(f"there are {len(numbers)} stages")
    return tuple(scale(number) if stage in (None, place) else number for place, number in enumerate(numbers, 1))


def _attend(variant: Variant, stages: tuple[int, ...]) -> Variant:
    """`variant` with attention in those of `stages` that it has, () where these are all.

    Raises ValueError when it has none of them.
    """
    found = tuple(stage for stage in stages if stage <= len(variant.depths))
    if stages and not found:
        raise ValueError(f"there are {len(variant.depths)} stages")
    return replace(variant, attention_stages=found if len(found) < len(variant.depths) else ())


@part("He et al. 2016, arXiv:1512.03385; each base has its own", Value("resnet18", choices=tuple(BASES), grid=SEARCHED))
def trunk(variant: Variant, base: str) -> Variant:
    """another base's trunk; attention, activation, blur, pooling and dropping stay"""
    kept = {name: getattr(variant, name) for name in BESIDE_TRUNK}
    return _attend(replace(BASES[base].variant, **kept), variant.attention_stages)


@part("He et al. 2016, arXiv:1512.03385", Value("bottleneck", choices=BLOCKS, grid=("basic", "bottleneck")))
def block(variant: Variant, kind: str) -> Variant:
    """the block: two 3x3 convolutions, one 3x3 between two 1x1, or one 3x3 without a shortcut (conv)"""
    return replace(variant, block=kind)


@part("He et al. 2019, arXiv:1812.01187", Value("deep", choices=STEMS))
def stem(variant: Variant, kind: str) -> Variant:
    """the first layers: kernel size, pooling, or three 3x3 convolutions"""
    return replace(variant, stem=kind)


@part("He et al. 2016, arXiv:1603.05027")
def preact(variant: Variant) -> Variant:
    """norm and activation before each convolution"""
    return replace(variant, order="pre")


@part("ResNet-D, He et al. 2019, arXiv:1812.01187", group="shortcut")
def avg_down(variant: Variant) -> Variant:
    """average pooling and a stride-1 projection where a shortcut downsamples"""
    return replace(variant, shortcut="avg")


@part("option A of He et al. 2016, arXiv:1512.03385", group="shortcut")
def pad_shortcut(variant: Variant) -> Variant:
    """shortcuts without parameters: average pooling and zero channels"""
    return replace(variant, shortcut="pad")


@part("He et al. 2016, arXiv:1512.03385", Value(2.0, 0.1, 16.0, grid=FACTORS))
def depth(variant: Variant, factor: float) -> Variant:
    """blocks in every stage times this factor, at least one"""
    return replace(variant, depths=_depths(variant, factor))


@part("Zagoruyko & Komodakis 2016, arXiv:1605.07146", Value(2.0, 0.1, 16.0, grid=(0.5, 0.75, 1.5, 2.0)))
def width(variant: Variant, factor: float) -> Variant:
    """every width times this factor, to the nearest multiple of 8 or of the groups"""
    stem_width, growth = _channels(variant.stem_width, factor), round(variant.growth * factor)
    return replace(variant, widths=_widths(variant, factor), stem_width=stem_width, growth=growth)


for _stage in map(int, STAGES):
    stage_depth(_stage)
for _stage in map(int, STAGES):
    stage_width(_stage)


@part("Luo et al. 2019, arXiv:1903.07071", Value(1, 1, 2, grid=(1, 2)))
def last_stride(variant: Variant, stride: int) -> Variant:
    """the stride of the last stage"""
    return replace(variant, strides=(*variant.strides[:-1], stride))


@part("Xie et al. 2017, arXiv:1611.05431", Value(32, 1, 1024, grid=(2, 4, 8, 32)))
def groups(variant: Variant, number: int) -> Variant:
    """groups of the 3x3 convolution in bottleneck blocks"""
    return replace(variant, groups=number)


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


@part(
    "Hu et al. 2018, arXiv:1709.01507, its ablation by stages",
    Value("34", choices=SOME_STAGES, grid=("12", "34", "23")),
)
def attention_stages(variant: Variant, stages: str) -> Variant:
    """the attention that is there stands in these stages only"""
    return _attend(variant, tuple(map(int, stages))) if variant.attention else variant


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


@part("Zhang 2019, arXiv:1904.11486")
def blurpool(variant: Variant) -> Variant:
    """a blur before each downsampling of the residual branch"""
    return replace(variant, blurpool=True)


@part("Huang et al. 2016, arXiv:1603.09382", Value(0.1, 0.0, 0.9, grid=(0.05, 0.1, 0.2)))
def drop_path(variant: Variant, rate: float) -> Variant:
    """stochastic depth, rising linearly to this rate at the last block"""
    return replace(variant, drop_path=rate)


@part("Srivastava et al. 2014, JMLR 15", Value(0.1, 0.0, 0.9, grid=(0.1, 0.3)))
def dropout(variant: Variant, rate: float) -> Variant:
    """dropout before the classifier"""
    return replace(variant, dropout=rate)
