"""The image files of a data set by class, as an image folder or a CSV file lists them, and what is wrong with them."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from arch.errors import InputError
from arch.text import plural
from benchmarks.datasets.decode_splits import warn
from benchmarks.datasets.image_files import IMAGE_SUFFIXES
from benchmarks.definition.benchmark import DatasetConfig
from benchmarks.execution.progress import Report

ClassFiles = dict[str, list[Path]]  # class -> image files
NEEDS_TEST_FRACTION = "add one, or set test_fraction = 0.2 in [data] of the benchmark's TOML file to hold out images"


@dataclass(frozen=True)
class ListedFiles:
    """The image files of a data set, before they are decoded.

    Attributes:
        root: The image folder or the CSV file.
        train: The training images; all images if there is no test split.
        test: The test images; None if there is no test split.
        split_folders: The folders of the splits; the root of a CSV file.
        skipped: Files in class folders that are not images.
        notes: What a user should know about how the files were found.
    """

    root: Path
    train: ClassFiles
    test: ClassFiles | None
    split_folders: tuple[Path, ...]
    skipped: tuple[Path, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def splits(self) -> tuple[ClassFiles, ...]:
        """The splits that exist: train, and test."""
        return (self.train,) if self.test is None else (self.train, self.test)

    @property
    def split_names(self) -> tuple[str, ...]:
        """The names of the splits for messages."""
        if self.root.is_file():
            return ("the training rows", "the test rows")[: len(self.splits)]
        return tuple(f"{folder.name}/" for folder in self.split_folders)

    def relative(self, path: Path) -> str:
        """Return the path of a file relative to the folder, for messages."""
        folder = self.root.parent if self.root.is_file() else self.root
        return str(path.relative_to(folder) if path.is_relative_to(folder) else path)


def check_files(files: ListedFiles, config: DatasetConfig, report: Report) -> None:
    """Check that image files fit a benchmark, and report the notes and the skipped files as warnings.

    Raises:
        InputError: If the files have a problem, the wrong number of classes or no test split, or `test_fraction` is
            set although there is one.
    """
    for problem in problems(files):
        raise InputError(problem)
    if files.test is None and config.test_fraction is None:
        raise InputError("; ".join([f"{files.root} has no test split: {NEEDS_TEST_FRACTION}", *files.notes]))
    if files.test is not None and config.test_fraction is not None:
        raise InputError(f"{files.root} has a test split ({files.split_names[1]}): remove test_fraction from [data]")
    if len(files.train) != config.num_classes:
        classes = plural(len(files.train), "class", "classes")
        raise InputError(f"{files.root} has {classes}, but this benchmark has {config.num_classes}")
    for note in (*files.notes, *describe_skipped(files)):
        warn(report, str(files.root), note)


def problems(files: ListedFiles) -> Iterator[str]:
    """Yield a line for each reason why files cannot be used in any benchmark."""
    for classes, folder in zip(files.splits, files.split_folders, strict=True):
        for name in classes:
            if not _is_utf8(name):
                yield f"the class folder {name!r} in {folder} has a name that is not UTF-8"
        if classes is files.train and len(classes) < 2:  # the test split must have the same classes
            noun = "classes" if folder.is_file() else "class folders"
            yield f"at least 2 {noun} are needed, but {folder} has {len(classes)}"
        for name, paths in classes.items():
            if not paths:
                others = [path for path in files.skipped if folder / name in path.parents]
                only = f", only {count_suffixes(others)}" if others else ""
                yield f"{folder / name} contains no images ({', '.join(sorted(IMAGE_SUFFIXES))}){only}"
    if files.test is None:
        return
    names = files.split_names
    for unmatched in sorted(files.train.keys() ^ files.test.keys()):
        place = names[0] if unmatched in files.train else names[1]
        yield f"class names differ between {names[0]} and {names[1]} of {files.root}: {unmatched!r} is only in {place}"


def describe_skipped(files: ListedFiles) -> list[str]:
    """Return a line on the files that are skipped; no line if there are none."""
    count = len(files.skipped)
    if not count:
        return []
    nouns, are, their = ("files", "are", "their") if count > 1 else ("file", "is", "its")
    return [
        f"{count:,} {nouns} in the class folders {are} skipped because {their} format is not supported "
        f"({count_suffixes(files.skipped)}), such as {files.relative(files.skipped[0])}"
    ]


def count_suffixes(paths: Sequence[Path]) -> str:
    """Return how many files have each suffix, such as "2 .heic, 1 without suffix"."""
    counts = Counter(path.suffix.lower() or "without suffix" for path in paths)
    return ", ".join(f"{count:,} {suffix}" for suffix, count in counts.most_common(5))


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
