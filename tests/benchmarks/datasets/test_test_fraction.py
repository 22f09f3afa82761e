"""Test data sets without a test split, of which `test_fraction` holds out images."""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from arch.errors import InputError
from benchmarks.datasets.cache import CachedDataset
from benchmarks.datasets.decode import decode_image
from benchmarks.datasets.folder_layout import is_image_folder
from benchmarks.datasets.prepare import prepare_dataset
from benchmarks.datasets.subsets import is_test
from benchmarks.definition.benchmark import DatasetConfig

CONFIG = DatasetConfig("folder", 2, image_size=8, test_fraction=0.25)
NUM_IMAGES = {"cat": 8, "dog": 12}

Pixels = NDArray[np.uint8]
Samples = Callable[[CachedDataset, DatasetConfig], list[list[bytes]]]


@pytest.fixture
def folder(tmp_path: Path, cache: Path, write_images: Callable[[Path, Mapping[str, Pixels]], Path]) -> Path:
    """Create class folders without a split."""
    names = [f"{label}/{index}.png" for label, count in NUM_IMAGES.items() for index in range(count)]
    images = {
        name: np.random.default_rng(seed).integers(0, 256, (8, 8, 3), np.uint8) for seed, name in enumerate(names)
    }
    return write_images(tmp_path / "images", images)


def test_fraction_of_each_class_is_held_out(folder: Path) -> None:
    dataset = prepare_dataset(CONFIG, folder)
    train, test = dataset.load(CONFIG, "test")
    assert dataset.classes == ("cat", "dog")
    assert (np.bincount(train.labels).tolist(), np.bincount(test.labels).tolist()) == ([6, 9], [2, 3])
    assert not {image.tobytes() for image in train.images} & {image.tobytes() for image in test.images}


def test_split_depends_only_on_the_images(folder: Path, tmp_path: Path, samples: Samples) -> None:
    original = prepare_dataset(CONFIG, folder)
    other = tmp_path / "renamed" / "train"
    for index, path in enumerate(sorted(folder.glob("*/*.png"), key=lambda path: path.read_bytes())):
        (other / path.parent.name).mkdir(parents=True, exist_ok=True)
        shutil.copy(path, other / path.parent.name / f"{index}.PNG")
    renamed = prepare_dataset(CONFIG, tmp_path / "renamed")
    assert renamed.fingerprint == original.fingerprint == "1047d166e381682b"  # never changes, as ids depend on it
    assert samples(renamed, CONFIG) == samples(original, CONFIG)


def test_split_is_the_same_for_every_image_size(folder: Path) -> None:
    small = replace(CONFIG, image_size=4)
    test_images = [prepare_dataset(config, folder).load(config, "test")[1].images for config in (CONFIG, small)]
    held_out = [
        {path for path in folder.glob("*/*.png") if decode_image(path, config)[0].tobytes() in {*map(bytes, images)}}
        for config, images in zip((CONFIG, small), test_images, strict=True)
    ]
    assert held_out[0] == held_out[1]
    assert len(held_out[0]) == 5


def test_another_fraction_is_cached_separately(folder: Path) -> None:
    half = replace(CONFIG, test_fraction=0.5)
    assert [prepare_dataset(config, folder).counts(config) for config in (CONFIG, half, CONFIG)] == [
        (15, 5),
        (10, 10),
        (15, 5),
    ]


def test_smaller_test_split_is_part_of_a_larger_one() -> None:
    labels, digests = np.zeros(20, np.int64), [bytes([index]) for index in range(20)]
    masks = [is_test(labels, digests, fraction, ["cat"]) for fraction in (0.01, 0.2, 0.5, 0.99)]
    assert [mask.sum() for mask in masks] == [1, 4, 10, 19]
    assert all((small <= large).all() for small, large in pairwise(masks))


def test_copies_of_an_image_are_in_the_same_split() -> None:
    digests = [bytes([index // 5]) for index in range(20)]
    mask = is_test(np.zeros(20, np.int64), digests, 0.3, ["cat"])
    assert mask.sum() == 5
    assert len({digest for digest, is_held_out in zip(digests, mask, strict=True) if is_held_out}) == 1


def test_class_with_copies_of_one_image_is_an_error() -> None:
    with pytest.raises(InputError, match="'dog' has fewer"):
        is_test(np.array([0, 0, 1, 1]), [b"a", b"b", b"c", b"c"], 0.5, ["cat", "dog"])


def add_split(folder: Path, name: str) -> None:
    shutil.copytree(folder / "train", folder / name)


@pytest.mark.parametrize(
    ("layout", "fraction", "expected"),
    [
        ("classes", None, "has no test split: .*test_fraction"),
        ("train", None, "has no test split: .*test_fraction"),
        ("unlabeled test", None, "has no test split: .*test_fraction.*test/ is ignored"),
        ("test", 0.25, r"has a test split \(test/\): remove test_fraction"),
        ("val", 0.25, r"has a test split \(val/\): remove test_fraction"),
    ],
)
def test_missing_and_superfluous_fractions_are_explained(
    folder: Path, layout: str, fraction: float | None, expected: str
) -> None:
    if layout != "classes":
        (folder / "train").mkdir()
        for label in NUM_IMAGES:
            (folder / label).rename(folder / "train" / label)
    if layout in ("test", "val"):
        add_split(folder, layout)
    if layout == "unlabeled test":
        shutil.copytree(folder / "train/cat", folder / "test")
    with pytest.raises(InputError, match=expected):
        prepare_dataset(replace(CONFIG, test_fraction=fraction), folder)
    if fraction is None:
        assert prepare_dataset(CONFIG, folder).counts(CONFIG) == (15, 5)


@pytest.mark.parametrize("source", ["digits", "cifar10"])
def test_data_sets_with_a_test_split_reject_a_fraction(source: str, cache: Path) -> None:
    config: dict[str, Any] = {"image_size": 8, "in_chans": 1} if source == "digits" else {}
    with pytest.raises(InputError, match=f"{source} has a test split"):
        prepare_dataset(DatasetConfig(source, 10, **config, test_fraction=0.1), None)


def test_folder_of_another_data_set_is_not_taken_for_class_folders(folder: Path) -> None:
    assert is_image_folder(folder, CONFIG)
    assert not is_image_folder(folder, DatasetConfig("cifar10", 10))
