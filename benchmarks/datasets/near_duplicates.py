"""Near-duplicates between a data set's test and training images, found by their pixels.

Barz and Denzler (2020, arXiv:1902.00423) found them for 10% of CIFAR-100's test images with a CNN's features and
people's eyes. This goes by pixels only and finds 3%: the same shot turned, scaled or drawn over is often passed over.
Of 64 pairs found, chosen by chance, 54 were one shot by eye, 8 very similar, such as two clocks of one series, and 2
wrong. It sees at most `SIDE` pixels a side, and on tiny images, such as the 8x8 digits, many honest images look alike.
Loads torch only to compare: the parent, which receives the result, has none.
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

THRESHOLD = 0.82  # of the similarity: set by eye on CIFAR-100; a little lower, plates, roads and horizons come in
SIDE = 32  # pixels: larger images are made smaller
CANDIDATES = 3  # training images for each test image, and as many for its mirror image, that are compared closely
LIKELY = 0.45  # least cosine at half the resolution for that; it costs 3 of CIFAR-100's 312 test images
CHUNK = 250  # images at once
ROUNDING = 1 / 255  # what is less than this beside its surroundings, of 255, is taken for none


@dataclass(frozen=True)
class NearDuplicate:
    """A test image and the training image most similar to it, by their places in `CachedDataset.load(..., "test")`."""

    test: int
    train: int
    similarity: float  # THRESHOLD to 1; 1 for equal pixels


@dataclass(frozen=True)
class NearDuplicates:
    """The test images that have a near-duplicate among the training images."""

    found: tuple[NearDuplicate, ...]  # by test image
    test_images: int  # that were looked at


def near_duplicates(report: Report, data: CachedDataset, definition: DatasetConfig, device: str) -> NearDuplicates:
    """Compares all test images with all training images.

    The similarity is the cosine between the details of two images: each pixel less the mean around it, its square
    root, with the sign kept. Brightness, contrast and slow changes of light fall out, and no strong edge decides alone.
    It is the largest one over the plain and the mirrored image and over shifts by up to a tenth of the side, for the
    training images that are closest at half the resolution. Without details, only equal pixels are duplicates.
    """
    import torch

    train, test = (part.images for part in data.load(definition, "test"))
    same = {_digest(image): place for place, image in reversed(list(enumerate(train)))}
    train_small, test_small = _small(train), _small(test)
    coarse = torch.cat([_coarse(chunk.to(device)) for chunk in train_small.split(CHUNK)])
    found: list[NearDuplicate] = []
    for start in range(0, len(test), CHUNK):
        similarity, place = _closest(test_small[start : start + CHUNK].to(device), train_small, coarse)
        for offset, (value, other) in enumerate(zip(similarity.tolist(), place.tolist(), strict=True)):
            equal = same.get(_digest(test[start + offset]))
            if equal is not None:
                found.append(NearDuplicate(start + offset, equal, 1.0))
            elif value >= THRESHOLD:
                found.append(NearDuplicate(start + offset, other, round(min(value, 1.0), 4)))
        report(Progress("near-duplicates", min(start + CHUNK, len(test)), len(test)))
    return NearDuplicates(tuple(found), len(test))


def _digest(image: NDArray[Any]) -> bytes:
    return hashlib.sha256(image.tobytes()).digest()


def _small(images: NDArray[np.uint8]) -> "Tensor":
    """(n, channels, side, side) in uint8, of at most SIDE pixels a side."""
    import torch
    import torch.nn.functional as F

    chunks = []
    for start in range(0, len(images), CHUNK):
        chunk = torch.from_numpy(np.array(images[start : start + CHUNK])).permute(0, 3, 1, 2)
        if max(chunk.shape[2:]) > SIDE:
            chunk = F.interpolate(chunk.float(), size=(SIDE, SIDE), mode="area").round().to(torch.uint8)
        chunks.append(chunk)
    return torch.cat(chunks)


def _details(images: "Tensor") -> "Tensor":
    import torch
    import torch.nn.functional as F

    reach = max(1, images.shape[-1] // 8)
    padded = F.pad(images.float(), (reach,) * 4, mode="reflect")
    details = images - F.avg_pool2d(padded, 2 * reach + 1, 1)
    return details.sign() * torch.where(details.abs() < ROUNDING, 0.0, details.abs()).sqrt()


def _margin(images: "Tensor") -> int:
    """Pixels at each side that a shift may lose; frames around an image lie there too."""
    return images.shape[-1] // 10


def _centre(images: "Tensor") -> "Tensor":
    margin = _margin(images)
    return images[:, :, margin : images.shape[2] - margin, margin : images.shape[3] - margin]


def _coarse(images: "Tensor") -> "Tensor":
    """One unit vector an image, which small shifts change little."""
    import torch.nn.functional as F

    return F.normalize(F.avg_pool2d(_centre(_details(images)), 2).flatten(1))


def _closest(test: "Tensor", train: "Tensor", coarse: "Tensor") -> "tuple[Tensor, Tensor]":
    """The largest similarity of each test image and the place of the training image that has it."""
    import torch

    both = torch.cat([test, test.flip(-1)])
    likely, places = (_coarse(both) @ coarse.T).topk(min(CANDIDATES, len(train)))
    similarities = torch.zeros_like(likely)
    rows, columns = torch.nonzero(likely >= LIKELY, as_tuple=True)
    for row, column in zip(rows.split(CHUNK), columns.split(CHUNK), strict=True):
        others = train[places[row, column].cpu()].to(test.device)
        similarities[row, column] = _similarity(both[row], others)
    similarity, best = torch.cat(similarities.chunk(2), 1).max(1)
    return similarity, torch.cat(places.chunk(2), 1).gather(1, best[:, None])[:, 0]


def _similarity(images: "Tensor", others: "Tensor") -> "Tensor":
    """Of pairs: the centre of the one is laid over the other in all ways that it fits."""
    import torch
    import torch.nn.functional as F

    centre, details = _centre(_details(images)), _details(others)
    height, width = centre.shape[2:]
    squares = F.avg_pool2d(details.square().sum(1, keepdim=True), (height, width), 1) * (height * width)
    norms = (squares[:, 0] * centre.square().sum((1, 2, 3))[:, None, None]).sqrt().clamp_min(1e-6)
    shifts = range(2 * _margin(images) + 1)
    windows = [details[:, :, y : y + height, x : x + width] for y in shifts for x in shifts]
    products = torch.stack([torch.einsum("nchw,nchw->n", centre, window) for window in windows], dim=1)
    return (products / norms.flatten(1)).amax(1)
