"""The folder of a data set, checked before anything is read. This module imports nothing slow."""

from pathlib import Path

from arch.errors import InputError
from benchmarks.datasets.folder_layout import is_image_folder
from benchmarks.definition.benchmark import DatasetConfig


def check_root(config: DatasetConfig, root: Path | None, download: bool = False) -> None:
    """Check the folder of a data set without reading it, and create it if the images will be downloaded to it.

    See `benchmarks.datasets.prepare.prepare_dataset` for the arguments.

    Raises:
        InputError: If the folder is missing or does not have the layout of the data set.
    """
    if root is not None and download and config.source in ("cifar10", "cifar100"):
        _create_folder(root)
    if root is not None and not _is_folder(root):
        raise InputError(f"--data {root} is not a folder")
    if root is not None and is_image_folder(root):
        return
    if config.source == "folder":
        problem = "pass --data DIR" if root is None else f"--data {root} does not contain them"
        raise InputError(f"this benchmark reads an image folder with train/<class>/ and test/<class>/: {problem}")
    if config.source == "digits" and root is not None:
        raise InputError(f"--data {root} has no train/ and test/ folders; digits needs no --data")


def _create_folder(path: Path) -> None:
    """Create a folder unless the path exists already."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        return
    except OSError as error:
        raise InputError(f"cannot create --data {path}: {error.strerror or error}") from error


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # the name is too long for the file system
        return False
