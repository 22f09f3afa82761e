"""The handwritten digits of scikit-learn."""

import numpy as np

from benchmarks.datasets.arrays import DecodedDataset, ImageArrays, sort_images
from benchmarks.datasets.subsets import index_in_class

TEST_IMAGES_PER_CLASS = 50


def read_digits() -> DecodedDataset:
    """Read scikit-learn's digits: 1,797 grayscale 8x8 images with 17 gray levels.

    The data set has no published split. The first 50 images of each class, in the order of `sort_images`, become the
    test split.
    """
    from sklearn.datasets import load_digits

    digits = load_digits()
    pixels = np.round(digits.images * (255 / 16)).astype(np.uint8)
    images = sort_images(ImageArrays(pixels[..., None], digits.target.astype(np.int64)))
    is_test = index_in_class(images.labels) < TEST_IMAGES_PER_CLASS
    return DecodedDataset(
        train=images.take(np.flatnonzero(~is_test)),
        test=images.take(np.flatnonzero(is_test)),
        classes=tuple(str(name) for name in digits.target_names),
    )
