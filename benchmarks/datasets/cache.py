"""The cache of decoded data sets on disk."""

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal

import numpy as np
from filelock import FileLock
from platformdirs import user_cache_path

from arch.errors import InputError
from benchmarks.datasets.arrays import DecodedDataset, ImageArrays, sort_images
from benchmarks.datasets.subsets import (
    ALL_IMAGES,
    first_of_each_class,
    fraction_of_each_class,
    is_validation,
    split_validation,
)
from benchmarks.definition.benchmark import DatasetConfig, Split

CACHE_FORMAT = 4  # increase whenever the cached arrays change


@dataclass(frozen=True)
class CachedDataset:
    """A decoded data set on disk. Only `load` reads the images.

    Attributes:
        folder: The cache folder of the data set.
        classes: The names of the classes, in the order of the labels.
        fingerprint: A hash of every image and label of both splits.
        input_shape: (channels, height, width) of an image.
        digests: The hash of the images and labels of each split.
    """

    folder: Path
    classes: tuple[str, ...]
    fingerprint: str
    input_shape: tuple[int, ...]
    digests: dict[str, str]

    def counts(self, config: DatasetConfig, fraction: Fraction = ALL_IMAGES, split: Split = "test") -> tuple[int, int]:
        """Return the numbers of images to train on and to evaluate on. See `load` for the arguments and errors."""
        limits = {"train": config.train_per_class, "test": config.test_per_class}
        try:
            labels = {split: np.load(self.folder / f"{split}_labels.npy") for split in limits}
            train, test = (labels[split][first_of_each_class(labels[split], limit)] for split, limit in limits.items())
        except (OSError, ValueError, EOFError, IndexError, TypeError) as error:
            raise self._damaged() from error
        if split == "val":
            is_val = is_validation(train, config.val_fraction)
            train, test = train[~is_val], train[is_val]
        return len(fraction_of_each_class(train, fraction)), len(test)

    def load(
        self, config: DatasetConfig, split: Split, fraction: Fraction = ALL_IMAGES, seed: int | None = None
    ) -> tuple[ImageArrays, ImageArrays]:
        """Return the images to train on and the images to evaluate on.

        Args:
            config: The limits on the images of each class, and the size of the validation split.
            split: "test" returns all training images and all test images. "val" splits the training images
                into a training and a validation part and returns both; the test images are not read.
            fraction: The fraction of each class's training images to use, without those of the validation split, so
                that all fractions are evaluated on the same images. A smaller subset is contained in a larger one with
                the same seed.
            seed: Draws the fraction. None uses the first images of each class.

        Raises:
            InputError: If the cache is damaged or missing, or a class has too few images for a validation split.
        """
        train = self._open("train")
        train = train.take(first_of_each_class(train.labels, config.train_per_class))
        if split == "test":
            evaluation = self.load_evaluation(config, "test")
        else:
            train, evaluation = split_validation(train, config.val_fraction)
        return train.take(fraction_of_each_class(train.labels, fraction, seed)), evaluation

    def load_evaluation(self, config: DatasetConfig, split: Split) -> ImageArrays:
        """Return the images to evaluate on, without reading the training images if it is the test split.

        See `load` for the arguments and errors.
        """
        if split == "val":
            return self.load(config, "val")[1]
        test = self._open("test")
        return test.take(first_of_each_class(test.labels, config.test_per_class))

    def _open(self, split: Literal["train", "test"]) -> ImageArrays:
        """Read a split and verify its hash, because a damaged cache must not change results.

        The images are memory-mapped, so that all processes on a computer share one copy.
        """
        try:
            images = np.load(self.folder / f"{split}_images.npy", mmap_mode="c")
            labels = np.load(self.folder / f"{split}_labels.npy")
            arrays = ImageArrays(images, labels)
            if arrays.digest() == self.digests[split]:
                return arrays
        except (OSError, ValueError, EOFError):
            pass
        raise self._damaged()

    def _damaged(self) -> InputError:
        if not self.folder.exists():
            return InputError(
                f"the cached images in {self.folder} were deleted: repeat the command to decode them again"
            )
        return InputError(f"the cached images in {self.folder} are damaged: delete the folder and repeat the command")


def open_or_decode(key: str, decode: Callable[[], DecodedDataset], root: Path | None = None) -> CachedDataset:
    """Open a cached data set; if it does not exist yet, decode it first.

    Several processes may call this at once: the first one decodes, and the others wait for it.

    Args:
        key: The name of the cache folder.
        decode: Returns the decoded data set.
        root: The folder of the cache; None: the user's.

    Raises:
        InputError: If the cache cannot be written.
    """
    root = root or cache_root()
    folder = root / key
    try:
        root.mkdir(parents=True, exist_ok=True)
        with FileLock(root / f"{key}.lock"):
            if not _is_complete(folder):
                _write_cache(folder, decode())
    except OSError as error:
        raise InputError(
            f"cannot cache decoded images in {root}: {error.strerror or error}; set XDG_CACHE_HOME to another folder"
        ) from error
    return _open_folder(folder)


def find_cached(fingerprint: str) -> CachedDataset | None:
    """Return the decoded data set with this fingerprint, wherever its images came from; None if none is cached."""
    folders = [folder for folder in sorted(cache_root().glob("*")) if _is_complete(folder)]
    return next((data for data in map(_open_folder, folders) if data.fingerprint == fingerprint), None)


def _open_folder(folder: Path) -> CachedDataset:
    meta = json.loads((folder / "meta.json").read_text())
    fingerprint = hashlib.sha256("".join(meta["digests"].values()).encode()).hexdigest()[:16]
    return CachedDataset(folder, tuple(meta["classes"]), fingerprint, tuple(meta["input_shape"]), meta["digests"])


def is_cached(key: str) -> bool:
    """Return whether a data set is decoded already."""
    return _is_complete(cache_root() / key)


def cache_root() -> Path:
    """Return the folder of the user's cache. A worker process may have another environment, and so another folder."""
    return user_cache_path("timm-ablate") / f"data-{CACHE_FORMAT}"


def _is_complete(folder: Path) -> bool:
    names = [f"{split}_{kind}.npy" for split in ("train", "test") for kind in ("images", "labels")]
    try:
        meta = json.loads((folder / "meta.json").read_text())
        if not meta.keys() >= {"classes", "digests", "input_shape"} or meta["digests"].keys() != {"train", "test"}:
            return False
    except (OSError, ValueError, AttributeError):
        return False
    return all((folder / name).exists() for name in names)


def _write_cache(folder: Path, decoded: DecodedDataset) -> None:
    """Write the sorted arrays next to `folder`, then rename them, so that the cache is complete or absent."""
    splits = {"train": sort_images(decoded.train), "test": sort_images(decoded.test)}
    temporary = Path(tempfile.mkdtemp(dir=folder.parent))
    try:
        for split, arrays in splits.items():
            np.save(temporary / f"{split}_images.npy", arrays.images)
            np.save(temporary / f"{split}_labels.npy", arrays.labels)
        digests = {split: arrays.digest() for split, arrays in splits.items()}
        height, width, channels = decoded.train.images.shape[1:]
        meta = {"classes": decoded.classes, "digests": digests, "input_shape": (channels, height, width)}
        (temporary / "meta.json").write_text(json.dumps(meta))
        shutil.rmtree(folder, ignore_errors=True)
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
