"""Checks of the recipe's augmentation fields, without importing timm or torchvision."""

import re
from collections.abc import Iterator
from typing import Any

TRIVIAL_AUGMENT = "trivial"

# The configuration strings of timm's `rand_augment_transform`, `augment_and_mix_transform` and
# `auto_augment_transform`. timm ignores or misreads some invalid strings, so that they are rejected here.
_NUMBER = r"(?:\d{1,3}(?:\.\d{1,6})?)"
_RAND_SECTION = (
    rf"m\d{{1,2}}|n[1-9]|p(?:0(?:\.\d{{1,6}})?|1(?:\.0)?)|mstd{_NUMBER}|mmax[1-9]\d?|inc[01]|t(?:weights|3aw?)"
)
_AUGMIX_SECTION = rf"m\d{{1,2}}|w[1-9]|d[1-9]|a(?!0+(?:\.0+)?(?:-|$)){_NUMBER}|b[01]|mstd{_NUMBER}"
AUTO_AUGMENT = re.compile(
    rf"{TRIVIAL_AUGMENT}|rand(?:-(?:{_RAND_SECTION}))*|augmix(?:-(?:{_AUGMIX_SECTION}))*"
    rf"|(?:originalr?|v0r?|3a)(?:-mstd{_NUMBER})?",
    re.ASCII,
)
AUTO_AUGMENT_EXAMPLES = "rand-m9-mstd0.5-inc1, original, v0, 3a, augmix-m5-w4-d2, trivial"

# field -> other fields, at least one of which must be set for the first one to have an effect
REQUIRED_FIELDS = {
    "resized_crop_ratio": ("resized_crop_scale",),
    "interpolation": ("resized_crop_scale", "auto_augment"),
    "rotation_fill": ("rotation",),
    "erasing_mode": ("erasing",),
    "erasing_count": ("erasing",),
    "erasing_keeps_clean": ("erasing",),
    "mixup_prob": ("mixup", "cutmix"),
    "mixup_switch_prob": ("mixup", "cutmix"),
}


def augmentation_problems(recipe: Any) -> Iterator[str]:
    """Yield a line for each augmentation field of a `Recipe` whose value is invalid or contradicts another field."""
    if recipe.flip > 1:
        yield "flip is a probability and must be at most 1"
    if recipe.auto_augment and not AUTO_AUGMENT.fullmatch(recipe.auto_augment):
        text = recipe.auto_augment[:60]
        yield f"auto_augment {text!r} is not a configuration string of timm; examples: {AUTO_AUGMENT_EXAMPLES}"
    if recipe.color_jitter[3] > 0.5:
        yield "the hue of color_jitter must be at most 0.5"
    yield from _crop_problems(recipe)
    for name, others in REQUIRED_FIELDS.items():
        has_default = getattr(recipe, name) == type(recipe).__dataclass_fields__[name].default
        if not has_default and not any(getattr(recipe, other) for other in others):
            yield f"{name} needs {' or '.join(others)}"
    yield from _split_problems(recipe)
    if recipe.mixes and recipe.batch_size // recipe.world_size % 2:
        yield f"mixup and cutmix need an even number of images per device, not {recipe.batch_size // recipe.world_size}"


def _split_problems(recipe: Any) -> Iterator[str]:
    if recipe.aug_splits > 1:
        if not (recipe.auto_augment or any(recipe.color_jitter) or recipe.rotation):
            yield "aug_splits needs auto_augment, color_jitter or rotation"
        if recipe.mixes:
            yield "aug_splits does not work with mixup and cutmix"
        return
    if recipe.loss == "jsd":
        yield "loss jsd compares versions of each image: set aug_splits, such as aug_splits = 3"
    if recipe.erasing_keeps_clean:
        yield "erasing_keeps_clean needs aug_splits"


def _crop_problems(recipe: Any) -> Iterator[str]:
    if recipe.resized_crop_scale is None:
        return
    if recipe.crop_padding:
        yield f"crop_padding ({recipe.crop_padding}) must be 0 with resized_crop_scale"
    for name in ("resized_crop_scale", "resized_crop_ratio"):
        low, high = getattr(recipe, name)
        if low > high:
            yield f"{name} must be a range such as [{high:g}, {low:g}]"
    if recipe.resized_crop_scale[1] > 1:
        yield "resized_crop_scale is a range of fractions of the image's area, of at most 1"
