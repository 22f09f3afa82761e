"""Find the images of a benchmark and decode them."""

from dataclasses import replace
from pathlib import Path

from arch.errors import InputError
from benchmarks.datasets.cache import CachedDataset, cache_root, is_cached, open_or_decode
from benchmarks.datasets.cifar import cifar_image_counts
from benchmarks.datasets.root import check_root
from benchmarks.datasets.sources import SourceRequest, find_source
from benchmarks.definition.benchmark import DatasetConfig
from benchmarks.execution.local import LocalExecutor
from benchmarks.execution.progress import Report, silent


def prepare_dataset(
    config: DatasetConfig, root: Path | None, download: bool = False, report: Report = silent
) -> CachedDataset:
    """Return the decoded data set of a benchmark; decode it first if it is not cached.

    Several processes may call this at once.

    Args:
        config: The data set to prepare.
        root: A folder with train/ and test/ (or val/), Tiny ImageNet as published, a CSV file, the folder with
            torchvision's files (default: `data/`), or a local copy of a Hugging Face data set.
        download: Whether to download missing images; `root` is then created if it does not exist.
        report: Called with progress updates during decoding, and with warnings about an image folder.

    Raises:
        InputError: If the images are missing, cannot be read, or do not fit `config`. The message is one line.
    """
    check_root(config, root, download)
    source = find_source(SourceRequest(config, root, download, report))
    if source.needs_torch and not is_cached(source.key):
        request = (config, root, download)
        LocalExecutor().call("benchmarks.datasets.prepare:decode_in_worker", report, request, cache_root())
    dataset = open_or_decode(source.key, source.decode)
    _check_shape(config, dataset)
    return replace(dataset, classes=source.rename_classes(dataset.classes))


def decode_in_worker(report: Report, request: tuple[DatasetConfig, Path | None, bool], cache: Path) -> None:
    """Decode a data set whose source imports torch.

    Args:
        report: See `prepare_dataset`, also for the errors.
        request: The arguments `config`, `root` and `download` of `prepare_dataset`.
        cache: The folder of the cache.
    """
    source = find_source(SourceRequest(*request, report))
    open_or_decode(source.key, source.decode, cache)


def count_images(
    config: DatasetConfig, root: Path | None, download: bool = False, report: Report = silent
) -> tuple[int, int]:
    """Return the numbers of training and test images. CIFAR is not read for this, as its size is known.

    See `prepare_dataset` for the arguments and errors.
    """
    known = cifar_image_counts(config) if root is None else None
    return known or prepare_dataset(config, root, download, report).counts(config)


def _check_shape(config: DatasetConfig, dataset: CachedDataset) -> None:
    """Raise InputError if the number of classes or the image shape of a benchmark differs from the data set's."""
    if (len(dataset.classes), *dataset.input_shape) != (config.num_classes, *config.input_shape):
        channels, size, _ = dataset.input_shape
        actual = f"num_classes = {len(dataset.classes)}, image_size = {size} and in_chans = {channels}"
        stated = f"{config.num_classes}, {config.image_size} and {config.in_chans}"
        raise InputError(f"{config.source} has {actual}, not {stated}; use an image folder for other sizes")
