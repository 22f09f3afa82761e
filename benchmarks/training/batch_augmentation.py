"""Augmentation of a whole batch on the device: crop, flips, normalization, random erasing, mixup and cutmix."""

from dataclasses import dataclass, replace

import torch
from timm.data.mixup import Mixup, one_hot
from timm.data.random_erasing import RandomErasing
from torch import Tensor

from benchmarks.definition.recipe import Recipe
from benchmarks.training.augment import crop_and_flip, flip_vertically, normalize
from benchmarks.training.global_generators import global_generators_restored, seed_global_generators
from benchmarks.training.seeds import derive_seed


@dataclass(frozen=True)
class MixedLabels:
    """The labels of a batch whose images may each be mixed with another one.

    Attributes:
        labels: The labels of the images, int64, (batch,).
        partners: The labels of the images with which they are mixed, (batch,). None: the recipe does not mix images.
        weight: The weight of `labels`; `partners` have the rest.
        teacher_logits: The teacher's logits of the images, (batch, classes), if they are known.
    """

    labels: Tensor
    partners: Tensor | None = None
    weight: float = 1.0
    teacher_logits: Tensor | None = None

    def split(self, size: int) -> "list[MixedLabels]":
        """Return parts of at most `size` labels, as `Tensor.split` does."""
        tensors = {"labels": self.labels, "partners": self.partners, "teacher_logits": self.teacher_logits}
        present = {name: tensor.split(size) for name, tensor in tensors.items() if tensor is not None}
        return [replace(self, **dict(zip(present, part, strict=True))) for part in zip(*present.values(), strict=True)]

    def targets(self, num_classes: int, smoothing: float) -> Tensor:
        """Return the labels if the recipe does not mix images, otherwise the soft targets of timm's `mixup_target`.

        Args:
            num_classes: The number of classes.
            smoothing: Label smoothing, which is applied to soft targets only.

        Returns:
            int64, (batch,), or float32, (batch, classes).
        """
        if self.partners is None:
            return self.labels
        off = smoothing / num_classes
        own, other = (one_hot(labels, num_classes, 1 - smoothing + off, off) for labels in (self.labels, self.partners))
        targets: Tensor = own * self.weight + other * (1 - self.weight)
        return targets

    @property
    def dominant(self) -> Tensor:
        """The label with the larger weight of each image, (batch,)."""
        return self.labels if self.partners is None or self.weight >= 0.5 else self.partners


class BatchAugmentation:
    """Turns uint8 images into the batch that a model trains on.

    Images that loader processes have transformed are already cropped and flipped. Erasing and mixing are timm's own,
    which draw from global generators; these are seeded for each batch.

    Args:
        recipe: The augmentation.
        device: The device of the images.
    """

    def __init__(self, recipe: Recipe, device: torch.device) -> None:
        self.recipe = recipe
        self.erasing = self.mixup = None
        if recipe.erasing:
            self.erasing = RandomErasing(
                recipe.erasing,
                mode=recipe.erasing_mode,
                max_count=recipe.erasing_count,
                num_splits=recipe.aug_splits if recipe.erasing_keeps_clean else 0,  # the first split is not erased
                device=device,
            )
        if recipe.mixes:
            self.mixup = Mixup(recipe.mixup, recipe.cutmix, None, recipe.mixup_prob, recipe.mixup_switch_prob)

    def __call__(
        self, images: Tensor, labels: Tensor, iteration: int, generator: torch.Generator
    ) -> tuple[Tensor, MixedLabels]:
        """Augment a batch.

        Args:
            images: uint8, (batch, channels, height, width), or all `aug_splits` of the batch, one after the other.
            labels: int64, (batch,).
            iteration: Steps since the start of training.
            generator: Source of the draws of crops and flips. Its seed and the iteration determine all other draws.

        Returns:
            The normalized batch, float32, and its labels.
        """
        recipe = self.recipe
        if not recipe.transforms_images:
            images = crop_and_flip(images, recipe.crop_padding, recipe.flip, generator)
            if recipe.vertical_flip:
                images = flip_vertically(images, recipe.vertical_flip, generator)
        batch = normalize(images, recipe.mean, recipe.std)
        if self.erasing is None and self.mixup is None:
            return batch, MixedLabels(labels)
        with global_generators_restored():
            seed_global_generators(derive_seed(generator.initial_seed(), iteration, "erasing and mixing"))
            if self.erasing is not None:
                batch = self.erasing(batch)
            if self.mixup is None:
                return batch, MixedLabels(labels)
            weight = float(self.mixup._mix_batch(batch))  # mixes image i with image (batch - 1 - i), in place
        return batch, MixedLabels(labels, labels.flip(0), weight)
