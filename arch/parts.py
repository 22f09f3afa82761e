"""`PARTS`: what a spec can add to a base. A part is a pure function `Variant -> Variant`.

To add a part, register it here; an attention layer takes a single call of `attention`. A search applies parts in the
order of registration, so a part that modifies another one must be registered after it.
"""

from dataclasses import replace
from itertools import combinations

from arch.bases import BASES
from arch.entries import PARTS, Part, Value
from arch.registry import activation_part, attention_part, part, register
from arch.scaling import res2net_ratio, scaled_channels, scaled_depths, scaled_widths
from arch.variant import BLOCKS, STEMS, Variant

__all__ = ["PARTS"]

STAGES = "1234"  # stage numbers; no base has more stages
STAGE_SUBSETS = tuple("".join(subset) for size in range(1, len(STAGES) + 1) for subset in combinations(STAGES, size))
SEARCHED_BASES = tuple(name for name, base in BASES.items() if base.searched)
SEARCHED_FACTORS = (0.5, 1.5, 2.0)  # multipliers of blocks or channels that a search tries
REGNET = "Radosavovic et al. 2020, arXiv:2003.13678"  # varies depth and width per stage
REGULARIZATION = ("layer_scale", "drop_path", "shakedrop", "drop_block", "dropout")
# and attention_stages
KEPT_WITH_BACKBONE = ("attention", "act", "blurpool", "weight_standardization", *REGULARIZATION, "pool")


def timm_attention(name: str, paper: str, *, reduction: int | None = None) -> None:
    """Register an attention layer that `timm.layers.get_attn` knows under this name. See `arch.registry.attention`."""
    register(attention_part(name, paper, reduction))


def timm_activation(name: str, paper: str) -> None:
    """Register an activation that `timm.layers.get_act_layer` knows under this name."""
    register(activation_part(name, paper))


def pooling(name: str, kind: str, paper: str) -> None:
    """Register a global pooling (`kind` is one of `arch.variant.POOLS`) that replaces the current one."""

    def apply(variant: Variant) -> Variant:
        return replace(variant, pool=kind)

    apply.__doc__ = f"{kind} global pooling before the classifier"
    register(Part(name, paper, apply, group="pool"))


def stage_depth(stage: int) -> None:
    """Register `depthN`, which multiplies the depth of stage N only."""

    def apply(variant: Variant, factor: float) -> Variant:
        return replace(variant, depths=scaled_depths(variant, factor, stage))

    apply.__doc__ = f"multiply the number of blocks in stage {stage} by this factor (at least one block)"
    register(Part(f"depth{stage}", REGNET, apply, Value(2.0, 0.1, 16.0, grid=SEARCHED_FACTORS)))


def stage_width(stage: int) -> None:
    """Register `widthN`, which multiplies the width of stage N only."""

    def apply(variant: Variant, factor: float) -> Variant:
        return replace(variant, widths=scaled_widths(variant, factor, stage))

    rounding = "rounded to a multiple of 8 or of the number of groups"
    apply.__doc__ = f"multiply the width of stage {stage} by this factor, {rounding}"
    register(Part(f"width{stage}", REGNET, apply, Value(2.0, 0.1, 16.0, grid=SEARCHED_FACTORS)))


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
    """backbone of another base; keeps the parts that change no shape: attention, activation, regularization, pooling"""
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
    return replace(variant, depths=scaled_depths(variant, factor))


@part("Zagoruyko & Komodakis 2016, arXiv:1605.07146", Value(2.0, 0.1, 16.0, grid=(0.5, 0.75, 1.5, 2.0)))
def width(variant: Variant, factor: float) -> Variant:
    """multiply every width by this factor, rounded to a multiple of 8 or of the number of groups"""
    stem_width, growth = scaled_channels(variant.stem_width, factor), round(variant.growth * factor)
    return replace(variant, widths=scaled_widths(variant, factor), stem_width=stem_width, growth=growth)


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


@part("Gao et al. 2019, arXiv:1904.01169", Value(4, 2, 8, grid=(2, 4, 8)))
def res2net(variant: Variant, scale: int) -> Variant:
    """split the 3x3 convolutions of bottleneck blocks into this number of scales, at about the same parameters"""
    return replace(variant, scale=scale, inner_ratio=res2net_ratio(variant, scale))


timm_attention("se", "Hu et al. 2018, arXiv:1709.01507", reduction=16)
timm_attention("cbam", "Woo et al. 2018, arXiv:1807.06521", reduction=16)
timm_attention("lcbam", "Woo et al. 2018, arXiv:1807.06521; timm's lightweight variant", reduction=16)
timm_attention("ese", "Lee & Park 2020, arXiv:1911.06667")
timm_attention("eca", "Wang et al. 2020, arXiv:1910.03151")
timm_attention("ecam", "Wang et al. 2020, arXiv:1910.03151; timm's variant with an MLP")
timm_attention("ceca", "Wang et al. 2020, arXiv:1910.03151; timm's variant with circular padding")
timm_attention("gc", "Cao et al. 2019, arXiv:1904.11492", reduction=8)
timm_attention("gca", "Cao et al. 2019, arXiv:1904.11492; additive fusion", reduction=8)
timm_attention("coord", "Hou et al. 2021, arXiv:2103.02907")
timm_attention("scoord", "Hou et al. 2021, arXiv:2103.02907; timm's simplified variant")
timm_attention("ela", "Xu & Wan 2024, arXiv:2403.01123")
timm_attention("strip", "Hou et al. 2020, arXiv:2003.13328; timm's strip attention")


@part(
    "Hu et al. 2018, arXiv:1709.01507, ablation by stage",
    Value("34", choices=STAGE_SUBSETS, grid=("12", "34", "23")),
)
def attention_stages(variant: Variant, stages: str) -> Variant:
    """restrict the attention added so far to these stages"""
    return _with_attention_in(variant, tuple(map(int, stages))) if variant.attention else variant


timm_activation("relu", "Nair & Hinton 2010")
timm_activation("leaky_relu", "Maas et al. 2013")
timm_activation("elu", "Clevert et al. 2016, arXiv:1511.07289")
timm_activation("gelu", "Hendrycks & Gimpel 2016, arXiv:1606.08415")
timm_activation("silu", "Elfwing et al. 2018, arXiv:1702.03118")
timm_activation("mish", "Misra 2020, arXiv:1908.08681")
timm_activation("hard_swish", "Howard et al. 2019, arXiv:1905.02244")

pooling("avg_pool", "avg", "Lin et al. 2014, arXiv:1312.4400")
pooling("max_pool", "max", "Oquab et al. 2015, CVPR")
pooling("avgmax_pool", "avgmax", "timm; mean of average and max pooling")
pooling("catavgmax_pool", "catavgmax", "timm; concatenation of average and max pooling")
pooling("gem", "gem", "Radenovic et al. 2019, arXiv:1711.02512")


@part("Zhang 2019, arXiv:1904.11486")
def blurpool(variant: Variant) -> Variant:
    """blur before each downsampling in the residual branch"""
    return replace(variant, blurpool=True)


@part("Qiao et al. 2019, arXiv:1903.10520")
def weight_standardization(variant: Variant) -> Variant:
    """standardize the filters of the convolutions in stem, residual branches and shortcuts"""
    return replace(variant, weight_standardization=True)


@part("Touvron et al. 2021, arXiv:2103.17239", Value(0.1, 1e-6, 1.0, grid=(0.1, 1e-5)))
def layer_scale(variant: Variant, initial: float) -> Variant:
    """learned scale per channel of each residual branch, which starts at this value"""
    return replace(variant, layer_scale=initial)


@part("Huang et al. 2016, arXiv:1603.09382", Value(0.1, 0.0, 0.9, grid=(0.05, 0.1, 0.2)))
def drop_path(variant: Variant, rate: float) -> Variant:
    """stochastic depth with a rate that rises linearly to this value in the last block"""
    return replace(variant, drop_path=rate, shakedrop=0.0)


@part("Yamada et al. 2018, arXiv:1802.02375", Value(0.5, 0.0, 0.9, grid=(0.25, 0.5)), group="drop_path")
def shakedrop(variant: Variant, rate: float) -> Variant:
    """ShakeDrop instead of stochastic depth, with a rate that rises linearly to this value in the last block"""
    return replace(variant, shakedrop=rate, drop_path=0.0)


@part("Ghiasi et al. 2018, arXiv:1810.12890", Value(0.1, 0.0, 0.5, grid=(0.05, 0.1, 0.2)))
def drop_block(variant: Variant, rate: float) -> Variant:
    """DropBlock with 4x4 squares, at this rate in the last stage and a quarter of it in the one before"""
    return replace(variant, drop_block=rate)


@part("Srivastava et al. 2014, JMLR 15", Value(0.1, 0.0, 0.9, grid=(0.1, 0.3)))
def dropout(variant: Variant, rate: float) -> Variant:
    """dropout before the classifier"""
    return replace(variant, dropout=rate)
