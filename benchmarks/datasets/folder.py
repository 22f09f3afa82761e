"""Decode all images of a folder, and identify the folder in the cache."""

import hashlib
import os
import stat
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from arch.errors import InputError
from benchmarks.datasets.arrays import DecodedDataset, ImageArrays
from benchmarks.datasets.decode import DECODER_VERSION, decode_image
from benchmarks.datasets.folder_layout import ImageFolder, warn
from benchmarks.definition.benchmark import DatasetConfig
from benchmarks.execution.progress import Progress, Report

IMAGES_PER_REPORT = 500


def folder_key(folder: ImageFolder, config: DatasetConfig) -> str:
    """Return the cache key of a folder.

    The key changes when a file is added, removed, rewritten or moved to another class, and when images are decoded to
    a different size or number of channels, or by another version of the decoder.

    Raises:
        InputError: If a file cannot be read. Special files, such as a named pipe, would block the reader forever.
    """
    settings = f"{folder.root.resolve()} {config.image_size} {config.in_chans} {DECODER_VERSION}"
    digest = hashlib.sha256(settings.encode(errors="surrogateescape"))
    paths = ((path, name) for classes in folder.splits for name, paths in classes.items() for path in paths)
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


def read_folder(folder: ImageFolder, config: DatasetConfig, report: Report) -> DecodedDataset:
    """Decode all image files, in one thread per core.

    Args:
        folder: The image files.
        config: The size and channels to decode to.
        report: Called with the progress, and with a warning if images are resized.

    Raises:
        InputError: If a file cannot be decoded.
    """
    total, done, num_resized = len(folder), 0, 0
    splits = []
    with ThreadPoolExecutor(os.cpu_count()) as pool, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of damaged metadata and large images without naming the file
        for classes in folder.splits:
            samples = [(path, label) for label, paths in enumerate(classes.values()) for path in paths]
            images = np.empty((len(samples), config.image_size, config.image_size, config.in_chans), np.uint8)
            decoded = pool.map(lambda sample: decode_image(sample[0], config), samples)
            for index, (image, is_resized) in enumerate(decoded):
                images[index] = image
                num_resized += is_resized
                done += 1
                if done % IMAGES_PER_REPORT == 0 or done == total:
                    report(Progress("decoding images", done, total))
            splits.append(ImageArrays(images, np.array([label for _, label in samples])))
    if num_resized:
        size = config.image_size
        warn(
            report,
            folder.root,
            f"{num_resized:,} of {total:,} images were not {size} x {size} px: they were resized to {size} px on the "
            "shorter side and center-cropped",
        )
    return DecodedDataset(splits[0], splits[1], tuple(folder.train))
