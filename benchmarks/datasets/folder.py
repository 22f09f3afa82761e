"""Decode all images that an image folder or a CSV file lists, and identify them in the cache."""

import hashlib
import stat

from arch.errors import InputError
from benchmarks.datasets.arrays import DecodedDataset
from benchmarks.datasets.decode import DECODER_VERSION
from benchmarks.datasets.decode_splits import EncodedDataset, EncodedSplit, decode_dataset
from benchmarks.datasets.listed_files import ClassFiles, ListedFiles
from benchmarks.definition.benchmark import DatasetConfig
from benchmarks.execution.progress import Report


def folder_key(files: ListedFiles, config: DatasetConfig) -> str:
    """Return the cache key of image files.

    The key changes when a file is added, removed, rewritten or moved to another class, and when images are decoded to
    a different size or number of channels, or by another version of the decoder.

    Raises:
        InputError: If a file cannot be read. Special files, such as a named pipe, would block the reader forever.
    """
    settings = f"{files.root.resolve()} {config.image_size} {config.in_chans} {DECODER_VERSION}"
    if config.test_fraction is not None:
        settings += f" {config.test_fraction}"
    digest = hashlib.sha256(settings.encode(errors="surrogateescape"))
    paths = ((path, name) for classes in files.splits for name, paths in classes.items() for path in paths)
    for path, name in paths:
        try:
            status = path.stat()
        except OSError as error:
            raise InputError(f"cannot read image {path}: {error.strerror or error}") from error
        if not stat.S_ISREG(status.st_mode):
            raise InputError(f"cannot read image {path}: it is not a regular file")
        # a program can restore the modification time of a file that it rewrites, but not the change time (ctime)
        stamp = f"{path} {name} {status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}"
        digest.update(stamp.encode(errors="surrogateescape"))
    return f"folder-{digest.hexdigest()[:16]}"


def read_folder(files: ListedFiles, config: DatasetConfig, report: Report) -> DecodedDataset:
    """Decode all image files. See `decode_dataset` for the arguments and errors."""
    splits = [_encoded_split(files, classes) for classes in files.splits]
    test = splits[1] if len(splits) == 2 else None
    return decode_dataset(EncodedDataset(str(files.root), splits[0], test, tuple(files.train)), config, report)


def _encoded_split(files: ListedFiles, classes: ClassFiles) -> EncodedSplit:
    samples = [(path, label) for label, paths in enumerate(classes.values()) for path in paths]
    return EncodedSplit(
        labels=[label for _, label in samples],
        read=lambda index: samples[index][0],
        name_of=lambda index: str(samples[index][0]),
    )
