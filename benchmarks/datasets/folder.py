"""Image folders: train/<class>/ and test/<class>/, or Tiny ImageNet as published."""

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from arch.errors import InputError
from benchmarks.datasets.arrays import DecodedDataset, ImageArrays
from benchmarks.definition.benchmark import DatasetConfig
from benchmarks.execution.progress import Progress, Report

IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm"}
ANNOTATIONS = Path("val", "val_annotations.txt")  # labels of Tiny ImageNet's val/, used as its test split
IMAGES_PER_REPORT = 500

FolderFiles = dict[str, dict[str, list[Path]]]  # split -> class -> image files


def is_image_folder(root: Path) -> bool:
    """Return whether a folder contains train/, and either test/ or Tiny ImageNet's list of labels."""
    return (root / "train").is_dir() and ((root / "test").is_dir() or (root / ANNOTATIONS).is_file())


def list_folder(root: Path, config: DatasetConfig) -> FolderFiles:
    """List the image files in root/train/<class>/ and root/test/<class>/.

    Tiny ImageNet publishes no labels for test/. Its val/, with a list of labels, is used in place of test/.

    Raises:
        InputError: If a split does not have the benchmark's number of classes, the class names differ between the
            splits, or a class is empty.
    """
    test_split = "test"
    if (root / ANNOTATIONS).is_file() and len(_class_folders(root / "test")) < 2:
        test_split = "val"
    files = {"train": _files_by_class(root / "train")}
    files["test"] = _files_by_class(root / "test") if test_split == "test" else _annotated_files(root / ANNOTATIONS)
    unmatched = sorted(files["train"].keys() ^ files["test"].keys())
    if unmatched:
        split = "train" if unmatched[0] in files["train"] else test_split
        raise InputError(
            f"class names differ between train/ and {test_split}/ of {root}: {unmatched[0]!r} is only in {split}/"
        )
    if len(files["train"]) != config.num_classes:
        raise InputError(f"{root} has {len(files['train'])} classes, but this benchmark has {config.num_classes}")
    return files


def folder_key(root: Path, config: DatasetConfig, files: FolderFiles) -> str:
    """Return the cache key of a folder.

    The key changes when a file is added, removed, rewritten or moved to another class, or when images are decoded to
    a different size or number of channels.

    Raises:
        InputError: If a file cannot be read.
    """
    digest = hashlib.sha256(f"{root.resolve()} {config.image_size} {config.in_chans}".encode(errors="surrogateescape"))
    paths = ((path, name) for classes in files.values() for name, paths in classes.items() for path in paths)
    for path, name in paths:
        try:
            status = path.stat()
        except OSError as error:
            raise InputError(f"cannot read image {path}: {error.strerror or error}") from error
        # a program can restore the modification time of a file that it rewrites, but not the change time (ctime)
        stamp = f"{path} {name} {status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}"
        digest.update(stamp.encode(errors="surrogateescape"))
    return f"folder-{digest.hexdigest()[:16]}"


def read_folder(files: FolderFiles, config: DatasetConfig, report: Report) -> DecodedDataset:
    """Decode all image files, in one thread per core.

    Raises:
        InputError: If a file cannot be decoded.
    """
    total = sum(len(paths) for classes in files.values() for paths in classes.values())
    done = 0
    splits = []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for classes in files.values():
            samples = [(path, label) for label, paths in enumerate(classes.values()) for path in paths]
            images = np.empty((len(samples), config.image_size, config.image_size, config.in_chans), np.uint8)
            for index, image in enumerate(pool.map(lambda sample: _decode(sample[0], config), samples)):
                images[index] = image
                done += 1
                if done % IMAGES_PER_REPORT == 0 or done == total:
                    report(Progress("decoding images", done, total))
            splits.append(ImageArrays(images, np.array([label for _, label in samples])))
    return DecodedDataset(splits[0], splits[1], tuple(files["train"]))


def _class_folders(split: Path) -> list[Path]:
    if not split.is_dir():
        return []
    return sorted(folder for folder in split.iterdir() if folder.is_dir() and not folder.name.startswith("."))


def _files_by_class(split: Path) -> dict[str, list[Path]]:
    folders = _class_folders(split)
    undecodable = next((folder for folder in folders if not _is_utf8(folder.name)), None)
    if undecodable is not None:
        raise InputError(f"the class folder {undecodable.name!r} in {split} has a name that is not UTF-8")
    if len(folders) < 2:
        raise InputError(f"at least 2 class folders are needed, but {split} has {len(folders)}")
    files = {folder.name: _image_files(folder) for folder in folders}
    empty = [name for name, paths in files.items() if not paths]
    if empty:
        raise InputError(f"{split / empty[0]} contains no images ({', '.join(sorted(IMAGE_SUFFIXES))})")
    return files


def _annotated_files(annotations: Path) -> dict[str, list[Path]]:
    """Read a tab-separated list of the files in the images/ folder next to it; each line is `name, class, box`."""
    try:
        rows = [line.split("\t") for line in annotations.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read {annotations}: {getattr(error, 'strerror', None) or error}") from error
    files: dict[str, list[Path]] = {}
    for number, row in enumerate(rows, 1):
        if len(row) < 2 or Path(row[0]).suffix.lower() not in IMAGE_SUFFIXES or not row[0].isprintable():
            raise InputError(f"{annotations}, line {number}: expected an image's name, a tab and its class")
        files.setdefault(row[1], []).append(annotations.parent / "images" / row[0])
    return {name: sorted(files[name]) for name in sorted(files)}


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _image_files(folder: Path) -> list[Path]:
    """List the image files at any depth, except hidden files and files in hidden folders."""
    paths = (path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES and _is_file_or_link(path))
    return sorted(path for path in paths if not any(p.startswith(".") for p in path.relative_to(folder).parts))


def _is_file_or_link(path: Path) -> bool:
    """Return False for special files, such as a named pipe, which would block the reader forever."""
    return path.is_file() or path.is_symlink()


def _decode(path: Path, config: DatasetConfig) -> NDArray[np.uint8]:
    """Decode an image to (size, size, channels).

    An image of another size is resized so that its shorter side has `size` pixels, and then center-cropped.
    """
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as file:
            is_16_bit = file.mode.startswith("I;16")  # gray; Pillow would clip it to 8 bits instead of scaling it
            source = Image.fromarray((np.asarray(file) // 257).astype(np.uint8)) if is_16_bit else file
            image = source.convert("RGB" if config.in_chans == 3 else "L")
    except (OSError, SyntaxError, ValueError, NotImplementedError, Image.DecompressionBombError) as error:
        raise InputError(f"cannot read image {path}: {error}") from error
    if image.size != (config.image_size, config.image_size):
        image = ImageOps.fit(image, (config.image_size, config.image_size), Image.Resampling.BICUBIC)
    pixels = np.asarray(image, np.uint8)
    return pixels[..., None] if config.in_chans == 1 else pixels
