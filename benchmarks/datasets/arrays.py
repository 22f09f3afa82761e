"""Images and labels of a split as NumPy arrays, and their fixed order."""

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

ORDER_SEED = b"timm-ablate 0"  # fixes the order within a class, and with it all subsets and the validation split


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
        """Return the images at these indices. Returns `self`, without a copy, for all images in their order."""
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

    The order depends on the images alone. However a data set is stored, every copy of it therefore gives the same
    arrays, the same fingerprint and the same numbers, and the first k images of a class are a fair sample of the class.
    """
    planes = (np.moveaxis(image, -1, 0) for image in split.images)
    digests = [hashlib.sha256(ORDER_SEED + image.tobytes()).digest() for image in planes]
    order = sorted(range(len(split)), key=lambda i: (split.labels[i], digests[i]))
    return split.take(np.array(order))
