"""Near-duplicates between the test images and the training images of a data set, found by comparing pixels.

Barz and Denzler (2020, arXiv:1902.00423) found near-duplicates for 10% of CIFAR-100's test images with the features of
a CNN and visual inspection. The comparison of pixels in this module finds 3%: it often misses photos that were rotated,
scaled or drawn over. Of 64 random pairs that it found, visual inspection judged 54 to be the same photo, 8 to be very
similar (such as two clocks of one series) and 2 to be wrong. It compares at most `MAX_SIDE` pixels per side, and in
data sets of tiny images, such as the 8x8 digits, many different images look alike.

torch is imported only for the comparison, so that the parent process, which receives the result, does not need it.
"""

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.datasets.cache import CachedDataset
from benchmarks.definition.benchmark import DatasetConfig
from benchmarks.execution.progress import Progress, Report

if TYPE_CHECKING:
    from torch import Tensor

THRESHOLD = 0.82  # minimum similarity, chosen by eye on CIFAR-100; below it, plates, roads and horizons are found too
MAX_SIDE = 32  # pixels; larger images are scaled down
CANDIDATES_PER_IMAGE = 3  # training images that are compared closely with a test image, and with its mirror image
MIN_COARSE_SIMILARITY = 0.45  # of candidates, at half the resolution; misses 3 of CIFAR-100's 312 test images
CHUNK_SIZE = 250  # images that are compared at once
MIN_DETAIL = 1 / 255  # difference from the surrounding mean; smaller ones are rounding errors


@dataclass(frozen=True)
class NearDuplicate:
    """A test image and the training image that is most similar to it.

    Attributes:
        test: The index of the test image in `CachedDataset.load(..., "test")`.
        train: The index of the training image.
        similarity: From THRESHOLD to 1, which means equal pixels.
    """

    test: int
    train: int
    similarity: float


@dataclass(frozen=True)
class NearDuplicates:
    """The test images with a near-duplicate among the training images.

    Attributes:
        found: The near-duplicates, sorted by test image.
        test_images: The number of test images that were compared.
    """

    found: tuple[NearDuplicate, ...]
    test_images: int


def near_duplicates(report: Report, data: CachedDataset, config: DatasetConfig, device: str) -> NearDuplicates:
    """Compare all test images with all training images.

    The similarity is the cosine between the details of two images: each pixel minus the mean of its surroundings, then
    the signed square root. It ignores brightness, contrast and gradual changes of the light, and the square root keeps
    a single strong edge from dominating. The result is the maximum over the plain and the mirrored image and over
    shifts by up to a tenth of the side, among the training images that are most similar at half the resolution. Images
    without details are duplicates only if all pixels are equal.

    Args:
        report: Called with progress updates.
        data: The data set.
        config: The limits on the images of each class.
        device: The device to compute on.
    """
    import torch

    train, test = (split.images for split in data.load(config, "test"))
    train_index_by_digest = {_digest(image): index for index, image in reversed(list(enumerate(train)))}
    train_small, test_small = _scale_down(train), _scale_down(test)
    coarse = torch.cat([_coarse_vectors(chunk.to(device)) for chunk in train_small.split(CHUNK_SIZE)])
    found: list[NearDuplicate] = []
    for start in range(0, len(test), CHUNK_SIZE):
        chunk = test_small[start : start + CHUNK_SIZE].to(device)
        similarities, indices = _most_similar(chunk, train_small, coarse)
        for test_index, (similarity, train_index) in enumerate(
            zip(similarities.tolist(), indices.tolist(), strict=True), start
        ):
            equal_index = train_index_by_digest.get(_digest(test[test_index]))
            if equal_index is not None:
                found.append(NearDuplicate(test_index, equal_index, 1.0))
            elif similarity >= THRESHOLD:
                found.append(NearDuplicate(test_index, train_index, round(min(similarity, 1.0), 4)))
        report(Progress("near-duplicates", min(start + CHUNK_SIZE, len(test)), len(test)))
    return NearDuplicates(tuple(found), len(test))


def _digest(image: NDArray[Any]) -> bytes:
    return hashlib.sha256(image.tobytes()).digest()


def _scale_down(images: NDArray[np.uint8]) -> "Tensor":
    """Return uint8 images of shape (n, channels, side, side) with at most MAX_SIDE pixels per side."""
    import torch
    import torch.nn.functional as F

    chunks = []
    for start in range(0, len(images), CHUNK_SIZE):
        chunk = torch.from_numpy(np.array(images[start : start + CHUNK_SIZE])).permute(0, 3, 1, 2)
        if max(chunk.shape[2:]) > MAX_SIDE:
            chunk = F.interpolate(chunk.float(), size=(MAX_SIDE, MAX_SIDE), mode="area").round().to(torch.uint8)
        chunks.append(chunk)
    return torch.cat(chunks)


def _details(images: "Tensor") -> "Tensor":
    import torch
    import torch.nn.functional as F

    radius = max(1, images.shape[-1] // 8)
    padded = F.pad(images.float(), (radius,) * 4, mode="reflect")
    details = images - F.avg_pool2d(padded, 2 * radius + 1, 1)
    return details.sign() * torch.where(details.abs() < MIN_DETAIL, 0.0, details.abs()).sqrt()


def _margin(images: "Tensor") -> int:
    """Return the number of pixels a shift may cut off at each side. The margin also covers frames around images."""
    return images.shape[-1] // 10


def _crop_center(images: "Tensor") -> "Tensor":
    margin = _margin(images)
    return images[:, :, margin : images.shape[2] - margin, margin : images.shape[3] - margin]


def _coarse_vectors(images: "Tensor") -> "Tensor":
    """Return one unit vector per image, of shape (n, features), that changes little under small shifts."""
    import torch.nn.functional as F

    return F.normalize(F.avg_pool2d(_crop_center(_details(images)), 2).flatten(1))


def _most_similar(test: "Tensor", train: "Tensor", coarse: "Tensor") -> "tuple[Tensor, Tensor]":
    """Return the highest similarity of each test image, and the index of the training image that has it."""
    import torch

    with_mirrored = torch.cat([test, test.flip(-1)])
    coarse_similarities, candidates = (_coarse_vectors(with_mirrored) @ coarse.T).topk(
        min(CANDIDATES_PER_IMAGE, len(train))
    )
    similarities = torch.zeros_like(coarse_similarities)
    rows, columns = torch.nonzero(coarse_similarities >= MIN_COARSE_SIMILARITY, as_tuple=True)
    for row, column in zip(rows.split(CHUNK_SIZE), columns.split(CHUNK_SIZE), strict=True):
        train_images = train[candidates[row, column].cpu()].to(test.device)
        similarities[row, column] = _similarity(with_mirrored[row], train_images)
    highest, best = torch.cat(similarities.chunk(2), 1).max(1)
    return highest, torch.cat(candidates.chunk(2), 1).gather(1, best[:, None])[:, 0]


def _similarity(images: "Tensor", others: "Tensor") -> "Tensor":
    """Return the similarity of each pair: the maximum over all shifts of the first image's center over the second."""
    import torch
    import torch.nn.functional as F

    center, details = _crop_center(_details(images)), _details(others)
    height, width = center.shape[2:]
    squares = F.avg_pool2d(details.square().sum(1, keepdim=True), (height, width), 1) * (height * width)
    norms = (squares[:, 0] * center.square().sum((1, 2, 3))[:, None, None]).sqrt().clamp_min(1e-6)
    shifts = range(2 * _margin(images) + 1)
    windows = [details[:, :, y : y + height, x : x + width] for y in shifts for x in shifts]
    products = torch.stack([torch.einsum("nchw,nchw->n", center, window) for window in windows], dim=1)
    return (products / norms.flatten(1)).amax(1)
