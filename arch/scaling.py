"""Scale the depths and channels of a variant."""

from collections.abc import Callable
from math import sqrt

from arch.variant import Variant


def scaled_depths(variant: Variant, factor: float, stage: int | None = None) -> tuple[int, ...]:
    """Return the depths times a factor, of at least one block: all of them, or only that of a stage."""
    return _scaled(variant.depths, lambda blocks: max(1, int(blocks * factor + 0.5)), stage)


def scaled_widths(variant: Variant, factor: float, stage: int | None = None) -> tuple[int, ...]:
    """Return the widths times a factor, as multiples of 8 or of the groups: all of them, or only that of a stage."""
    return _scaled(variant.widths, lambda channels: scaled_channels(channels, factor, max(8, variant.groups)), stage)


def scaled_channels(channels: int, factor: float, multiple: int = 8) -> int:
    """Return a number of channels times a factor, rounded to a multiple."""
    return channels if factor == 1 else max(multiple, round(channels * factor / multiple) * multiple)


def _scaled(numbers: tuple[int, ...], scale: Callable[[int], int], stage: int | None) -> tuple[int, ...]:
    """Scale one number per stage, or only that of `stage`. Raises ValueError if there is no such stage."""
    if stage is not None and stage > len(numbers):
        raise ValueError(f"there are {len(numbers)} stages")
    return tuple(scale(number) if stage in (None, position) else number for position, number in enumerate(numbers, 1))


def res2net_ratio(variant: Variant, scale: int) -> float:
    """Return the inner ratio for another scale with which a bottleneck has about the same number of parameters.

    For a width of 64 channels, each split gets an even number of channels, or a multiple of the groups. For resnet50,
    these are the splits of Gao et al. 2019 (arXiv:1904.01169): 48w x 2s, 26w x 4s and 14w x 8s.
    """
    split, convs = variant.inner_ratio / variant.scale, max(1, variant.scale - 1)
    # parameters / width^2: two 1x1 convolutions between 4 * width and the inner channels, and the 3x3 ones
    params = 8 * variant.inner_ratio + 9 * convs * split**2 / variant.groups
    squared, linear = 9 * (scale - 1) / variant.groups, 8 * scale
    split = (sqrt(linear**2 + 4 * squared * params) - linear) / (2 * squared)
    multiple = max(2, variant.groups)
    return scale * max(multiple, round(64 * split / multiple) * multiple) / 64
