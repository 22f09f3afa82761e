"""`PARTS`: what a spec can add to a base. A part is a pure function `Variant -> Variant`.

To add a part, register it here; an attention layer takes a single call of `attention`. A search applies parts in the
order of registration, so a part that modifies another one must be registered after it.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import combinations

from arch.bases import BASES
from arch.errors import InputError
from arch.variant import BLOCKS, STEMS, Variant

STAGES = "1234"  # stage numbers; no base has more stages
STAGE_SUBSETS = tuple("".join(subset) for size in range(1, len(STAGES) + 1) for subset in combinations(STAGES, size))
SEARCHED_BASES = tuple(name for name, base in BASES.items() if base.searched)
SEARCHED_FACTORS = (0.5, 1.5, 2.0)  # multipliers of blocks or channels that a search tries
REGNET = "Radosavovic et al. 2020, arXiv:2003.13678"  # varies depth and width per stage
KEPT_WITH_BACKBONE = ("attention", "act", "blurpool", "drop_path", "dropout", "pool")  # and attention_stages


@dataclass(frozen=True)
class Value:
    """The values allowed after `part=`: a number between two bounds, or one of several words."""

    default: float | int | str
    minimum: float = 0
    maximum: float = 0
    choices: tuple[str, ...] = ()
    grid: tuple[float | int | str, ...] = ()  # values that a search tries; empty: all choices, or the default

    def __str__(self) -> str:
        if self.choices:
            return "one of " + ", ".join(self.choices)
        kind = "a whole number" if isinstance(self.default, int) else "a number"
        return f"{kind} from {self.minimum:g} to {self.maximum:g}"

    def parse(self, text: str) -> float | int | str:
        """Return `text` as a value of this type. Raises an InputError that lists the valid values."""
        if self.choices and text in self.choices:
            return text
        pattern = r"[0-9]{1,9}" if isinstance(self.default, int) else r"([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?"
        if not self.choices and re.fullmatch(pattern, text):
            number = int(text) if isinstance(self.default, int) else float(text)
            if self.minimum <= number <= self.maximum:
                return number
        raise InputError(f"{text!r} is not {self}")

    def candidates(self) -> tuple[float | int | str, ...]:
        """Return the values that a search tries: the grid, or all choices, or only the default."""
        return self.grid or self.choices or (self.default,)


@dataclass(frozen=True)
class Part:
    """One architectural change under its usual name, and the paper that introduced it."""

    name: str
    paper: str
    apply: Callable[..., Variant]  # called as apply(variant) or apply(variant, value)
    value: Value | None = None
    group: str = ""  # parts of a group replace each other, so a search picks at most one; default: the name
    layer: str = ""  # "package.module:Class" of an attention layer that timm lacks

    @property
    def summary(self) -> str:
        """What the part does, in one line."""
        return (self.apply.__doc__ or "").strip().splitlines()[0]


PARTS: dict[str, Part] = {}


def register(part: Part) -> None:
    """Register a part. Raises ValueError if the name is taken."""
    if part.name in PARTS:
        raise ValueError(f"a part named {part.name!r} is already registered")
    PARTS[part.name] = replace(part, group=part.group or part.name)


def part(
    paper: str, value: Value | None = None, group: str = ""
) -> Callable[[Callable[..., Variant]], Callable[..., Variant]]:
    """Register the decorated function as a part with the name of the function."""

    def add(apply: Callable[..., Variant]) -> Callable[..., Variant]:
        register(Part(apply.__name__, paper, apply, value, group))
        return apply

    return add


def attention(name: str, paper: str, *, reduction: int | None = None, layer: str = "") -> None:
    """Register an attention layer, which is appended to each residual branch or plain block.

    Args:
        name: The name of the part. Without `layer`, it must also be a name that `timm.layers.get_attn` accepts.
        paper: The paper that introduced the layer.
        reduction: The default reduction ratio r (r times fewer hidden channels) if `name=r` can set it.
        layer: "package.module:Class" of a layer that is built as `Class(channels)`.
    """

    def apply(variant: Variant, value: int | None = None) -> Variant:
        entry = name if value == reduction else f"{name}={value}"
        return replace(variant, attention=(*variant.attention, entry))

    apply.__doc__ = f"{name} attention at the end of each residual branch"
    value = Value(reduction, 1, 64, grid=(reduction, max(1, reduction // 2))) if reduction else None
    register(Part(name, paper, apply, value, "attention", layer))


def activation(name: str, paper: str) -> None:
    """Register an activation, named as in `timm.layers.get_act_layer`, that replaces the current one."""

    def apply(variant: Variant) -> Variant:
        return replace(variant, act=name)

    apply.__doc__ = f"{name} instead of the current activation"
    register(Part(name, paper, apply, group="act"))


def pooling(name: str, kind: str, paper: str) -> None:
    """Register a global pooling (`kind` is one of `arch.variant.POOLS`) that replaces the current one."""

    def apply(variant: Variant) -> Variant:
        return replace(variant, pool=kind)

    apply.__doc__ = f"{kind} global pooling before the classifier"
    register(Part(name, paper, apply, group="pool"))


def stage_depth(stage: int) -> None:
    """Register `depthN`, which multiplies the depth of stage N only."""

    def apply(variant: Variant, factor: float) -> Variant:
        return replace(variant, depths=_depths(variant, factor, stage))

    apply.__doc__ = f"multiply the number of blocks in stage {stage} by this factor (at least one block)"
    register(Part(f"depth{stage}", REGNET, apply, Value(2.0, 0.1, 16.0, grid=SEARCHED_FACTORS)))


def stage_width(stage: int) -> None:
    """Register `widthN`, which multiplies the width of stage N only."""

    def apply(variant: Variant, factor: float) -> Variant:
        return replace(variant, widths=_widths(variant, factor, stage))

    rounding = "rounded to a multiple of 8 or of the number of groups"
    apply.__doc__ = f"multiply the width of stage {stage} by this factor, {rounding}"
    register(Part(f"width{stage}", REGNET, apply, Value(2.0, 0.1, 16.0, grid=SEARCHED_FACTORS)))


def _depths(variant: Variant, factor: float, stage: int | None = None) -> tuple[int, ...]:
    return _scaled(variant.depths, lambda blocks: max(1, int(blocks * factor + 0.5)), stage)


def _widths(variant: Variant, factor: float, stage: int | None = None) -> tuple[int, ...]:
    return _scaled(variant.widths, lambda channels: _channels(channels, factor, max(8, variant.groups)), stage)


def _channels(channels: int, factor: float, multiple: int = 8) -> int:
    return channels if factor == 1 else max(multiple, round(channels * factor / multiple) * multiple)


def _scaled(numbers: tuple[int, ...], scale: Callable[[int], int], stage: int | None) -> tuple[int, ...]:
    """Scale one number per stage, or only that of `stage`. Raises ValueError if there is no such stage."""
    if stage is not None and stage > len(numbers):
        raise ValueError(f"there are {len(numbers)} stages")
    return tuple(scale(number) if stage in (None, position) else number for position, number in enumerate(numbers, 1))


def _with_attention_in(variant: Variant, stages: tuple[int, ...]) -> Variant:
    """Return `variant` with attention only in those of `stages` that it has; () means all stages.

    Raises:
        ValueError: If the variant has none of these stages.
    """
    existing = tuple(stage for stage in stages if stage <= len(variant.depths))
    if stages and not existing:
        raise ValueError(f"there are {len(variant.depths)} stages")
    return replace(variant, attention_stages=existing if len(existing) < len(variant.depths) else ())


@part(
    "He et al. 2016, arXiv:1512.03385; see the reference of each base",
    Value("resnet18", choices=tuple(BASES), grid=SEARCHED_BASES),
)
def backbone(variant: Variant, base: str) -> Variant:
    """the backbone of another base; keeps attention, activation, blur, pooling, drop path and dropout"""
    kept = {name: getattr(variant, name) for name in KEPT_WITH_BACKBONE}
    return _with_attention_in(replace(BASES[base].variant, **kept), variant.attention_stages)


@part("He et al. 2016, arXiv:1512.03385", Value("bottleneck", choices=BLOCKS, grid=("basic", "bottleneck")))
def block(variant: Variant, kind: str) -> Variant:
    """block type: two 3x3 convolutions (basic), 1x1-3x3-1x1 (bottleneck), or one 3x3 without a shortcut (conv)"""
    return replace(variant, block=kind)


@part("He et al. 2019, arXiv:1812.01187", Value("deep", choices=STEMS))
def stem(variant: Variant, kind: str) -> Variant:
    """stem: kernel size and pooling, or three 3x3 convolutions (deep)"""
    return replace(variant, stem=kind)


@part("He et al. 2016, arXiv:1603.05027")
def preact(variant: Variant) -> Variant:
    """norm and activation before each convolution (pre-activation)"""
    return replace(variant, order="pre")


@part("ResNet-D, He et al. 2019, arXiv:1812.01187", group="shortcut")
def avg_down(variant: Variant) -> Variant:
    """downsampling shortcuts with average pooling and a stride-1 projection"""
    return replace(variant, shortcut="avg")


@part("option A of He et al. 2016, arXiv:1512.03385", group="shortcut")
def pad_shortcut(variant: Variant) -> Variant:
    """shortcuts without parameters: average pooling and zero-padded channels"""
    return replace(variant, shortcut="pad")


@part("He et al. 2016, arXiv:1512.03385", Value(2.0, 0.1, 16.0, grid=SEARCHED_FACTORS))
def depth(variant: Variant, factor: float) -> Variant:
    """multiply the number of blocks in every stage by this factor (at least one block)"""
    return replace(variant, depths=_depths(variant, factor))


@part("Zagoruyko & Komodakis 2016, arXiv:1605.07146", Value(2.0, 0.1, 16.0, grid=(0.5, 0.75, 1.5, 2.0)))
def width(variant: Variant, factor: float) -> Variant:
    """multiply every width by this factor, rounded to a multiple of 8 or of the number of groups"""
    stem_width, growth = _channels(variant.stem_width, factor), round(variant.growth * factor)
    return replace(variant, widths=_widths(variant, factor), stem_width=stem_width, growth=growth)


for _stage in map(int, STAGES):
    stage_depth(_stage)
for _stage in map(int, STAGES):
    stage_width(_stage)


@part("Luo et al. 2019, arXiv:1903.07071", Value(1, 1, 2, grid=(1, 2)))
def last_stride(variant: Variant, stride: int) -> Variant:
    """stride of the last stage"""
    return replace(variant, strides=(*variant.strides[:-1], stride))


@part("Xie et al. 2017, arXiv:1611.05431", Value(32, 1, 1024, grid=(2, 4, 8, 32)))
def groups(variant: Variant, number: int) -> Variant:
    """groups of the 3x3 convolutions in bottleneck blocks"""
    return replace(variant, groups=number)


attention("se", "Hu et al. 2018, arXiv:1709.01507", reduction=16)
attention("cbam", "Woo et al. 2018, arXiv:1807.06521", reduction=16)
attention("lcbam", "Woo et al. 2018, arXiv:1807.06521; timm's lightweight variant", reduction=16)
attention("ese", "Lee & Park 2020, arXiv:1911.06667")
attention("eca", "Wang et al. 2020, arXiv:1910.03151")
attention("ecam", "Wang et al. 2020, arXiv:1910.03151; timm's variant with an MLP")
attention("ceca", "Wang et al. 2020, arXiv:1910.03151; timm's variant with circular padding")
attention("gc", "Cao et al. 2019, arXiv:1904.11492", reduction=8)
attention("gca", "Cao et al. 2019, arXiv:1904.11492; additive fusion", reduction=8)
attention("coord", "Hou et al. 2021, arXiv:2103.02907")
attention("scoord", "Hou et al. 2021, arXiv:2103.02907; timm's simplified variant")
attention("ela", "Xu & Wan 2024, arXiv:2403.01123")
attention("strip", "Hou et al. 2020, arXiv:2003.13328; timm's strip attention")


@part(
    "Hu et al. 2018, arXiv:1709.01507, ablation by stage",
    Value("34", choices=STAGE_SUBSETS, grid=("12", "34", "23")),
)
def attention_stages(variant: Variant, stages: str) -> Variant:
    """restrict the attention added so far to these stages"""
    return _with_attention_in(variant, tuple(map(int, stages))) if variant.attention else variant


activation("relu", "Nair & Hinton 2010")
activation("leaky_relu", "Maas et al. 2013")
activation("elu", "Clevert et al. 2016, arXiv:1511.07289")
activation("gelu", "Hendrycks & Gimpel 2016, arXiv:1606.08415")
activation("silu", "Elfwing et al. 2018, arXiv:1702.03118")
activation("mish", "Misra 2020, arXiv:1908.08681")
activation("hard_swish", "Howard et al. 2019, arXiv:1905.02244")

pooling("avg_pool", "avg", "Lin et al. 2014, arXiv:1312.4400")
pooling("max_pool", "max", "Oquab et al. 2015, CVPR")
pooling("avgmax_pool", "avgmax", "timm; mean of average and max pooling")
pooling("catavgmax_pool", "catavgmax", "timm; concatenation of average and max pooling")
pooling("gem", "gem", "Radenovic et al. 2019, arXiv:1711.02512")


@part("Zhang 2019, arXiv:1904.11486")
def blurpool(variant: Variant) -> Variant:
    """blur before each downsampling in the residual branch"""
    return replace(variant, blurpool=True)


@part("Huang et al. 2016, arXiv:1603.09382", Value(0.1, 0.0, 0.9, grid=(0.05, 0.1, 0.2)))
def drop_path(variant: Variant, rate: float) -> Variant:
    """stochastic depth with a rate that rises linearly to this value in the last block"""
    return replace(variant, drop_path=rate)


@part("Srivastava et al. 2014, JMLR 15", Value(0.1, 0.0, 0.9, grid=(0.1, 0.3)))
def dropout(variant: Variant, rate: float) -> Variant:
    """dropout before the classifier"""
    return replace(variant, dropout=rate)
