from collections.abc import Callable
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

from benchmarks.datasets.cache import CachedDataset
from benchmarks.datasets.prepare import prepare_dataset
from benchmarks.definition.benchmark import DatasetConfig

DIGITS = DatasetConfig("digits", 10, image_size=8, in_chans=1, test_per_class=50)
FINGERPRINT = "678e43ae7e307e59"  # scikit-learn's 1,797 images; if this changes, all results change

Samples = Callable[[CachedDataset, DatasetConfig], list[list[bytes]]]


def test_splits_have_the_expected_shapes(digits: CachedDataset) -> None:
    train, test = digits.load(DIGITS, "test")
    assert (len(train), len(test)) == (1297, 500)
    assert np.bincount(test.labels).tolist() == [50] * 10
    assert train.images.shape == (1297, 8, 8, 1)
    assert (train.images.dtype.name, train.labels.dtype.name) == ("uint8", "int64")
    assert digits.classes == tuple("0123456789")


def test_splits_contain_each_image_of_scikit_learn_once(digits: CachedDataset, samples: Samples) -> None:
    source = load_digits()
    pixels = np.round(source.images / 16 * 255).astype(np.uint8)
    expected = [bytes([label]) + image.tobytes() for image, label in zip(pixels, source.target, strict=True)]
    train, test = samples(digits, DIGITS)
    assert sorted(train + test) == sorted(expected)


def test_fingerprint_is_the_same_in_every_cache(digits: CachedDataset, cache: Path, samples: Samples) -> None:
    decoded_again = prepare_dataset(DIGITS, None)
    assert decoded_again.folder != digits.folder
    assert decoded_again.fingerprint == digits.fingerprint == FINGERPRINT
    assert samples(decoded_again, DIGITS) == samples(digits, DIGITS)
