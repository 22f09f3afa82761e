import os
import subprocess
import sys
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from arch.errors import InputError
from benchmarks.datasets.arrays import ImageArrays
from benchmarks.datasets.cache import CachedDataset
from benchmarks.datasets.subsets import drawn_positions, fraction_of_each_class
from benchmarks.definition.benchmark import DatasetConfig

DIGITS = DatasetConfig("digits", 10, image_size=8, in_chans=1, test_per_class=50)

PRINT_DIGESTS = """
from fractions import Fraction
from benchmarks.datasets.prepare import prepare_dataset
from benchmarks.definition.benchmark import DatasetConfig

config = DatasetConfig("digits", 10, image_size=8, in_chans=1, test_per_class=50)
for text in ("1/16", "1/3", "1/2", "1"):
    print(text, prepare_dataset(config, None).load(config, "test", Fraction(text))[0].digest())
"""


def samples(images: ImageArrays) -> set[bytes]:
    return {bytes([label]) + image.tobytes() for image, label in zip(images.images, images.labels, strict=True)}


# the first images of each class


@pytest.mark.parametrize("changes", [{}, {"train_per_class": 7}, {"test_per_class": 3}, {"train_per_class": 200}])
def test_counts_equal_the_number_of_loaded_images(digits: CachedDataset, changes: dict[str, Any]) -> None:
    config = replace(DIGITS, **changes)
    train, test = digits.load(config, "test")
    assert digits.counts(config) == (len(train), len(test))
    assert digits.counts(config, split="val") == tuple(map(len, digits.load(config, "val")))


@pytest.mark.parametrize(("limit", "count"), [(124, 1240), (125, 1249), (130, 1288), (133, 1297)])
def test_smaller_classes_are_counted_completely(digits: CachedDataset, limit: int, count: int) -> None:
    assert digits.counts(replace(DIGITS, train_per_class=limit)) == (count, 500)


def test_subsets_are_balanced_and_nested(digits: CachedDataset) -> None:
    subsets = [digits.load(replace(DIGITS, train_per_class=k), "test")[0] for k in (3, 10, 40)]
    assert [np.bincount(subset.labels).tolist() for subset in subsets] == [[k] * 10 for k in (3, 10, 40)]
    small, medium, large = map(samples, subsets)
    assert small < medium < large


# fractions


def test_fractions_are_nested_and_balanced(digits: CachedDataset) -> None:
    fractions = [Fraction(text) for text in ("1/16", "1/3", "1/2", "1")]
    subsets = [digits.load(DIGITS, "test", fraction)[0] for fraction in fractions]
    assert all(smaller < larger for smaller, larger in pairwise(map(samples, subsets)))
    class_sizes = np.bincount(subsets[-1].labels)
    assert np.bincount(subsets[1].labels).tolist() == [round(Fraction(int(size), 3)) for size in class_sizes]
    assert [digits.counts(DIGITS, fraction)[0] for fraction in fractions] == [len(subset) for subset in subsets]
    third = digits.load(DIGITS, "val", Fraction(1, 3))
    assert digits.counts(DIGITS, Fraction(1, 3), "val") == tuple(map(len, third))


def test_smallest_fraction_has_one_image_of_each_class(digits: CachedDataset) -> None:
    smallest = digits.load(DIGITS, "test", Fraction(1, 10_000))[0]
    assert smallest.labels.tolist() == list(range(10))


@pytest.mark.usefixtures("digits")
def test_fractions_have_the_same_digests_in_every_process() -> None:
    outputs = [
        subprocess.run(
            [sys.executable, "-c", PRINT_DIGESTS],
            env={**os.environ, "PYTHONHASHSEED": seed},
            check=True,
            capture_output=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert outputs[0] == outputs[1]
    assert len(set(outputs[0].split())) == 8


# drawn fractions


def test_drawn_fractions_are_nested_balanced_and_as_large_as_fixed_ones(digits: CachedDataset) -> None:
    fractions = [Fraction(text) for text in ("1/10000", "1/16", "1/3", "1/2", "1")]
    subsets = [digits.load(DIGITS, "test", fraction, 7)[0] for fraction in fractions]
    assert all(smaller < larger for smaller, larger in pairwise(map(samples, subsets)))
    fixed = [digits.load(DIGITS, "test", fraction)[0] for fraction in fractions]
    assert [subset.labels.tolist() for subset in subsets] == [subset.labels.tolist() for subset in fixed]
    assert subsets[-1].digest() == fixed[-1].digest()


def test_each_seed_draws_its_own_subset(digits: CachedDataset) -> None:
    digests = [digits.load(DIGITS, "test", Fraction(1, 2), seed)[0].digest() for seed in (None, 0, 1, 2, 0)]
    assert len(set(digests)) == 4
    assert digests[1] == digests[4]


def test_order_that_a_seed_draws_is_the_same_everywhere() -> None:
    labels = np.repeat([0, 1], 6)
    assert drawn_positions(labels, 0).tolist() == [0, 2, 3, 4, 5, 1, 4, 1, 5, 3, 2, 0]
    assert drawn_positions(labels, 1).tolist() == [4, 5, 0, 1, 3, 2, 2, 4, 3, 1, 0, 5]
    assert fraction_of_each_class(labels, Fraction(1, 2), 0).tolist() == [0, 1, 5, 7, 10, 11]


def test_each_image_is_drawn_equally_often() -> None:
    labels = np.repeat([0, 1], 4)
    counts = sum(np.bincount(fraction_of_each_class(labels, Fraction(1, 2), seed), minlength=8) for seed in range(400))
    assert np.abs(np.asarray(counts) - 200).max() < 50  # five standard deviations


def test_all_seeds_are_evaluated_on_the_same_validation_images(digits: CachedDataset) -> None:
    config = replace(DIGITS, train_per_class=20)
    all_train, validation = digits.load(config, "val")
    for seed in (0, 1):
        train, evaluation = digits.load(config, "val", Fraction(1, 2), seed)
        assert evaluation.digest() == validation.digest() == digits.load_evaluation(config, "val").digest()
        assert samples(train) < samples(all_train)


# the validation split


def test_validation_split_is_a_tenth_of_each_class(digits: CachedDataset) -> None:
    train, validation = (np.bincount(split.labels) for split in digits.load(DIGITS, "val"))
    assert (abs(validation - (train + validation) / 10) <= 0.5).all()


@pytest.mark.parametrize(("fraction", "expected"), [(0.1, 2), (0.5, 10), (0.25, 5)])
def test_val_fraction_sets_the_size_of_the_validation_split(
    digits: CachedDataset, fraction: float, expected: int
) -> None:
    train, validation = digits.load(replace(DIGITS, train_per_class=20, val_fraction=fraction), "val")
    assert np.bincount(validation.labels).tolist() == [expected] * 10
    assert np.bincount(train.labels).tolist() == [20 - expected] * 10


@pytest.mark.parametrize("limit", [None, 20])
def test_training_and_validation_images_are_all_training_images(digits: CachedDataset, limit: int | None) -> None:
    config = replace(DIGITS, train_per_class=limit)
    train, validation = digits.load(config, "val")
    all_images, _ = digits.load(config, "test")
    assert samples(train) | samples(validation) == samples(all_images)
    assert len(train) + len(validation) == len(all_images)


def test_validation_split_is_reproducible(digits: CachedDataset) -> None:
    first, second = digits.load(DIGITS, "val"), digits.load(DIGITS, "val")
    assert [split.digest() for split in first] == [split.digest() for split in second]


def test_every_class_has_a_validation_image(digits: CachedDataset) -> None:
    _, validation = digits.load(replace(DIGITS, train_per_class=4), "val")
    assert np.bincount(validation.labels, minlength=10).min() > 0


def test_validation_split_needs_two_images_of_each_class(digits: CachedDataset) -> None:
    with pytest.raises(InputError, match="at least 2 training images"):
        digits.load(replace(DIGITS, train_per_class=1), "val")
