"""Subsets of a data set that keep the balance of the classes.

All functions except `is_test` expect labels that are sorted by class.
"""

import hashlib
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from arch.errors import InputError
from benchmarks.datasets.arrays import ORDER_SEED, ImageArrays

ALL_IMAGES = Fraction(1)


def index_in_class(labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return 0, 1, 2, ... within each class, as an array of shape (n,)."""
    starts = np.concatenate([[0], np.cumsum(np.bincount(labels))[:-1]])
    return np.asarray(np.arange(len(labels)) - starts[labels])


def first_of_each_class(labels: NDArray[np.int64], count: int | None) -> NDArray[np.int64]:
    """Return the indices of the first `count` images of each class; None selects all images."""
    return np.flatnonzero(index_in_class(labels) < (count or len(labels)))


def fraction_of_each_class(labels: NDArray[np.int64], fraction: Fraction, seed: int | None = None) -> NDArray[np.int64]:
    """Return the indices of a fraction of each class: this fraction, rounded, but at least one image.

    Args:
        labels: The labels of the images.
        fraction: The fraction. A smaller one is contained in a larger one.
        seed: Draws the images; None selects the first ones of each class.
    """
    if fraction == ALL_IMAGES:
        return np.arange(len(labels))
    sizes = np.array([max(1, round(fraction * int(count))) for count in np.bincount(labels)])
    positions = index_in_class(labels) if seed is None else drawn_positions(labels, seed)
    return np.flatnonzero(positions < sizes[labels])


def drawn_positions(labels: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """Return the position of each image in an order of its class that the seed draws, as an array of shape (n,).

    The order is that of a hash, so that it is the same on every computer and with every version of NumPy.
    """
    indices = index_in_class(labels)
    pairs = zip(labels.tolist(), indices.tolist(), strict=True)
    keys = [(label, hashlib.sha256(f"{seed} {label} {index}".encode()).digest()) for label, index in pairs]
    positions = np.empty_like(indices)
    positions[sorted(range(len(labels)), key=keys.__getitem__)] = indices
    return positions


def is_validation(labels: NDArray[np.int64], val_fraction: float) -> NDArray[np.bool_]:
    """Return which training images are held out for validation: the last ones of each class.

    Args:
        labels: The labels of the training images.
        val_fraction: The fraction of each class to hold out. At least one image of each class remains in each part.

    Raises:
        InputError: If a class has fewer than two images.
    """
    sizes = np.bincount(labels)
    if sizes.min() < 2:
        raise InputError("a validation split needs at least 2 training images of each class")
    num_train = np.clip(np.round((1 - val_fraction) * sizes), 1, sizes - 1)
    return np.asarray(index_in_class(labels) >= num_train[labels])


def split_validation(train: ImageArrays, val_fraction: float) -> tuple[ImageArrays, ImageArrays]:
    """Return the remaining training images and the validation images. See `is_validation`."""
    is_val = is_validation(train.labels, val_fraction)
    return train.take(np.flatnonzero(~is_val)), train.take(np.flatnonzero(is_val))


def is_test(
    labels: NDArray[np.int64], digests: Sequence[bytes], test_fraction: float, classes: Sequence[str]
) -> NDArray[np.bool_]:
    """Return which images are held out for testing, in a data set without a test split.

    The choice depends only on the images: it is the same for every copy of a data set, for every image size, and
    whatever the names and the order of the files are. Copies of one image in one class are in the same split.

    Args:
        labels: The labels of all images, in any order.
        digests: A hash of each image before it is resized.
        test_fraction: The fraction of each class to hold out, rounded. At least one image remains in each part.
        classes: The names of the classes.

    Raises:
        InputError: If a class has fewer than two different images.
    """
    keys = [hashlib.sha256(ORDER_SEED + digest).digest() for digest in digests]
    result = np.zeros(len(labels), bool)
    for label, name in enumerate(classes):
        indices = sorted(np.flatnonzero(labels == label).tolist(), key=lambda index: keys[index])
        sizes = [i for i in range(1, len(indices)) if keys[indices[i]] != keys[indices[i - 1]]]
        if not sizes:
            raise InputError(f"test_fraction needs at least 2 different images of each class; {name!r} has fewer")
        size = min(sizes, key=lambda size: abs(size - test_fraction * len(indices)))
        result[indices[:size]] = True
    return result
