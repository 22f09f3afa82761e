"""The files of Tiny ImageNet besides its images: the labels of val/ and the names of the classes."""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

from arch.errors import InputError
from benchmarks.datasets.image_files import IMAGE_SUFFIXES

ANNOTATIONS = Path("val", "val_annotations.txt")  # labels of val/, which is used as the test split
CLASS_NAMES = "words.txt"


def has_annotated_images(root: Path) -> bool:
    """Return whether val/ contains images in one folder and a list of their labels, as published."""
    return (root / ANNOTATIONS).is_file() and (root / ANNOTATIONS).with_name("images").is_dir()


def annotated_images(root: Path) -> dict[str, list[Path]]:
    """Return the images of each class in val/.

    They are listed in a tab-separated file, each line of which is `name, class, box`.

    Raises:
        InputError: If the file cannot be read.
    """
    annotations = root / ANNOTATIONS
    files: dict[str, list[Path]] = {}
    for number, row in enumerate(_read_rows(annotations), 1):
        if len(row) < 2 or Path(row[0]).suffix.lower() not in IMAGE_SUFFIXES or not row[0].isprintable():
            raise InputError(f"{annotations}, line {number}: expected an image's name, a tab and its class")
        files.setdefault(row[1], []).append(annotations.parent / "images" / row[0])
    return {name: sorted(files[name]) for name in sorted(files)}


def class_names(root: Path, folders: Sequence[str]) -> tuple[str, ...]:
    """Return the names of classes to display, such as "goldfish" for the folder n01443537.

    They are read from words.txt, each line of which is a folder, a tab and synonyms separated by commas; the first
    synonym is used. Classes that share it are told apart by their folders. Without a name, it is that of the folder.

    Args:
        root: The folder that may contain words.txt.
        folders: The names of the class folders.

    Raises:
        InputError: If words.txt cannot be read.
    """
    path = root / CLASS_NAMES
    rows = _read_rows(path, "replace") if path.is_file() else iter(())
    synonyms = {row[0]: row[1].split(",")[0].strip() for row in rows if len(row) == 2}
    names = [synonyms.get(folder) or folder for folder in folders]
    counts = Counter(names)
    distinct = [
        f"{name} ({folder})" if counts[name] > 1 and name != folder else name
        for name, folder in zip(names, folders, strict=True)
    ]
    return tuple(distinct if len(set(distinct)) == len(distinct) else folders)


def _read_rows(path: Path, errors: Literal["strict", "replace"] = "strict") -> Iterator[list[str]]:
    """Read the lines of a tab-separated file, except blank ones."""
    try:
        with path.open(encoding="utf-8", errors=errors) as file:
            for line in file:
                if line.strip():
                    yield line.rstrip("\n").split("\t")
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from error
