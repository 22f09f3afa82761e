"""Images and labels of a split as NumPy arrays, and their fixed order."""

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
ORDER_SEED = b"timm-ablate 0"  # determines the order within a class, and so all subsets and the validation split


@dataclass(frozen=True)
class ImageArrays:
    """Images and labels of one split.

    Attributes:
        images: uint8 pixels of shape (n, height, width, channels).
        labels: int64 class indices of shape (n,).
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)

    def digest(self) -> str:
        """Return a SHA-256 hash of all images and labels."""
        digest = hashlib.sha256(self.images.data)
        digest.update(self.labels.data)
        return digest.hexdigest()

    def take(self, index: NDArray[np.int64]) -> "ImageArrays":
        """Return the images at these indices. If they select all images in order, return `self` without a copy."""
        if len(index) == len(self) and (index == np.arange(len(self))).all():
            return self
        return ImageArrays(self.images[index], self.labels[index])


@dataclass(frozen=True)
class DecodedDataset:
    """A data set in memory, as its source returns it."""

    train: ImageArrays
    test: ImageArrays
    classes: tuple[str, ...]


def sort_images(split: ImageArrays) -> ImageArrays:
    """Sort images by class, then by a hash of their pixels.

    The order depends only on the images. Every copy of a data set, however it is stored, therefore gives the same
    arrays, fingerprint and results, and the first k images of a class are a pseudorandom sample of the class.
    """
    planes = (np.moveaxis(image, -1, 0) for image in split.images)
    digests = [hashlib.sha256(ORDER_SEED + image.tobytes()).digest() for image in planes]
    order = sorted(range(len(split)), key=lambda i: (split.labels[i], digests[i]))
    return split.take(np.array(order))
