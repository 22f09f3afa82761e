"""List the files of an image folder: train/<class>/ and test/<class>/, or Tiny ImageNet as published."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from arch.errors import InputError
from arch.text import printable
from benchmarks.datasets.image_files import IMAGE_SUFFIXES, find_files, subfolders
from benchmarks.datasets.tiny_imagenet import annotated_images, has_annotated_images
from benchmarks.definition.benchmark import DatasetConfig
from benchmarks.execution.progress import Progress, Report

ClassFiles = dict[str, list[Path]]  # class -> image files


@dataclass(frozen=True)
class ImageFolder:
    """The image files of a folder, before they are decoded."""

    root: Path
    train: ClassFiles
    test: ClassFiles

    @property
    def splits(self) -> tuple[ClassFiles, ClassFiles]:
        """The training split and the test split."""
        return self.train, self.test

    def __len__(self) -> int:
        return sum(len(files) for split in self.splits for files in split.values())


def is_image_folder(root: Path) -> bool:
    """Return whether a folder contains train/, and test/ or val/.

    Raises:
        InputError: If the folder cannot be read.
    """
    train, test, val = (_split_folder(root, name) for name in ("train", "test", "val"))
    return train is not None and (test or val) is not None


def list_folder(root: Path, config: DatasetConfig, report: Report) -> ImageFolder:
    """List the image files in root/train/<class>/ and root/test/<class>/.

    If test/ has no classes, val/ is used in its place: Tiny ImageNet publishes no labels for test/, but a list of
    labels for val/, and other data sets have val/<class>/.

    Args:
        root: A folder for which `is_image_folder` is true.
        config: The benchmark's data set.
        report: Called with a warning if val/<class>/ is used as the test split, or files are skipped.

    Raises:
        InputError: If a folder cannot be read, a split does not have the benchmark's number of classes, the class
            names differ between the splits, or a class is empty.
    """
    train, test = _split_folder(root, "train") or root / "train", _find_test_split(root, report)
    skipped: list[Path] = []
    train_files = _files_by_class(train, skipped)
    is_annotated = test.name == "val" and has_annotated_images(root)
    test_files = annotated_images(root) if is_annotated else _files_by_class(test, skipped)
    if skipped:
        warn(report, root, _describe_skipped(root, skipped))
    unmatched = sorted(train_files.keys() ^ test_files.keys())
    if unmatched:
        split = train if unmatched[0] in train_files else test
        raise InputError(
            f"class names differ between {train.name}/ and {test.name}/ of {root}: {unmatched[0]!r} is only in "
            f"{split.name}/"
        )
    if len(train_files) != config.num_classes:
        raise InputError(f"{root} has {len(train_files)} classes, but this benchmark has {config.num_classes}")
    return ImageFolder(root, train_files, test_files)


def warn(report: Report, root: Path, warning: str) -> None:
    """Report a warning about the images in a folder."""
    report(Progress(f"images in {printable(str(root))}", 0, 0, warning=printable(warning)))


def _split_folder(root: Path, name: str) -> Path | None:
    """Return the folder of a split; its name may have capital letters. None if it does not exist."""
    folders = {folder.name: folder for folder in subfolders(root) if folder.name.lower() == name}
    if len(folders) > 1 and name not in folders:
        raise InputError(f"{root} contains {' and '.join(f'{folder}/' for folder in folders)}: rename one of them")
    return folders.get(name) or next(iter(folders.values()), None)


def _find_test_split(root: Path, report: Report) -> Path:
    """Return test/, or val/ if test/ has no classes."""
    test, val = _split_folder(root, "test"), _split_folder(root, "val")
    if val is None or (test is not None and _has_classes(test)):
        return test or root / "test"
    if has_annotated_images(root):
        return val
    if _has_classes(val):
        reason = "there is no test/" if test is None else f"{test.name}/ has no class folders"
        warn(report, root, f"{val.name}/ is used as the test split, because {reason}")
        return val
    return test or val


def _has_classes(split: Path) -> bool:
    return len(subfolders(split)) >= 2


def _files_by_class(split: Path, skipped: list[Path]) -> ClassFiles:
    """Return the image files of each class in a split, and append other files to `skipped`."""
    folders = subfolders(split)
    undecodable = next((folder for folder in folders if not _is_utf8(folder.name)), None)
    if undecodable is not None:
        raise InputError(f"the class folder {undecodable.name!r} in {split} has a name that is not UTF-8")
    if len(folders) < 2:
        raise InputError(f"at least 2 class folders are needed, but {split} has {len(folders)}")
    found = {folder.name: find_files(folder) for folder in folders}
    for name, files in found.items():
        if not files.images:
            others = f", only {_count_suffixes(files.skipped)}" if files.skipped else ""
            raise InputError(f"{split / name} contains no images ({', '.join(sorted(IMAGE_SUFFIXES))}){others}")
        skipped += files.skipped
    return {name: files.images for name, files in found.items()}


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _describe_skipped(root: Path, skipped: Sequence[Path]) -> str:
    files, are, their = ("files", "are", "their") if len(skipped) > 1 else ("file", "is", "its")
    return (
        f"{len(skipped):,} {files} in the class folders {are} skipped because {their} format is not supported "
        f"({_count_suffixes(skipped)}), such as {skipped[0].relative_to(root)}"
    )


def _count_suffixes(paths: Sequence[Path]) -> str:
    counts = Counter(path.suffix.lower() or "without suffix" for path in paths)
    return ", ".join(f"{count:,} {suffix}" for suffix, count in counts.most_common(5))
