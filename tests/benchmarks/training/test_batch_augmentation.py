import hashlib
from typing import Any

import pytest
import torch
import torchvision.transforms.functional as TF
from timm.data.mixup import Mixup
from timm.data.random_erasing import RandomErasing
from timm.loss import SoftTargetCrossEntropy
from torch import Tensor, nn

from benchmarks.definition.recipe import Recipe
from benchmarks.training.augment import crop_and_flip, flip_vertically, normalize
from benchmarks.training.batch_augmentation import BatchAugmentation, MixedLabels
from benchmarks.training.global_generators import global_generators_restored, seed_global_generators
from benchmarks.training.seeds import derive_seed
from benchmarks.training.step import TrainingStep

CPU = torch.device("cpu")
LABELS = torch.tensor([0, 1, 2, 3, 4, 0, 1, 2])


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def seeded(step: TrainingStep, seed: int) -> TrainingStep:
    """Seed the draws of the augmentation."""
    step.generator.manual_seed(seed)
    return step


def noise(count: int = 8, channels: int = 3, size: int = 8) -> Tensor:
    return torch.randint(256, (count, channels, size, size), dtype=torch.uint8, generator=generator(1))


def recipe(**changes: Any) -> Recipe:
    return Recipe(**{"crop_padding": 0, "flip": 0.0, "batch_size": 8, **changes})


def augment(images: Tensor, iteration: int = 3, seed: int = 5, **changes: Any) -> tuple[Tensor, MixedLabels]:
    return BatchAugmentation(recipe(**changes), CPU)(images, LABELS, iteration, generator(seed))


def seed_like_augmentation(iteration: int = 3, seed: int = 5) -> None:
    seed_global_generators(derive_seed(seed, iteration, "erasing and mixing"))


# Crop, flips and normalization.


def test_crop_and_flip_give_the_same_bits_as_in_earlier_versions() -> None:
    draws = generator(7)
    images = torch.randint(256, (6, 3, 8, 8), dtype=torch.uint8, generator=draws)
    batch, labels = BatchAugmentation(recipe(crop_padding=2, flip=0.5), CPU)(images, LABELS, 0, draws)
    assert hashlib.sha256(batch.contiguous().numpy().tobytes()).hexdigest()[:16] == "eea80098f87dcd67"
    assert batch.is_contiguous(memory_format=torch.channels_last)
    assert labels.targets(5, 0.1) is labels.dominant is LABELS


def test_each_image_is_flipped_vertically_as_by_torchvision_or_not_at_all() -> None:
    images = noise(60)
    flipped = flip_vertically(images, 0.5, generator())
    is_flipped = [torch.equal(result, TF.vflip(image)) for image, result in zip(images, flipped, strict=True)]
    is_same = [torch.equal(result, image) for image, result in zip(images, flipped, strict=True)]
    assert [a != b for a, b in zip(is_flipped, is_same, strict=True)] == [True] * 60
    assert 15 < sum(is_flipped) < 45


@pytest.mark.parametrize(("rate", "expected"), [(1.0, TF.vflip(noise())), (0.0, noise())])
def test_all_or_no_images_are_flipped_vertically_at_rate_one_or_zero(rate: float, expected: Tensor) -> None:
    assert torch.equal(flip_vertically(noise(), rate, generator()), expected)


def test_vertical_flip_follows_crop_and_horizontal_flip() -> None:
    images, draws = noise(), generator(5)
    expected = flip_vertically(crop_and_flip(images, 2, 0.5, draws), 0.5, draws)
    batch, _ = augment(images, crop_padding=2, flip=0.5, vertical_flip=0.5)
    assert torch.equal(batch, normalize(expected, 0.5, 0.5))
    assert batch.is_contiguous(memory_format=torch.channels_last)


def test_images_from_the_loader_are_not_cropped_and_flipped_again() -> None:
    batch, _ = augment(noise(), crop_padding=2, flip=1.0, vertical_flip=1.0, rotation=10.0)
    assert torch.equal(batch, normalize(noise(), 0.5, 0.5))


# Erasing and mixing, compared with timm for the same draws.


@pytest.mark.parametrize("mode", ["const", "rand", "pixel"])
@pytest.mark.parametrize("count", [1, 3])
def test_erasing_equals_timm(mode: str, count: int) -> None:
    batch, _ = augment(noise(), erasing=0.7, erasing_mode=mode, erasing_count=count)
    with global_generators_restored():
        seed_like_augmentation()
        expected = RandomErasing(0.7, mode=mode, max_count=count, device="cpu")(normalize(noise(), 0.5, 0.5))
    assert torch.equal(batch, expected)
    assert not torch.equal(batch, normalize(noise(), 0.5, 0.5))


@pytest.mark.parametrize("alphas", [(0.2, 0.0), (0.0, 1.0), (0.8, 1.0)])
@pytest.mark.parametrize("probability", [1.0, 0.5])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_mixing_equals_timm(alphas: tuple[float, float], probability: float, smoothing: float) -> None:
    weights = set()
    for iteration in range(20):
        changes: dict[str, Any] = {
            "mixup": alphas[0],
            "cutmix": alphas[1],
            "mixup_prob": probability,
            "mixup_switch_prob": 0.3,
        }
        batch, labels = augment(noise(), iteration, **changes)
        mixup = Mixup(*alphas, None, probability, 0.3, label_smoothing=smoothing, num_classes=5)
        with global_generators_restored():
            seed_like_augmentation(iteration)
            expected, targets = mixup(normalize(noise(), 0.5, 0.5), LABELS)
        assert torch.equal(batch, expected)
        assert torch.equal(labels.targets(5, smoothing), targets)
        assert torch.equal(torch.cat([part.targets(5, smoothing) for part in labels.split(3)]), targets)
        weights.add(labels.weight)
    assert len(weights) > 5
    assert probability == 1.0 or 1.0 in weights  # some batches are not mixed


def test_erasing_precedes_mixing() -> None:
    batch, _ = augment(noise(), erasing=1.0, cutmix=1.0)
    with global_generators_restored():
        seed_like_augmentation()
        erased = RandomErasing(1.0, device="cpu")(normalize(noise(), 0.5, 0.5))
        assert torch.equal(batch, Mixup(0.0, 1.0)(erased, LABELS)[0])


def test_draws_follow_from_the_epoch_and_the_iteration_alone() -> None:
    changes: dict[str, Any] = {"erasing": 0.5, "erasing_mode": "pixel", "mixup": 0.2}
    first = augment(noise(), **changes)[0]
    torch.manual_seed(99)
    assert torch.equal(augment(noise(), **changes)[0], first)
    assert not torch.equal(augment(noise(), iteration=4, **changes)[0], first)
    assert not torch.equal(augment(noise(), seed=6, **changes)[0], first)


def test_generators_of_the_layers_are_not_changed() -> None:
    state = torch.get_rng_state()
    augment(noise(), erasing=1.0, erasing_mode="pixel", mixup=0.2)
    assert torch.equal(torch.get_rng_state(), state)


# The loss and the accuracy of mixed labels.


class Logits(nn.Module):
    """Returns the same logits for each image."""

    def __init__(self) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.tensor([2.0, 1.0, 0.0, -1.0, -2.0]))

    def forward(self, images: Tensor) -> Tensor:
        return self.logits.expand(len(images), -1)


def test_loss_is_the_soft_cross_entropy_with_the_targets_of_timm() -> None:
    changed = recipe(mixup=0.8, label_smoothing=0.1, warmup_epochs=0)
    loss, _ = seeded(TrainingStep(Logits(), changed, 10), 5)(noise(), LABELS, 3)
    with global_generators_restored():
        seed_like_augmentation()
        targets = Mixup(0.8, label_smoothing=0.1, num_classes=5)(noise().float(), LABELS)[1]
    torch.testing.assert_close(loss / 8, SoftTargetCrossEntropy()(Logits()(noise()), targets).detach())


def test_predictions_are_counted_against_the_label_with_the_larger_weight() -> None:
    for weight, expected in ((0.6, LABELS), (0.4, LABELS.flip(0))):
        mixed = MixedLabels(LABELS, LABELS.flip(0), weight)
        assert torch.equal(mixed.dominant, expected)
        assert torch.equal(mixed.targets(5, 0.1).argmax(1), expected)
    _, correct = seeded(TrainingStep(Logits(), recipe(mixup=0.8), 10), 5)(noise(), LABELS, 3)
    assert correct == 2  # class 0 is the largest logit, and two labels are 0, whichever labels dominate


@pytest.mark.parametrize("loss", ["cross_entropy", "bce", "soft_target"])
def test_mixed_batch_in_parts_has_the_loss_and_the_gradient_of_the_whole_batch(loss: Any) -> None:
    results = []
    for parts in (1, 4):
        model = Logits()
        changed = recipe(cutmix=1.0, mixup=0.8, loss=loss, grad_accum_steps=parts, warmup_epochs=0)
        summed, correct = seeded(TrainingStep(model, changed, 10), 5)(noise(), LABELS, 3)
        results.append((summed, correct, model.logits.grad))
    torch.testing.assert_close(results[0], results[1])


@pytest.mark.parametrize("keeps_clean", [False, True])
def test_erasing_of_splits_equals_timm(keeps_clean: bool) -> None:
    images = noise(24)
    changes: dict[str, Any] = {"rotation": 5.0, "aug_splits": 3, "erasing": 0.9}
    batch, labels = augment(images, erasing_keeps_clean=keeps_clean, **changes)
    with global_generators_restored():
        seed_like_augmentation()
        erasing = RandomErasing(0.9, num_splits=3 if keeps_clean else 0, device="cpu")
        expected = erasing(normalize(images, 0.5, 0.5))
    assert torch.equal(batch, expected)
    assert torch.equal(batch[:8], normalize(images[:8], 0.5, 0.5)) is keeps_clean
    assert labels.labels is LABELS
