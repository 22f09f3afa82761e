from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from arch.errors import InputError
from benchmarks.definition.recipe import Recipe
from benchmarks.definition.registry import BENCHMARKS, get_benchmark
from benchmarks.training.image_transforms import image_transforms

TOML = 'name = "mine"\nbaseline = "resnet8"\n[data]\nsource = "digits"\nnum_classes = 10\n[recipe]\n'


@pytest.mark.parametrize(
    "text",
    [
        *("rand", "rand-m9-mstd0.5-inc1", "rand-m15-n3-p0.5-mstd101-mmax30", "rand-m7-n9-tweights", "rand-m6-n9-t3aw"),
        *("rand-t3a", "augmix", "augmix-m5-w4-d2", "augmix-m3-w1-a0.5-b1-mstd1", "original", "originalr", "v0"),
        *("v0r-mstd0.5", "3a", "trivial"),
    ],
)
def test_timm_or_torchvision_knows_each_accepted_string(text: str) -> None:
    transform = image_transforms(Recipe(auto_augment=text), 8, 3)
    assert [image.size for image in transform(Image.new("RGB", (8, 8)))] == [(8, 8)]


@pytest.mark.parametrize(
    "text",
    [
        *("rnd-m9", "rand-q9", "rand-m9-", "rand-mx", "rand-m9.5", "rand-n0", "rand-p1.5", "rand-inc2", "rand-tfoo"),
        *("rand m9", "rand-m9\n", "augmix-w0", "augmix-a0", "augmix-d-1", "augmix-n2", "original-m9", "v1", "3aw"),
        *("trivial-m9", "Trivial", "rand-m٩", "x" * 1000),
    ],
)
def test_other_strings_are_rejected_in_one_line(text: str) -> None:
    with pytest.raises(ValueError, match=r"auto_augment .* is not a configuration string of timm") as error:
        Recipe(auto_augment=text)
    assert str(error.value).isprintable()
    assert len(str(error.value)) < 250


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ('auto_augment = "rand-m9-q3"', "recipe: auto_augment 'rand-m9-q3' is not"),
        ("auto_augment = 3", "recipe.auto_augment: Input should be a valid string"),
        (
            "resized_crop_scale = [0.2, 1.0]",
            "crop_padding (4) must be 0 with resized_crop_scale (crop_padding is 4 unl",
        ),
        ("crop_padding = 0\nresized_crop_scale = [1.0, 0.2]", "resized_crop_scale must be a range such as [0.2, 1]"),
        ("crop_padding = 0\nresized_crop_scale = [0.2, 1.5]", "resized_crop_scale is a range of fractions"),
        ("crop_padding = 0\nresized_crop_scale = [0.2]", "recipe.resized_crop_scale"),
        ("crop_padding = 0\nresized_crop_scale = [0.2, 1]\nresized_crop_ratio = [2, 1]", "resized_crop_ratio must be"),
        ("color_jitter = [0.4, 0.4, 0.4, 0.6]", "hue of color_jitter must be at most 0.5"),
        ("color_jitter = 0.4", "recipe.color_jitter"),
        ('interpolation = "cubic"', "recipe.interpolation: Input should be 'random', 'nearest'"),
        ('erasing_mode = "noise"', "recipe.erasing_mode: Input should be 'const', 'rand' or 'pixel'"),
        ("erasing = 1.5", "recipe.erasing: Input should be less than or equal to 1"),
        ("rotation = 200", "recipe.rotation: Input should be less than or equal to 180"),
        ("mixup = 0.2\nbatch_size = 3", "mixup and cutmix need an even number of images per device, not 3"),
        ("rotation_fill = 9", "rotation_fill needs rotation"),
        ('loss = "jsd"', "loss jsd compares versions of each image: set aug_splits"),
        ("aug_splits = 3", "aug_splits needs auto_augment, color_jitter or rotation"),
        ("aug_splits = 3\nrotation = 5\nmixup = 0.2", "aug_splits does not work with mixup and cutmix"),
        ("erasing = 0.2\nerasing_keeps_clean = true", "erasing_keeps_clean needs aug_splits"),
        ("aug_repeats = 0.5", "recipe.aug_repeats: Input should be greater than or equal to 1"),
        ('schedule = "step"\nwarmup_prefix = false', "warmup_prefix needs schedule cosine or polynomial"),
        ('erasing_mode = "rand"', "erasing_mode needs erasing"),
        ("mixup_prob = 0.5", "mixup_prob needs mixup or cutmix"),
        ("cutmix = 1.0\nbatch_size = 6\nworld_size = 2", "an even number of images per device, not 3"),
    ],
)
def test_invalid_file_is_explained_in_one_line(lines: str, expected: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(TOML + lines)
    with pytest.raises(InputError) as error:
        get_benchmark(str(path))
    assert expected in str(error.value)
    assert str(error.value).isprintable()


def test_lists_in_a_file_equal_tuples_in_code(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(f"{TOML}crop_padding = 0\nresized_crop_scale = [0.5, 1]\ncolor_jitter = [0.4, 0.4, 0.4, 0]")
    expected = Recipe(crop_padding=0, resized_crop_scale=(0.5, 1.0), color_jitter=(0.4, 0.4, 0.4, 0.0))
    assert get_benchmark(str(path)).recipe == expected


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, False),
        ({"vertical_flip": 0.5, "erasing": 0.5, "mixup": 0.2, "cutmix": 1.0}, False),
        ({"color_jitter": (0.0, 0.0, 0.0, 0.0)}, False),
        ({"rotation": 30.0}, True),
        ({"auto_augment": "3a"}, True),
        ({"color_jitter": (0.0, 0.0, 0.0, 0.1)}, True),
        ({"crop_padding": 0, "resized_crop_scale": (0.5, 1.0)}, True),
    ],
)
def test_only_transforms_of_single_images_need_a_loader(changes: dict[str, Any], expected: bool) -> None:
    assert replace(Recipe(), **changes).transforms_images is expected


@pytest.mark.parametrize(
    "changes",
    [
        {"crop_padding": 1},
        {"flip": 0.5},
        {"vertical_flip": 0.1},
        {"erasing": 0.1},
        {"mixup": 0.2},
        {"cutmix": 1.0},
        {"resized_crop_scale": (1.0, 1.0)},
        {"auto_augment": "trivial"},
        {"color_jitter": (0.0, 0.0, 0.0, 0.1)},
        {"rotation": 5.0},
    ],
    ids=str,
)
def test_each_augmentation_changes_images(changes: dict[str, Any]) -> None:
    assert replace(Recipe(crop_padding=0, flip=0.0), **changes).augments


def test_recipes_without_augmentation() -> None:
    assert {name for name, benchmark in BENCHMARKS.items() if not benchmark.recipe.augments} == {
        "digits",
        "cifar10_adam",
    }
