"""CIFAR-10 and CIFAR-100, read with torchvision."""

from pathlib import Path

import numpy as np

from arch.errors import InputError
from benchmarks.datasets.arrays import DecodedDataset, ImageArrays
from benchmarks.definition.benchmark import DatasetConfig

DEFAULT_ROOT = Path("data")  # where torchvision's files are read from and downloaded to
TRAIN_IMAGES, TEST_IMAGES = 50_000, 10_000  # in both CIFAR-10 and CIFAR-100


def cifar_image_counts(config: DatasetConfig) -> tuple[int, int] | None:
    """Return the numbers of training and test images of CIFAR without reading it; None for other sources."""
    if config.source not in ("cifar10", "cifar100"):
        return None
    limits = config.train_per_class, config.test_per_class
    totals = zip((TRAIN_IMAGES, TEST_IMAGES), limits, strict=True)
    train, test = (min(count, (limit or count) * config.num_classes) for count, limit in totals)
    return train, test


def read_cifar(source: str, root: Path, download: bool) -> DecodedDataset:
    """Read CIFAR-10 or CIFAR-100. torchvision checks the MD5 sum of each file before it opens the file.

    Args:
        source: "cifar10" or "cifar100".
        root: The folder with torchvision's files.
        download: Whether to download missing files to `root`.

    Raises:
        InputError: If the files are missing, or the download failed.
    """
    from torchvision.datasets import CIFAR10, CIFAR100

    dataset_class = {"cifar10": CIFAR10, "cifar100": CIFAR100}[source]
    try:
        train, test = (dataset_class(root, train=is_train, download=download) for is_train in (True, False))
    except (RuntimeError, OSError) as error:
        if download:
            raise InputError(f"downloading {source} to {root} failed: {error}") from error
        alternative = "--data DIR with a folder that contains train/<class>/ and test/<class>/"
        raise InputError(f"{source} is not in {root}: pass --download, or {alternative}") from error
    train_images, test_images = (ImageArrays(split.data, np.array(split.targets)) for split in (train, test))
    return DecodedDataset(train_images, test_images, tuple(train.classes))
