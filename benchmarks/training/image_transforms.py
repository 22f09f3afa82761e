"""Transforms of single images by timm and torchvision, in the order of timm's `create_transform`."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from timm.data.transforms_factory import transforms_imagenet_train
from torchvision import transforms

from benchmarks.definition.augmentation import TRIVIAL_AUGMENT
from benchmarks.definition.recipe import Recipe, per_channel
from benchmarks.training.global_generators import seed_global_generators

MODES = {1: "L", 3: "RGB"}  # PIL's names of the numbers of channels

ImageTransform = Callable[[Image.Image], Image.Image]


@dataclass(frozen=True)
class ImageTransforms:
    """The transforms of a PIL image, up to the conversion to a tensor.

    Attributes:
        crop_and_flips: Applied to every image.
        augmentation: Auto-augmentation, color jitter and rotation, which follow.
        splits: The number of versions of each image.
    """

    crop_and_flips: ImageTransform
    augmentation: ImageTransform
    splits: int = 1

    def __call__(self, image: Image.Image) -> list[Image.Image]:
        """Return the augmented image, or the clean image and its augmented versions, as timm's `AugMixDataset`."""
        clean = self.crop_and_flips(image)
        if self.splits == 1:
            return [self.augmentation(clean)]
        return [clean, *(self.augmentation(clean) for _ in range(self.splits - 1))]


def image_transforms(recipe: Recipe, image_size: int, in_chans: int) -> ImageTransforms:
    """Return the transforms of a recipe. The order is crop, flips, auto-augmentation, color jitter, rotation.

    Args:
        recipe: The augmentation.
        image_size: Pixels per side of the images, before and after the transform.
        in_chans: Channels of the images.
    """
    resized_crop_and_flips, colors, _ = transforms_imagenet_train(
        image_size,
        scale=recipe.resized_crop_scale,
        ratio=recipe.resized_crop_ratio,
        hflip=recipe.flip,
        vflip=recipe.vertical_flip,
        color_jitter=recipe.color_jitter if any(recipe.color_jitter) else None,  # type: ignore[arg-type]  # None: off
        force_color_jitter=True,  # timm's default drops it where there is an auto-augmentation
        auto_augment=None if recipe.auto_augment == TRIVIAL_AUGMENT else recipe.auto_augment or None,
        interpolation=recipe.interpolation,
        mean=per_channel(recipe.mean, in_chans),  # determines the color of the corners of a rotated or sheared image
        separate=True,
    )
    resized_crop, *flips = resized_crop_and_flips.transforms
    padded_crop = [transforms.RandomCrop(image_size, recipe.crop_padding)] if recipe.crop_padding else []
    trivial_augment = [transforms.TrivialAugmentWide()] if recipe.auto_augment == TRIVIAL_AUGMENT else []
    rotation = [transforms.RandomRotation(recipe.rotation, fill=recipe.rotation_fill)] if recipe.rotation else []
    return ImageTransforms(
        transforms.Compose([*([resized_crop] if recipe.resized_crop_scale else padded_crop), *flips]),
        transforms.Compose([*trivial_augment, *colors.transforms, *rotation]),
        recipe.aug_splits,
    )


def transform_image(image: NDArray[np.uint8], transform: ImageTransforms, seed: int) -> list[NDArray[np.uint8]]:
    """Transform one image with random draws that depend only on the seed.

    Args:
        image: (height, width, channels), contiguous.
        transform: The transforms.
        seed: Seeds the global generators.

    Returns:
        The versions of the image, each (height, width, channels).
    """
    seed_global_generators(seed)
    height, width, channels = image.shape
    mode = MODES[channels]
    # `Image.fromarray` and `np.asarray` end in the same calls, but take longer.
    original = Image.frombuffer(mode, (width, height), image, "raw", mode, 0, 1)
    return [np.frombuffer(version.tobytes(), np.uint8).reshape(image.shape) for version in transform(original)]
