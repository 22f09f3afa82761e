import random
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from timm.data import AugMixDataset, create_transform
from timm.data.auto_augment import augment_and_mix_transform, auto_augment_transform, rand_augment_transform
from timm.data.transforms import RandomResizedCropAndInterpolation
from torchvision import transforms

from benchmarks.definition.recipe import Recipe
from benchmarks.training.image_transforms import image_transforms, transform_image


class OneImage:
    """A data set of one image, as `AugMixDataset` expects it."""

    def __init__(self, transform: Any) -> None:
        self.transform = transform

    def __getitem__(self, index: int) -> tuple[Any, int]:
        return self.transform(Image.fromarray(noise())), 0


PLAIN: dict[str, Any] = {"crop_padding": 0, "flip": 0.0}
# timm's arguments of auto-augmentation for images of 16 pixels and a mean of 0.5
TIMM: dict[str, Any] = {"translate_const": 7, "img_mean": (128, 128, 128)}


def noise(channels: int = 3, size: int = 16) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (size, size, channels), dtype=np.uint8)


def transformed(seed: int, channels: int = 3, **changes: Any) -> NDArray[np.uint8]:
    recipe = Recipe(**{**PLAIN, **changes})
    image: NDArray[np.uint8] = transform_image(noise(channels), image_transforms(recipe, 16, channels), seed)[0]
    return image


def called_directly(seed: int, *parts: Any, channels: int = 3) -> NDArray[np.uint8]:
    """Apply transforms after seeding each library as its documentation says."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    image = Image.fromarray(noise(channels).squeeze())
    return np.asarray(transforms.Compose(parts)(image)).reshape(16, 16, channels)


@pytest.mark.parametrize(
    ("changes", "transform"),
    [
        ({"rotation": 30.0}, transforms.RandomRotation(30)),
        ({"rotation": 30.0, "rotation_fill": 128}, transforms.RandomRotation(30, fill=128)),
        ({"color_jitter": (0.4, 0.3, 0.2, 0.1)}, transforms.ColorJitter(0.4, 0.3, 0.2, 0.1)),
        ({"auto_augment": "rand-m9-mstd0.5-inc1"}, rand_augment_transform("rand-m9-mstd0.5-inc1", dict(TIMM))),
        ({"auto_augment": "original"}, auto_augment_transform("original", dict(TIMM))),
        ({"auto_augment": "3a"}, auto_augment_transform("3a", dict(TIMM))),
        (
            {"auto_augment": "augmix-m5-w4-d2"},
            augment_and_mix_transform("augmix-m5-w4-d2", {**TIMM, "translate_pct": 0.3}),
        ),
        ({"auto_augment": "trivial"}, transforms.TrivialAugmentWide()),
        (
            {"auto_augment": "rand-m9", "interpolation": "bilinear"},
            rand_augment_transform("rand-m9", {**TIMM, "interpolation": Image.Resampling.BILINEAR}),
        ),
        (
            {"resized_crop_scale": (0.3, 0.9), "resized_crop_ratio": (0.5, 2.0), "interpolation": "bicubic"},
            RandomResizedCropAndInterpolation(16, (0.3, 0.9), (0.5, 2.0), "bicubic"),
        ),
        ({"resized_crop_scale": (0.3, 0.9)}, RandomResizedCropAndInterpolation(16, (0.3, 0.9), interpolation="random")),
    ],
)
def test_each_transform_equals_the_one_of_its_library(changes: dict[str, Any], transform: Any) -> None:
    results = [transformed(seed, **changes) for seed in range(20)]
    for seed, result in enumerate(results):
        np.testing.assert_array_equal(result, called_directly(seed, transform))
    assert len({result.tobytes() for result in results}) > 3


def test_color_jitter_at_its_defaults_changes_nothing() -> None:
    np.testing.assert_array_equal(transformed(0, color_jitter=(0.0, 0.0, 0.0, 0.0)), noise())
    np.testing.assert_array_equal(called_directly(0, transforms.ColorJitter()), noise())


def test_order_is_that_of_create_transform() -> None:
    changes: dict[str, Any] = {
        "auto_augment": "3a",
        "color_jitter": (0.3, 0.3, 0.3, 0.0),
        "flip": 0.5,
        "vertical_flip": 0.5,
    }
    arguments: dict[str, Any] = {"hflip": 0.5, "vflip": 0.5, "auto_augment": "3a", "color_jitter": 0.3}
    train = create_transform(
        16,
        is_training=True,
        scale=(0.3, 0.9),
        interpolation="random",
        mean=(0.5,) * 3,
        use_prefetcher=True,
        **arguments,
    )
    for seed in range(20):
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        expected = train(Image.fromarray(noise()))  # uint8 with the channels first
        result = transformed(seed, resized_crop_scale=(0.3, 0.9), **changes)
        np.testing.assert_array_equal(result.transpose(2, 0, 1), np.asarray(expected))


def test_padded_crop_and_flips_come_first_and_rotation_last() -> None:
    expected = [
        transforms.RandomCrop(16, 4),
        transforms.RandomHorizontalFlip(0.5),
        transforms.RandomVerticalFlip(0.5),
        transforms.TrivialAugmentWide(),
        transforms.ColorJitter(0.4),
        transforms.RandomRotation(30),
    ]
    changes: dict[str, Any] = {"color_jitter": (0.4, 0.0, 0.0, 0.0), "auto_augment": "trivial", "rotation": 30.0}
    for seed in range(20):
        result = transformed(seed, crop_padding=4, flip=0.5, vertical_flip=0.5, **changes)
        np.testing.assert_array_equal(result, called_directly(seed, *expected))


@pytest.mark.parametrize("auto_augment", ["rand-m9-mstd0.5-inc1", "original", "v0", "3a", "augmix", "trivial"])
def test_gray_images_are_transformed_as_well(auto_augment: str) -> None:
    for seed in range(40):
        jitter = (0.4, 0.4, 0.4, 0.1)
        result = transformed(seed, 1, auto_augment=auto_augment, rotation=30.0, rotation_fill=9, color_jitter=jitter)
        assert result.shape == (16, 16, 1)


@pytest.mark.parametrize("auto_augment", ["augmix-m3-w3", "rand-m9-mstd0.5-inc1"])
def test_splits_equal_the_augmix_dataset_of_timm(auto_augment: str) -> None:
    separate = create_transform(
        16,
        is_training=True,
        scale=(0.3, 0.9),
        auto_augment=auto_augment,
        mean=(0.5,) * 3,
        use_prefetcher=True,
        separate=True,
    )
    recipe = Recipe(
        crop_padding=0,
        resized_crop_scale=(0.3, 0.9),
        interpolation="bilinear",
        auto_augment=auto_augment,
        aug_splits=3,
        loss="jsd",
    )
    dataset, num_versions = AugMixDataset(OneImage(separate), num_splits=3), set()
    for seed in range(10):
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        expected, _ = dataset[0]
        result = transform_image(noise(), image_transforms(recipe, 16, 3), seed)
        np.testing.assert_array_equal(np.stack(result).transpose(0, 3, 1, 2), np.stack(expected))
        num_versions.add(len({version.tobytes() for version in result}))
    assert 3 in num_versions
