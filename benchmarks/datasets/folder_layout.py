"""List the files of an image folder: train/<class>/ and test/<class>/, <class>/, or Tiny ImageNet as published."""

from dataclasses import dataclass
from pathlib import Path

from arch.errors import InputError
from benchmarks.datasets.image_files import contains_images, find_files, subfolders
from benchmarks.datasets.listed_files import ClassFiles, ListedFiles
from benchmarks.datasets.tiny_imagenet import annotated_images, has_annotated_images
from benchmarks.definition.benchmark import DatasetConfig

TRAIN_NAMES = ("train", "training")
TEST_NAMES = ("test", "testing")
VAL_NAMES = ("val", "valid", "validation")


@dataclass(frozen=True)
class _SplitFolders:
    """The folders of the splits. Without split folders, `train` is the image folder itself."""

    train: Path
    test: Path | None
    notes: tuple[str, ...] = ()


def is_image_folder(root: Path, config: DatasetConfig) -> bool:
    """Return whether a folder contains the images of a benchmark by class.

    A folder without a test split counts only if the benchmark reads nothing else than image folders, or sets
    `test_fraction`: the folder of another data set may contain folders that only look like classes.

    Raises:
        InputError: If the folder cannot be read.
    """
    train = _split_folder(root, TRAIN_NAMES)
    if train is not None and _choose_test_split(root, train).test is not None:
        return True
    if config.source == "folder":
        return _find_split_folders(root) is not None
    return config.test_fraction is not None and _has_classes(train or root) and _find_split_folders(root) is not None


def list_folder(root: Path) -> ListedFiles:
    """List the image files in root/train/<class>/ and root/test/<class>/, or in root/<class>/.

    If test/ has no classes, val/ is used in its place: Tiny ImageNet publishes no labels for test/, but a list of
    labels for val/, and other data sets have val/<class>/. See `listed_files.problems` for what may be wrong.

    Args:
        root: The image folder.

    Raises:
        InputError: If a folder cannot be read, or contains neither split folders nor class folders.
    """
    folders = _find_split_folders(root)
    if folders is None:
        raise InputError(f"{root} contains neither train/<class>/ nor at least 2 class folders with images")
    skipped: list[Path] = []
    train = _files_by_class(folders.train, skipped)
    if folders.test is None:
        return ListedFiles(root, train, None, (folders.train,), tuple(skipped), folders.notes)
    is_annotated = folders.test.name == "val" and has_annotated_images(root)
    test = annotated_images(root) if is_annotated else _files_by_class(folders.test, skipped)
    return ListedFiles(root, train, test, (folders.train, folders.test), tuple(skipped), folders.notes)


def _find_split_folders(root: Path) -> _SplitFolders | None:
    train = _split_folder(root, TRAIN_NAMES)
    if train is not None:
        return _choose_test_split(root, train)
    classes = [folder for folder in subfolders(root) if contains_images(folder)]
    return _SplitFolders(root, None) if len(classes) >= 2 else None


def _split_folder(root: Path, names: tuple[str, ...]) -> Path | None:
    """Return the folder of a split; its name may have capital letters. None if it does not exist."""
    for name in names:
        folders = {folder.name: folder for folder in subfolders(root) if folder.name.lower() == name}
        if len(folders) > 1 and name not in folders:
            raise InputError(f"{root} contains {' and '.join(f'{folder}/' for folder in folders)}: rename one of them")
        if folders:
            return folders.get(name) or next(iter(folders.values()))
    return None


def _choose_test_split(root: Path, train: Path) -> _SplitFolders:
    """Use test/ as the test split, or val/ if test/ has no classes."""
    test, val = _split_folder(root, TEST_NAMES), _split_folder(root, VAL_NAMES)
    if test is not None and _has_classes(test):
        return _SplitFolders(train, test)
    if val is not None and has_annotated_images(root):
        return _SplitFolders(train, val)
    if val is not None and _has_classes(val):
        reason = "there is no test/" if test is None else f"{test.name}/ has no class folders"
        return _SplitFolders(train, val, (f"{val.name}/ is used as the test split, because {reason}",))
    ignored = test or val
    if ignored is None:
        return _SplitFolders(train, None)
    return _SplitFolders(train, None, (f"{ignored.name}/ is ignored, because it has fewer than 2 class folders",))


def _has_classes(split: Path) -> bool:
    return len(subfolders(split)) >= 2


def _files_by_class(split: Path, skipped: list[Path]) -> ClassFiles:
    """Return the image files of each class in a split, and append other files to `skipped`."""
    found = {folder.name: find_files(folder) for folder in subfolders(split)}
    for files in found.values():
        skipped += files.skipped
    return {name: files.images for name, files in found.items()}
