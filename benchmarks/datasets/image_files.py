"""Find the image files below a class folder."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from arch.errors import InputError

# The suffixes of the formats in `benchmarks.datasets.decode`.
IMAGE_SUFFIXES = {
    *(".avif", ".gif", ".webp", ".bmp", ".dib", ".png", ".apng", ".tga", ".tif", ".tiff"),
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".jp2", ".j2k", ".jpx"),
    *(".pbm", ".pfm", ".pgm", ".pnm", ".ppm"),
}
# Files that are expected beside images: those that Windows creates, and the bounding boxes of Tiny ImageNet.
COMPANION_FILES = ("thumbs.db", "desktop.ini", "_boxes.txt")


@dataclass(frozen=True)
class FoundFiles:
    """The files below a folder, sorted by path.

    Attributes:
        images: Files with the suffix of an image format that is decoded.
        skipped: All other files, except hidden files and `COMPANION_FILES`.
    """

    images: list[Path] = field(default_factory=list)
    skipped: list[Path] = field(default_factory=list)


def subfolders(folder: Path) -> list[Path]:
    """Return the subfolders of a folder, sorted by name, except hidden ones. Links to folders count as folders.

    Raises:
        InputError: If the folder cannot be read.
    """
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith(".") and path.is_dir())
    except OSError as error:
        raise _unreadable(error) from error


def find_files(folder: Path) -> FoundFiles:
    """Find the files at any depth, except hidden files and files in hidden folders.

    Links to folders are followed. Each folder is read once, even if several links lead to it; links to a folder that
    contains `folder` are not followed. The search therefore ends although links may form loops.

    Raises:
        InputError: If a folder cannot be read.
    """
    found = FoundFiles()
    for path in _walk(folder):
        (found.images if is_image_name(path.name) else found.skipped).append(path)
    return FoundFiles(sorted(found.images), sorted(found.skipped))


def contains_images(folder: Path) -> bool:
    """Return whether there is an image file at any depth. See `find_files`."""
    return any(is_image_name(path.name) for path in _walk(folder))


def is_image_name(name: str) -> bool:
    """Return whether a file has the suffix of an image format that is decoded."""
    return Path(name).suffix.lower() in IMAGE_SUFFIXES


def _walk(folder: Path) -> Iterator[Path]:
    try:
        visited = {_identity(parent) for path in (folder.absolute(), folder.resolve()) for parent in path.parents}
        for current, names, files in os.walk(folder, followlinks=True, onerror=_raise):
            identity = _identity(current)
            if identity in visited:
                names.clear()
                continue
            visited.add(identity)
            names[:] = sorted(name for name in names if not name.startswith("."))
            for name in files:
                if not name.startswith(".") and not name.lower().endswith(COMPANION_FILES):
                    yield Path(current, name)
    except OSError as error:
        raise _unreadable(error) from error


def _identity(folder: str | Path) -> tuple[int, int]:
    status = os.stat(folder)
    return status.st_dev, status.st_ino


def _raise(error: OSError) -> None:
    raise error


def _unreadable(error: OSError) -> InputError:
    return InputError(f"cannot read the folder {error.filename}: {error.strerror or error}")
