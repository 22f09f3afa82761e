"""Examine a data set: read every image once, without a benchmark or under one, and make a `DataReport`."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from arch.text import plural, printable
from benchmarks.datasets.cache import CachedDataset
from benchmarks.datasets.csv_file import is_csv_file, list_csv
from benchmarks.datasets.data_report import DataReport
from benchmarks.datasets.examine_images import Sample, examine_images
from benchmarks.datasets.folder_layout import list_folder
from benchmarks.datasets.listed_files import ListedFiles, describe_skipped, problems
from benchmarks.definition.benchmark import DatasetConfig
from benchmarks.execution.progress import Report

THUMBNAILS_PER_CLASS = 8  # of each split
SPLITS = ("train", "test")
ANY_FOLDER = DatasetConfig("folder", 2)  # names of the columns of a CSV file without a benchmark


def examine_files(root: Path, config: DatasetConfig | None, report: Report) -> DataReport:
    """Examine the images of a folder or a CSV file. Unreadable images are problems, not errors.

    Args:
        root: The image folder or the CSV file.
        config: The benchmark's data set. None: images are examined in their own size and colors.
        report: Called with the progress.

    Raises:
        InputError: If the folder or the CSV file itself cannot be read.
    """
    files = list_csv(root, config or ANY_FOLDER) if is_csv_file(root) else list_folder(root)
    samples = [
        Sample(split, printable(label), printable(files.relative(path)), path, is_shown)
        for split, classes in zip(SPLITS, files.splits, strict=False)
        for label, paths in classes.items()
        for path, is_shown in zip(paths, _shown(len(paths)), strict=True)
    ]
    images = examine_images(samples, config, report)
    return DataReport(
        place=str(root),
        classes=tuple(sorted({printable(label) for classes in files.splits for label in classes})),
        images=images.frame,
        conversions=tuple(images.conversions.lines(len(images.frame))),
        notes=(*files.notes, *describe_skipped(files)),
        problems=(*problems(files), *images.unreadable, *_mismatches(files, config)),
        thumbnails=images.thumbnails,
    )


def examine_dataset(data: CachedDataset, config: DatasetConfig, report: Report) -> DataReport:
    """Examine a decoded data set, such as one of torchvision.

    Args:
        data: The decoded images.
        config: The benchmark's data set.
        report: Called with the progress.

    Raises:
        InputError: If the cache is damaged.
    """
    samples = [sample for split in SPLITS for sample in _decoded_samples(split, data, config)]
    images = examine_images(samples, config, report)
    return DataReport(config.source, data.classes, images.frame, thumbnails=images.thumbnails)


def _decoded_samples(split: str, data: CachedDataset, config: DatasetConfig) -> Iterator[Sample]:
    arrays = data.load(config, "test")[SPLITS.index(split)]
    counts = np.bincount(arrays.labels, minlength=len(data.classes)).tolist()
    shown = [is_shown for count in counts for is_shown in _shown(count)]  # images are sorted by class
    for index, label in enumerate(arrays.labels.tolist()):
        pixels = arrays.images[index, ..., 0] if config.in_chans == 1 else arrays.images[index]
        yield Sample(split, data.classes[label], f"{split} image {index}", pixels, shown[index])


def _shown(count: int) -> list[bool]:
    """Return which images of a class are shown: at most THUMBNAILS_PER_CLASS, at equal distances."""
    shown = set(np.linspace(0, count - 1, min(count, THUMBNAILS_PER_CLASS)).astype(int).tolist())
    return [index in shown for index in range(count)]


def _mismatches(files: ListedFiles, config: DatasetConfig | None) -> Iterator[str]:
    if config is None:
        return
    if len(files.train) != config.num_classes:
        classes = plural(len(files.train), "class", "classes")
        yield f"{files.root} has {classes}, but the benchmark has {config.num_classes}"
    if files.test is None and config.test_fraction is None:
        yield "there is no test split, and the benchmark does not set test_fraction"
    if files.test is not None and config.test_fraction is not None:
        yield "there is a test split, but the benchmark sets test_fraction"
