"""The place of a data set, checked before anything is read. This module imports nothing slow."""

from collections.abc import Callable
from pathlib import Path

from arch.errors import InputError
from benchmarks.datasets.csv_file import is_csv_file
from benchmarks.datasets.folder_layout import is_image_folder
from benchmarks.datasets.huggingface import require_datasets
from benchmarks.definition.benchmark import DatasetConfig
from benchmarks.definition.data_sources import split_source

HAS_TEST_SPLIT = ("digits", "cifar10", "cifar100")
DOWNLOADED_TO_ROOT = ("cifar10", "cifar100", "torchvision/")


def check_root(config: DatasetConfig, root: Path | None, download: bool = False) -> None:
    """Check the place of a data set without reading it, and create the folder if the images will be downloaded to it.

    See `benchmarks.datasets.prepare.prepare_dataset` for the arguments.

    Raises:
        InputError: If the folder or CSV file is missing or does not have the layout of the data set, or fields of
            `config` contradict each other.
    """
    kind, _ = split_source(config.source)
    if root is not None and is_csv_file(root):
        if not _exists(root, Path.is_file):
            raise InputError(f"--data {root} is not a file")
        return
    if root is not None and download and kind in DOWNLOADED_TO_ROOT:
        _create_folder(root)
    if root is not None and not _exists(root, Path.is_dir):
        raise InputError(f"--data {root} is not a folder (or a CSV file, whose name ends with .csv)")
    _check_columns(config, kind)
    if root is not None and is_image_folder(root, config):
        return
    _check_source(config, kind, root)


def _check_columns(config: DatasetConfig, kind: str) -> None:
    if kind not in ("hf", "hf/") and (config.image_column or config.label_column):
        raise InputError("image_column and label_column need a CSV file (--data FILE.csv) or a source of type hf")


def _check_source(config: DatasetConfig, kind: str, root: Path | None) -> None:
    if kind == "folder":
        problem = "pass --data DIR" if root is None else f"--data {root} does not contain them"
        raise InputError(f"this benchmark reads an image folder with train/<class>/ and test/<class>/: {problem}")
    if kind == "digits" and root is not None:
        raise InputError(f"--data {root} has no train/ and test/ folders; digits needs no --data")
    if kind in HAS_TEST_SPLIT and config.test_fraction is not None:
        raise InputError(f"{config.source} has a test split: remove test_fraction from [data]")
    if kind in ("hf", "hf/"):
        require_datasets()
    if kind == "hf" and root is None:
        raise InputError("the source hf reads a local copy of a data set: pass --data DIR, or use hf/NAME")


def _create_folder(path: Path) -> None:
    """Create a folder unless the path exists already."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        return
    except OSError as error:
        raise InputError(f"cannot create --data {path}: {error.strerror or error}") from error


def _exists(path: Path, is_kind: Callable[[Path], bool]) -> bool:
    try:
        return is_kind(path)
    except OSError:  # the name is too long for the file system
        return False
