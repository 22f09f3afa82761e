"""`BASES`: the trunks a spec can start from, all made for small images (32 px), each with its paper."""

from dataclasses import dataclass, replace

from arch.variant import Variant


@dataclass(frozen=True)
class Base:
    """A trunk by its usual name."""

    variant: Variant
    paper: str


RESNET = "He et al. 2016, arXiv:1512.03385"
PREACT = "He et al. 2016, arXiv:1603.05027"
RESNEXT = "Xie et al. 2017, arXiv:1611.05431"
WRN = "Zagoruyko & Komodakis 2016, arXiv:1605.07146"
PYRAMID = "Han et al. 2017, arXiv:1610.02915"


def _resnet(block: str, *depths: int) -> Variant:
    """An ImageNet ResNet behind a small-image stem: 3x3, stride 1, no pooling."""
    return Variant(depths, (64, 128, 256, 512), (1, 2, 2, 2), stem_width=64, block=block)


def _cifar_resnet(layers: int) -> Variant:
    """The 6n+2-layer nets of He et al. section 4.2, with projection shortcuts."""
    return Variant(((layers - 2) // 6,) * 3, (16, 32, 64), (1, 2, 2), stem_width=16)


def _wide_resnet(layers: int, k: int) -> Variant:
    """WRN-layers-k: 6n+4 layers, pre-activation, widths multiplied by k."""
    depths = ((layers - 4) // 6,) * 3
    return Variant(depths, (16 * k, 32 * k, 64 * k), (1, 2, 2), stem_width=16, order="pre")


def _pyramidnet(block: str, depth: int, growth: int) -> Variant:
    """`depth` blocks in each of three stages; 16 channels grow by `growth` over all of them."""
    shape = Variant((depth,) * 3, (16,) * 3, (1, 2, 2), stem_width=16, block=block)
    return replace(shape, order="pyramid", shortcut="pad", growth=growth)


BASES: dict[str, Base] = {
    "resnet8": Base(_cifar_resnet(8), RESNET),
    "resnet20": Base(_cifar_resnet(20), RESNET),
    "resnet56": Base(_cifar_resnet(56), RESNET),
    "resnet18": Base(_resnet("basic", 2, 2, 2, 2), RESNET),
    "resnet34": Base(_resnet("basic", 3, 4, 6, 3), RESNET),
    "resnet50": Base(_resnet("bottleneck", 3, 4, 6, 3), RESNET),
    "resnext50": Base(replace(_resnet("bottleneck", 3, 4, 6, 3), groups=32, inner_ratio=2.0), RESNEXT),
    "preact_resnet18": Base(replace(_resnet("basic", 2, 2, 2, 2), order="pre"), PREACT),
    "preact_resnet50": Base(replace(_resnet("bottleneck", 3, 4, 6, 3), order="pre"), PREACT),
    "wrn16_8": Base(_wide_resnet(16, 8), WRN),
    "wrn22_8": Base(_wide_resnet(22, 8), WRN),
    "wrn28_8": Base(_wide_resnet(28, 8), WRN),
    "wrn28_9": Base(_wide_resnet(28, 9), WRN),
    "wrn28_10": Base(_wide_resnet(28, 10), WRN),
    "pyramidnet110": Base(_pyramidnet("basic", 18, 270), PYRAMID),
    "pyramidnet200": Base(_pyramidnet("bottleneck", 22, 240), PYRAMID),
    "pyramidnet272": Base(_pyramidnet("bottleneck", 30, 200), PYRAMID),
}
