import os
import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from torch import Tensor

from benchmarks.datasets.arrays import ImageArrays
from benchmarks.definition.recipe import Recipe
from benchmarks.training import loaded_images
from benchmarks.training.image_transforms import image_transforms, transform_image
from benchmarks.training.loaded_images import LoadedImages, default_loader_processes, with_loader
from benchmarks.training.seeds import derive_seed
from benchmarks.training.step import random_images

RECIPE = Recipe(batch_size=8, crop_padding=1, rotation=30.0, auto_augment="rand-m9-mstd0.5-inc1")
BATCHES = torch.tensor([[3, 1, 4, 15, 9, 2, 6, 5], [0, 7, 8, 10, 11, 12, 13, 14]])

pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")  # Python 3.12


def arrays(channels: int = 3) -> ImageArrays:
    noise = np.random.default_rng(0)
    return ImageArrays(noise.integers(0, 256, (16, 8, 8, channels), dtype=np.uint8), noise.integers(0, 10, 16))


def load(images: LoadedImages, seed: int = 1, indices: Tensor = BATCHES) -> list[tuple[Tensor, Tensor]]:
    return [(batch.images, batch.labels) for batch in images.batches(list(indices), seed)]


def loaded(num_processes: int, **changes: Any) -> LoadedImages:
    return LoadedImages(arrays(**changes), RECIPE, torch.device("cpu"), num_processes)


def equal(one: list[tuple[Tensor, Tensor]], other: list[tuple[Tensor, Tensor]]) -> bool:
    return len(one) == len(other) and all(
        torch.equal(first, second) for pair in zip(one, other, strict=True) for first, second in zip(*pair, strict=True)
    )


@pytest.fixture
def _own_children() -> Iterator[None]:
    """Check that no loader process remains."""
    before = set(psutil.Process().children())
    yield
    assert not [child for child in psutil.Process().children() if child not in before and child.is_running()]


@pytest.mark.parametrize("channels", [1, 3])
def test_draws_of_an_image_follow_from_the_seed_and_its_index(channels: int) -> None:
    images = arrays(channels)
    transform = image_transforms(RECIPE, 8, channels)
    for batch, (pixels, labels) in zip(BATCHES, load(loaded(0, channels=channels)), strict=True):
        for index, result, label in zip(batch.tolist(), pixels, labels, strict=True):
            expected = transform_image(images.images[index], transform, derive_seed(1, index))[0]
            np.testing.assert_array_equal(result.permute(1, 2, 0).numpy(), expected)
            assert label == images.labels[index]


def test_other_seeds_give_other_images() -> None:
    assert not equal(load(loaded(0), seed=1), load(loaded(0), seed=2))


@pytest.mark.slow
@pytest.mark.usefixtures("_own_children")
@pytest.mark.filterwarnings("ignore:This DataLoader will create 4 worker processes:UserWarning")
def test_number_of_processes_does_not_change_the_images() -> None:
    expected = [load(loaded(0), seed) for seed in (1, 2)]
    for num_processes in (1, 2, 4):
        images = loaded(num_processes)
        assert all(equal(load(images, seed), batches) for seed, batches in zip((1, 2), expected, strict=True))
        del images


@pytest.mark.slow
@pytest.mark.usefixtures("_own_children")
def test_pass_that_was_not_finished_does_not_affect_the_next_one() -> None:
    images = loaded(2)
    next(images.batches(list(BATCHES), 1))
    assert equal(load(images, seed=2), load(loaded(0), seed=2))


def test_rest_of_a_pass_is_loaded_without_its_first_batches() -> None:
    assert equal(load(loaded(0), indices=BATCHES[1:]), load(loaded(0))[1:])


def test_global_generators_are_not_changed() -> None:
    states = []
    for _ in range(2):
        states.append((torch.get_rng_state().tolist(), str(np.random.get_state()), random.getstate()))
        load(loaded(0))
    assert states[0] == states[1]


def test_images_are_in_the_channels_last_format() -> None:
    assert load(loaded(0))[0][0].is_contiguous(memory_format=torch.channels_last)


def test_memory_mapped_images_are_read(tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", arrays().images)
    mapped = ImageArrays(np.load(tmp_path / "images.npy", mmap_mode="c"), arrays().labels)
    assert equal(load(LoadedImages(mapped, RECIPE, torch.device("cpu"), 0)), load(loaded(0)))


def test_images_stay_on_the_device_unless_single_images_are_transformed() -> None:
    images = random_images(16, (3, 8, 8), 10, torch.Generator())
    assert with_loader(images, Recipe(batch_size=8, erasing=0.5, mixup=0.2)) is images
    assert isinstance(with_loader(images, RECIPE), LoadedImages)


@pytest.mark.parametrize(
    ("cores", "trainings", "expected"), [(1, 1, 1), (8, 1, 7), (8, 2, 3), (8, 16, 1), (100, 1, 16)]
)
def test_processes_share_the_cores(cores: int, trainings: int, expected: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)), raising=False)
    assert default_loader_processes(trainings) == expected
    assert loaded_images.MAX_LOADER_PROCESSES == 16


def test_splits_follow_each_other() -> None:
    recipe = replace(RECIPE, aug_splits=3, loss="jsd")
    images, transform = arrays(), image_transforms(recipe, 8, 3)
    for batch, (pixels, labels) in zip(
        BATCHES, load(LoadedImages(images, recipe, torch.device("cpu"), 0)), strict=True
    ):
        assert (len(pixels), len(labels)) == (24, 8)
        for position, index in enumerate(batch.tolist()):
            expected = transform_image(images.images[index], transform, derive_seed(1, index))
            np.testing.assert_array_equal(pixels[position::8].permute(0, 2, 3, 1).numpy(), np.stack(expected))


def test_repetitions_of_an_image_have_separate_draws() -> None:
    first, again = load(loaded(0), indices=torch.stack([BATCHES[0], BATCHES[0] + 16]))
    assert torch.equal(first[1], again[1])
    assert not torch.equal(first[0], again[0])
