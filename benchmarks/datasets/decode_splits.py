"""Decode all images of a data set, hold out a test split if it has none, and report the conversions once."""

import hashlib
import os
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from arch.text import printable
from benchmarks.datasets.arrays import DecodedDataset, ImageArrays, Pixels
from benchmarks.datasets.conversions import ConversionCounts
from benchmarks.datasets.decode import decode
from benchmarks.datasets.subsets import is_test
from benchmarks.definition.benchmark import DatasetConfig
from benchmarks.execution.progress import Progress, Report

IMAGES_PER_REPORT = 500

Content = Path | bytes | Image.Image  # a file, the content of a file, or an image


@dataclass(frozen=True)
class EncodedSplit:
    """Images of one split that are not decoded yet.

    Attributes:
        labels: The class index of each image.
        read: Returns the image with an index.
        name_of: Returns the name of the image with an index, for messages.
    """

    labels: Sequence[int]
    read: Callable[[int], Content]
    name_of: Callable[[int], str]


@dataclass(frozen=True)
class EncodedDataset:
    """A data set that is not decoded yet.

    Attributes:
        place: What contains the images, for messages.
        train: The training images; all images if there is no test split.
        test: The test images.
        classes: The names of the classes, in the order of the labels.
        threads: Images that are read at once.
    """

    place: str
    train: EncodedSplit
    test: EncodedSplit | None
    classes: tuple[str, ...]
    threads: int = os.cpu_count() or 1


@dataclass(frozen=True)
class _DecodedImage:
    pixels: Pixels
    conversions: tuple[str, ...]
    digest: bytes


def warn(report: Report, place: str, warning: str) -> None:
    """Report a warning about the images in a folder or a data set."""
    report(Progress(f"images in {printable(place)}", 0, 0, warning=printable(warning)))


def decode_dataset(dataset: EncodedDataset, config: DatasetConfig, report: Report) -> DecodedDataset:
    """Decode all images, several at once.

    Without a test split, `config.test_fraction` of each class is held out. See `is_test`.

    Args:
        dataset: The images.
        config: The size and channels to decode to.
        report: Called with the progress, and with one warning for each kind of conversion.

    Raises:
        InputError: If an image cannot be decoded.
    """
    splits = [split for split in (dataset.train, dataset.test) if split is not None]
    conversions, total = ConversionCounts(), sum(len(split.labels) for split in splits)
    arrays, digests = list[ImageArrays](), list[bytes]()
    for split in splits:
        done = sum(map(len, arrays))
        images = np.empty((len(split.labels), config.image_size, config.image_size, config.in_chans), np.uint8)
        with ThreadPoolExecutor(dataset.threads) as pool, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of damaged metadata without naming the file
            for index, image in enumerate(pool.map(_reader(split, config), range(len(images)))):
                images[index] = image.pixels
                digests.append(image.digest)
                conversions.add(image.conversions, split.name_of(index).removeprefix(f"{dataset.place}/"))
                if (done + index + 1) % IMAGES_PER_REPORT == 0 or done + index + 1 == total:
                    report(Progress("decoding images", done + index + 1, total))
        arrays.append(ImageArrays(images, np.array(split.labels, np.int64)))
    for line in conversions.lines(total):
        warn(report, dataset.place, line)
    if config.test_fraction is not None:
        is_held_out = is_test(arrays[0].labels, digests, config.test_fraction, dataset.classes)
        arrays = [arrays[0].take(np.flatnonzero(mask)) for mask in (~is_held_out, is_held_out)]
    return DecodedDataset(arrays[0], arrays[1], dataset.classes)


def _reader(split: EncodedSplit, config: DatasetConfig) -> Callable[[int], _DecodedImage]:
    def read(index: int) -> _DecodedImage:
        content = split.read(index)
        digest = b"" if config.test_fraction is None else _digest(content)
        return _DecodedImage(*decode(content, split.name_of(index), config), digest)

    return read


def _digest(content: Content) -> bytes:
    """Return a hash of a file, or of the pixels of an image that does not come from a file."""
    if isinstance(content, Image.Image):
        return hashlib.sha256(f"{content.mode} {content.size} ".encode() + content.tobytes()).digest()
    return hashlib.sha256(content.read_bytes() if isinstance(content, Path) else content).digest()
