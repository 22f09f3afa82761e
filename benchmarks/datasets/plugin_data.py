"""Read the data set that a plugin's data source returns. The function runs in a worker process."""

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from arch.entries import DATA_SOURCES
from arch.errors import InputError
from arch.plugins import describe_error
from arch.text import plural
from benchmarks.datasets.arrays import DecodedDataset
from benchmarks.datasets.listed_files import NEEDS_TEST_FRACTION
from benchmarks.datasets.torchvision_data import decode_samples
from benchmarks.definition.benchmark import DatasetConfig
from benchmarks.execution.progress import Report

IMAGE_DIMENSIONS = (3, 4)  # (n, height, width) or (n, height, width, channels)


class ArraySamples(Sequence[Any]):
    """Images and labels in arrays, as a data set that yields pairs of a Pillow image and a class."""

    def __init__(self, images: Any, labels: Any) -> None:
        """Raise ValueError unless there is one uint8 image per label."""
        self.images, self.targets = np.asarray(images), np.asarray(labels).tolist()
        if self.images.dtype != np.uint8 or self.images.ndim not in IMAGE_DIMENSIONS:
            shape = f"{self.images.dtype} {self.images.shape}"
            raise ValueError(f"images must be a uint8 array (n, height, width[, channels]), not {shape}")
        if len(self.images) != len(self.targets):
            raise ValueError(f"{plural(len(self.images), 'image')}, but {plural(len(self.targets), 'label')}")

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: Any) -> Any:
        image = self.images[index]
        return Image.fromarray(image[..., 0] if image.shape[2:] == (1,) else image), self.targets[index]


def read_plugin(config: DatasetConfig, root: Path | None, report: Report) -> DecodedDataset:
    """Call the data source and decode its images to the size and channels of a benchmark.

    Args:
        config: The name of the source, and the size and channels to decode to.
        root: The folder of --data, which is passed to the function if it has a parameter.
        report: Called with the progress and with warnings.

    Raises:
        InputError: If the function raises an error or returns something else than training and test images.
    """
    load, where = DATA_SOURCES[config.source].load, f"data source {config.source!r}"
    try:
        returned = load(root) if inspect.signature(load).parameters else load()
        train, test = (None if split is None else _samples(split) for split in returned)
    except Exception as error:
        raise InputError(f"{where}: {describe_error(error)}; it must return (train, test)") from error
    if train is None:
        raise InputError(f"{where} returns no training images")
    if test is None and config.test_fraction is None:
        raise InputError(f"{where} returns no test images: {NEEDS_TEST_FRACTION}")
    if test is not None and config.test_fraction is not None:
        raise InputError(f"{where} returns test images: remove test_fraction from [data]")
    return decode_samples(where, (train, test), config, report)


def _samples(split: Any) -> Any:
    """Return a split as a data set that yields pairs of an image and a class."""
    if hasattr(split, "dtype"):
        raise TypeError("an array instead of training or test images with their labels")
    is_pair = isinstance(split, tuple | list) and len(split) == 2 and hasattr(split[0], "dtype")
    return ArraySamples(*split) if is_pair else split
