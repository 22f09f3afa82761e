"""`BASES`: the backbones that a spec can start from, all designed for small images (32 px)."""

import re
from dataclasses import replace

from arch.entries import BASES, Base
from arch.errors import InputError
from arch.variant import Variant

__all__ = ["BASES", "find_base"]

WIDE_RESNET = re.compile(r"wrn([0-9]{2,3})_([1-9][0-9]?)")  # layers, k
PYRAMIDNET = re.compile(r"pyramidnet([0-9]{2,3})_a([1-9][0-9]{0,2})")  # layers, alpha
MAX_BASIC_LAYERS = 110  # deeper PyramidNets have bottleneck blocks, as in the paper

RESNET = "He et al. 2016, arXiv:1512.03385"
PREACT = "He et al. 2016, arXiv:1603.05027"
RESNEXT = "Xie et al. 2017, arXiv:1611.05431"
WRN = "Zagoruyko & Komodakis 2016, arXiv:1605.07146"
CRD = "Tian et al. 2020, arXiv:1910.10699"
RES2NET = "Gao et al. 2019, arXiv:1904.01169"
PYRAMID = "Han et al. 2017, arXiv:1610.02915"


def _resnet(block: str, *depths: int) -> Variant:
    """Return an ImageNet ResNet with a small-image stem: 3x3, stride 1, no pooling."""
    return Variant(depths, (64, 128, 256, 512), (1, 2, 2, 2), stem_width=64, block=block)


def _cifar_resnet(layers: int) -> Variant:
    """Return a 6n+2-layer CIFAR ResNet (He et al. 2016, section 4.2) with projection shortcuts."""
    return Variant(((layers - 2) // 6,) * 3, (16, 32, 64), (1, 2, 2), stem_width=16)


def _cifar_resnet_x4(layers: int) -> Variant:
    """Return a CIFAR ResNet with 4x the channels and a 2x stem, as in Tian et al. 2020, section 4.1."""
    return replace(_cifar_resnet(layers), widths=(64, 128, 256), stem_width=32)


def _narrow_resnet(layers: int) -> Variant:
    """Return a CIFAR ResNet with 2x the channels; with 122 layers it has 7,680,042 parameters for 10 classes.

    A course compares a deep, narrow residual network of 7.7M parameters with `wide_cnn` but does not publish its
    layout. This layout follows the scheme of He et al. and has that parameter count, but other layouts match it too.
    """
    return replace(_cifar_resnet(layers), widths=(32, 64, 128), stem_width=32)


def _wide_cnn() -> Variant:
    """Return a plain CNN with 64, 3 x 128 and 4 x 256 channels: 2,440,266 parameters for 10 classes.

    The university course that uses this network states 2.44M parameters. That count requires average pooling before a
    single linear layer (a flattened 4x4 map gives 2.48M) but does not determine whether there are norms (biases instead
    give 2,438,794). We chose BatchNorm, as in the plain networks of He et al. 2016, and max pooling before the first
    128- and the first 256-channel layer.
    """
    return Variant((3, 4), (128, 256), (2, 2), stem_width=64, block="conv")


def _basic_max(*depths: int) -> Variant:
    """Return basic blocks with 32 to 256 channels and a max-pooling head, as in a course's model for CIFAR-100.

    The shape was written down from memory and has not been checked against the course.
    """
    return Variant(depths, (32, 64, 128, 256), (1, 2, 2, 2), stem_width=32, pool="max")


def _wide_resnet(layers: int, k: int) -> Variant:
    """Return WRN-layers-k: 6n+4 layers, pre-activation, widths multiplied by k."""
    depths = ((layers - 4) // 6,) * 3
    return Variant(depths, (16 * k, 32 * k, 64 * k), (1, 2, 2), stem_width=16, order="pre")


def _res2next(cardinality: int, width: int, scale: int) -> Variant:
    """Return Res2NeXt-29 for CIFAR, whose 3x3 convolutions have `cardinality` groups of `width` channels.

    The stages are those of ResNeXt-29 (Xie et al. 2017, section 5.3), with 64 to 256 channels before the expansion.
    """
    shape = Variant((3, 3, 3), (64, 128, 256), (1, 2, 2), stem_width=64, block="bottleneck")
    return replace(shape, groups=cardinality, inner_ratio=cardinality * width * scale / 64, scale=scale)


def _pyramidnet(layers: int, growth: int) -> Variant:
    """Return a PyramidNet with three stages of as many blocks; the 16 channels grow by `growth` in total."""
    block, convs = ("basic", 2) if layers <= MAX_BASIC_LAYERS else ("bottleneck", 3)
    depth = (layers - 2) // (3 * convs)
    shape = Variant((depth,) * 3, (16,) * 3, (1, 2, 2), stem_width=16, block=block)
    return replace(shape, order="pyramid", shortcut="pad", growth=growth)


def find_base(name: str) -> Base | None:
    """Return a base; None if there is none with this name.

    Besides the names in `BASES`, there are those of all wide ResNets and PyramidNets, such as `wrn22_10` and
    `pyramidnet164_a270`.

    Raises:
        InputError: If such a network cannot have this number of layers.
    """
    if name in BASES:
        return BASES[name]
    if (match := WIDE_RESNET.fullmatch(name)) is not None:
        layers, k = map(int, match.groups())
        _check_layers(name, layers, 4, 6)
        return Base(_wide_resnet(layers, k), WRN)
    if (match := PYRAMIDNET.fullmatch(name)) is not None:
        layers, alpha = map(int, match.groups())
        _check_layers(name, layers, 2, 6 if layers <= MAX_BASIC_LAYERS else 9)
        return Base(_pyramidnet(layers, alpha), PYRAMID)
    return None


def _check_layers(name: str, layers: int, outside: int, per_depth: int) -> None:
    """Raise InputError unless the layers are `outside`, plus a multiple of those of one block in each stage."""
    if layers <= outside or (layers - outside) % per_depth:
        depth = max(1, (layers - outside) // per_depth)
        valid = [outside + per_depth * n for n in (depth, depth + 1)]
        raise InputError(
            f"{name!r} cannot have {layers} layers: their number is {per_depth}n + {outside}, such as {valid[0]} or "
            f"{valid[1]}"
        )


BASES |= {
    "resnet8": Base(_cifar_resnet(8), RESNET),
    "resnet20": Base(_cifar_resnet(20), RESNET),
    "resnet56": Base(_cifar_resnet(56), RESNET),
    "narrow_resnet122": Base(_narrow_resnet(122), f"{RESNET}, section 4.2, with twice the widths", searched=False),
    "resnet26_max": Base(_basic_max(2, 4, 4, 2), RESNET, searched=False),
    "wide_cnn": Base(_wide_cnn(), f"plain network of {RESNET}, section 4.1", searched=False),
    "resnet18": Base(_resnet("basic", 2, 2, 2, 2), RESNET),
    "resnet34": Base(_resnet("basic", 3, 4, 6, 3), RESNET),
    "resnet50": Base(_resnet("bottleneck", 3, 4, 6, 3), RESNET),
    "resnext50": Base(replace(_resnet("bottleneck", 3, 4, 6, 3), groups=32, inner_ratio=2.0), RESNEXT),
    "res2next29": Base(_res2next(6, 24, 4), f"{RES2NET}, 6c x 24w x 4s"),
    "preact_resnet18": Base(replace(_resnet("basic", 2, 2, 2, 2), order="pre"), PREACT),
    "preact_resnet50": Base(replace(_resnet("bottleneck", 3, 4, 6, 3), order="pre"), PREACT),
    "resnet8x4": Base(_cifar_resnet_x4(8), CRD, searched=False),
    "resnet32x4": Base(_cifar_resnet_x4(32), CRD, searched=False),
    "wrn16_2": Base(_wide_resnet(16, 2), WRN, searched=False),
    "wrn40_2": Base(_wide_resnet(40, 2), WRN, searched=False),
    "wrn16_8": Base(_wide_resnet(16, 8), WRN),
    "wrn22_8": Base(_wide_resnet(22, 8), WRN),
    "wrn28_8": Base(_wide_resnet(28, 8), WRN),
    "wrn28_9": Base(_wide_resnet(28, 9), WRN),
    "wrn28_10": Base(_wide_resnet(28, 10), WRN),
    "pyramidnet110": Base(_pyramidnet(110, 270), PYRAMID),
    "pyramidnet200": Base(_pyramidnet(200, 240), PYRAMID),
    "pyramidnet272": Base(_pyramidnet(272, 200), PYRAMID),
}
