"""Find the images of a benchmark and decode them."""

from dataclasses import replace
from pathlib import Path

from arch.errors import InputError
from benchmarks.datasets.cache import CachedDataset, open_or_decode
from benchmarks.datasets.cifar import DEFAULT_ROOT, cifar_image_counts, read_cifar
from benchmarks.datasets.digits import read_digits
from benchmarks.datasets.folder import folder_key, read_folder
from benchmarks.datasets.folder_layout import is_image_folder, list_folder
from benchmarks.datasets.root import check_root
from benchmarks.datasets.tiny_imagenet import class_names
from benchmarks.definition.benchmark import DatasetConfig
from benchmarks.execution.progress import Report, silent


def prepare_dataset(
    config: DatasetConfig, root: Path | None, download: bool = False, report: Report = silent
) -> CachedDataset:
    """Return the decoded data set of a benchmark; decode it first if it is not cached.

    Several processes may call this at once.

    Args:
        config: The data set to prepare.
        root: A folder with train/ and test/ (or val/), Tiny ImageNet as published, or the folder with torchvision's
            CIFAR files (default: `data/`).
        download: Whether to download CIFAR if it is missing; `root` is then created if it does not exist.
        report: Called with progress updates during decoding, and with warnings about an image folder.

    Raises:
        InputError: If the images are missing, cannot be read, or do not fit `config`. The message is one line.
    """
    check_root(config, root, download)
    if root is not None and is_image_folder(root):
        folder = list_folder(root, config, report)
        dataset = open_or_decode(folder_key(folder, config), lambda: read_folder(folder, config, report))
        return replace(dataset, classes=class_names(root, dataset.classes))
    if config.source == "digits":
        return _check_shape(config, open_or_decode("digits", read_digits))
    cifar_root = root or DEFAULT_ROOT
    return _check_shape(config, open_or_decode(config.source, lambda: read_cifar(config.source, cifar_root, download)))


def count_images(
    config: DatasetConfig, root: Path | None, download: bool = False, report: Report = silent
) -> tuple[int, int]:
    """Return the numbers of training and test images. CIFAR is not read for this, as its size is known.

    See `prepare_dataset` for the arguments and errors.
    """
    known = cifar_image_counts(config) if root is None else None
    return known or prepare_dataset(config, root, download, report).counts(config)


def _check_shape(config: DatasetConfig, dataset: CachedDataset) -> CachedDataset:
    """Raise InputError if the number of classes or the image shape of a benchmark differs from the data set's."""
    if (len(dataset.classes), *dataset.input_shape) != (config.num_classes, *config.input_shape):
        channels, size, _ = dataset.input_shape
        actual = f"num_classes = {len(dataset.classes)}, image_size = {size} and in_chans = {channels}"
        stated = f"{config.num_classes}, {config.image_size} and {config.in_chans}"
        raise InputError(f"{config.source} has {actual}, not {stated}; use an image folder for other sizes")
    return dataset
