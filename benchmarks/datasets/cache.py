"""ImageArrays as uint8 arrays: read once from digits, CIFAR or an image folder, then from a cache on disk.

ImageArrays are kept in an order of their own: by class, then by a hash of their pixels. Every copy of a data set,
however it is stored, so gives the same arrays, the same fingerprint and the same numbers, and the first k images
of a class are a fair sample of it. Knows no torch, except to read torchvision's CIFAR files.
"""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray
from platformdirs import user_cache_path

from arch.errors import InputError
from benchmarks.definition.benchmark import DatasetConfig, Split
from benchmarks.execution.progress import Progress, Report, silent

DEFAULT_ROOT = Path("data")  # where torchvision's files are looked for and downloaded to
CACHE_FORMAT = 4  # raised when the cached arrays change
SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm"}
ORDER_SEED = b"timm-ablate 0"  # the fixed seed of the order within a class, and so of subsets and validation split
WHOLE = Fraction(1)
ANNOTATIONS = Path("val", "val_annotations.txt")  # how Tiny ImageNet labels the images that accuracy is reported on
DIGITS_TEST = 50  # test images of each digit


@dataclass(frozen=True)
class ImageArrays:
    """uint8 images (n, height, width, channels) and their int64 labels (n,)."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)

    def digest(self) -> str:
        """A hash of all images and labels."""
        digest = hashlib.sha256(self.images.data)
        digest.update(self.labels.data)
        return digest.hexdigest()

    def take(self, index: NDArray[np.int64]) -> "ImageArrays":
        """The images at these places; all of them, in their order, are not copied."""
        if len(index) == len(self) and (index == np.arange(len(self))).all():
            return self
        return ImageArrays(self.images[index], self.labels[index])


@dataclass(frozen=True)
class CachedDataset:
    """A decoded data set on disk. Opening it reads no images."""

    folder: Path
    classes: tuple[str, ...]
    fingerprint: str  # hash of every image and label of both splits
    input_shape: tuple[int, ...]  # (channels, height, width)
    digests: dict[str, str]  # of each split's images and labels

    def _open(self, split: Literal["train", "test"]) -> ImageArrays:
        """Reads a split and checks that it is what was decoded: a damaged cache must not change a number.

        The images stay a part of the file in memory: all processes of a computer share one copy.
        """
        try:
            images = np.load(self.folder / f"{split}_images.npy", mmap_mode="c")
            labels = np.load(self.folder / f"{split}_labels.npy")
            opened = ImageArrays(images, labels)
            if opened.digest() == self.digests[split]:
                return opened
        except (OSError, ValueError, EOFError):
            pass
        raise self._damaged()

    def _damaged(self) -> InputError:
        if not self.folder.exists():
            return InputError(f"the cached images in {self.folder} are gone: the same command decodes them anew")
        return InputError(
            f"the cached images in {self.folder} are damaged: delete that folder, and they are decoded anew"
        )

    def counts(self, data: DatasetConfig, fraction: Fraction = WHOLE) -> tuple[int, int]:
        """ImageArrays to train on, of each class this fraction of them, and images to test on."""
        limits = {"train": data.train_per_class, "test": data.test_per_class}
        try:
            labels = {split: np.load(self.folder / f"{split}_labels.npy") for split in limits}
            train, test = (labels[split][_first_of_each_class(labels[split], limit)] for split, limit in limits.items())
        except (OSError, ValueError, EOFError, IndexError, TypeError) as error:
            raise self._damaged() from error
        return len(_fraction_of_each_class(train, fraction)), len(test)

    def load(self, data: DatasetConfig, split: Split, fraction: Fraction = WHOLE) -> tuple[ImageArrays, ImageArrays]:
        """What to train on and what to evaluate on.

        fraction: of each class's training images, of which the first are taken: a smaller one's are among them.
        split: "test" gives (all training images, test images). "val" holds a part of the training images out and
        gives (the rest, that part): the test images are not opened.
        """
        train = self._open("train")
        train = train.take(_first_of_each_class(train.labels, data.train_per_class))
        train = train.take(_fraction_of_each_class(train.labels, fraction))
        if split == "test":
            test = self._open("test")
            return train, test.take(_first_of_each_class(test.labels, data.test_per_class))
        sizes = np.bincount(train.labels)
        if sizes.min() < 2:
            raise InputError("a validation split needs at least 2 training images of each class")
        kept = np.clip(np.round((1 - data.val_fraction) * sizes), 1, sizes - 1)
        held_out = _place_in_class(train.labels) >= kept[train.labels]
        return train.take(np.flatnonzero(~held_out)), train.take(np.flatnonzero(held_out))


def _place_in_class(labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """For labels sorted by class: 0, 1, 2... within each class."""
    starts = np.concatenate([[0], np.cumsum(np.bincount(labels))[:-1]])
    return np.asarray(np.arange(len(labels)) - starts[labels])


def _first_of_each_class(labels: NDArray[np.int64], count: int | None) -> NDArray[np.int64]:
    return np.flatnonzero(_place_in_class(labels) < (count or len(labels)))


def _fraction_of_each_class(labels: NDArray[np.int64], fraction: Fraction) -> NDArray[np.int64]:
    """Rounded, and at least one image of a class."""
    if fraction == WHOLE:
        return np.arange(len(labels))
    kept = np.array([max(1, round(fraction * int(count))) for count in np.bincount(labels)])
    return np.flatnonzero(_place_in_class(labels) < kept[labels])


def image_counts(data: DatasetConfig) -> tuple[int, int] | None:
    """Training and test images of CIFAR, known without having it; None for other sources."""
    if data.source not in ("cifar10", "cifar100"):
        return None
    limits = data.train_per_class, data.test_per_class
    pairs = zip((50_000, 10_000), limits, strict=True)
    train, test = (min(count, (limit or count) * data.num_classes) for count, limit in pairs)
    return train, test


def prepare(data: DatasetConfig, root: Path | None, download: bool = False, report: Report = silent) -> CachedDataset:
    """Returns the decoded data set, decoding it first where no cache of it exists.

    root: a folder with train/ and test/, Tiny ImageNet as it is published, or the folder that torchvision's CIFAR files
    lie in (default `data/`).
    Two processes may call this at once. Raises InputError in one line.
    """
    if root is not None and not _is_folder(root):
        raise InputError(f"--data {root} is not a folder")
    if root is not None and (root / "train").is_dir() and ((root / "test").is_dir() or (root / ANNOTATIONS).is_file()):
        files = list_folder(root, data)
        return _cached(_folder_key(root, data, files), lambda: _read_folder(files, data, report))
    if data.source == "folder":
        lacking = "give --data DIR" if root is None else f"--data {root} lacks them"
        raise InputError(f"this benchmark reads an image folder with train/<class>/ and test/<class>/: {lacking}")
    if data.source == "digits":
        if root is not None:
            raise InputError(f"--data {root} has no train/ and test/ folders; digits needs no --data")
        return _fitting(data, _cached("digits", _read_digits))
    place = root or DEFAULT_ROOT
    return _fitting(data, _cached(data.source, lambda: _read_cifar(data.source, place, download)))


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # a name too long for the file system
        return False


def _fitting(data: DatasetConfig, cached: CachedDataset) -> CachedDataset:
    """A known set is as it is: refuses a benchmark that says otherwise of it."""
    if (len(cached.classes), *cached.input_shape) != (data.num_classes, *data.input_shape):
        channels, size, _ = cached.input_shape
        there = f"num_classes = {len(cached.classes)}, image_size = {size} and in_chans = {channels}"
        asked = f"{data.num_classes}, {data.image_size} and {data.in_chans}"
        raise InputError(f"{data.source} has {there}, not {asked}; other sizes can be had from an image folder")
    return cached


Decoded = tuple[ImageArrays, ImageArrays, tuple[str, ...]]  # train, test, class names


def _cached(key: str, read: Callable[[], Decoded]) -> CachedDataset:
    """Opens the cache entry of this key; the first of several processes makes it and the others wait."""
    root = user_cache_path("timm-ablate") / f"data-{CACHE_FORMAT}"
    folder = root / key
    try:
        root.mkdir(parents=True, exist_ok=True)
        with FileLock(root / f"{key}.lock"):
            if not _is_whole(folder):
                _write_cache(folder, *read())
    except OSError as error:
        raise InputError(
            f"cannot keep decoded images in {root}: {error.strerror or error}; XDG_CACHE_HOME can move it"
        ) from error
    meta = json.loads((folder / "meta.json").read_text())
    fingerprint = hashlib.sha256("".join(meta["digests"].values()).encode()).hexdigest()[:16]
    return CachedDataset(folder, tuple(meta["classes"]), fingerprint, tuple(meta["input_shape"]), meta["digests"])


def _is_whole(folder: Path) -> bool:
    names = [f"{split}_{kind}.npy" for split in ("train", "test") for kind in ("images", "labels")]
    try:
        meta = json.loads((folder / "meta.json").read_text())
        if not meta.keys() >= {"classes", "digests", "input_shape"} or meta["digests"].keys() != {"train", "test"}:
            return False
    except (OSError, ValueError, AttributeError):
        return False
    return all((folder / name).exists() for name in names)


def _write_cache(folder: Path, train: ImageArrays, test: ImageArrays, classes: tuple[str, ...]) -> None:
    """Writes the sorted arrays beside `folder` and renames them into place, whole or not at all."""
    splits = {"train": _sorted(train), "test": _sorted(test)}
    temporary = Path(tempfile.mkdtemp(dir=folder.parent))
    try:
        for split, images in splits.items():
            np.save(temporary / f"{split}_images.npy", images.images)
            np.save(temporary / f"{split}_labels.npy", images.labels)
        digests = {split: images.digest() for split, images in splits.items()}
        height, width, channels = train.images.shape[1:]
        meta = {"classes": classes, "digests": digests, "input_shape": (channels, height, width)}
        (temporary / "meta.json").write_text(json.dumps(meta))
        shutil.rmtree(folder, ignore_errors=True)
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _sorted(split: ImageArrays) -> ImageArrays:
    planes = (np.moveaxis(image, -1, 0) for image in split.images)
    digests = [hashlib.sha256(ORDER_SEED + image.tobytes()).digest() for image in planes]
    order = sorted(range(len(split)), key=lambda i: (split.labels[i], digests[i]))
    return split.take(np.array(order))


def _read_digits() -> Decoded:
    """scikit-learn's digits: 1,797 grey 8x8 images with 17 levels; 50 of each class become the test split."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    pixels = np.round(digits.images * (255 / 16)).astype(np.uint8)
    whole = _sorted(ImageArrays(pixels[..., None], digits.target.astype(np.int64)))
    in_test = _place_in_class(whole.labels) < DIGITS_TEST
    test, train = whole.take(np.flatnonzero(in_test)), whole.take(np.flatnonzero(~in_test))
    return train, test, tuple(str(name) for name in digits.target_names)


def _read_cifar(source: str, root: Path, download: bool) -> Decoded:
    """torchvision's CIFAR sets; it checks the md5 sum of each file before opening it."""
    from torchvision.datasets import CIFAR10, CIFAR100

    cifar = {"cifar10": CIFAR10, "cifar100": CIFAR100}[source]
    try:
        train, test = (cifar(root, train=part, download=download) for part in (True, False))
    except (RuntimeError, OSError) as error:
        if download:
            raise InputError(f"downloading {source} to {root} failed: {error}") from error
        folder = "--data DIR of a folder with train/<class>/ and test/<class>/"
        raise InputError(f"{source} is not in {root}: pass --download, or {folder}") from error
    train_images, test_images = (ImageArrays(part.data, np.array(part.targets)) for part in (train, test))
    return train_images, test_images, tuple(train.classes)


FolderFiles = dict[str, dict[str, list[Path]]]  # split -> class -> image files


def list_folder(root: Path, data: DatasetConfig) -> FolderFiles:
    """The image files of root/train/<class>/ and root/test/<class>/.

    Tiny ImageNet's val/ with its list of labels stands for test/, whose images have none there.
    Raises InputError unless both have the benchmark's number of classes, by the same names, none empty.
    """
    held_out = "test"
    if (root / ANNOTATIONS).is_file() and len(_class_folders(root / "test")) < 2:
        held_out = "val"
    files = {"train": _by_class(root / "train")}
    files["test"] = _by_class(root / "test") if held_out == "test" else _annotated(root / ANNOTATIONS)
    differ = sorted(files["train"].keys() ^ files["test"].keys())
    if differ:
        there = "train" if differ[0] in files["train"] else held_out
        raise InputError(
            f"class names differ between train/ and {held_out}/ of {root}: {differ[0]!r} is only in {there}/"
        )
    if len(files["train"]) != data.num_classes:
        raise InputError(f"{root} has {len(files['train'])} classes, but this benchmark has {data.num_classes}")
    return files


def _class_folders(split: Path) -> list[Path]:
    if not split.is_dir():
        return []
    return sorted(folder for folder in split.iterdir() if folder.is_dir() and not folder.name.startswith("."))


def _by_class(split: Path) -> dict[str, list[Path]]:
    """The images of each class folder."""
    folders = _class_folders(split)
    unreadable = next((folder for folder in folders if not _is_text(folder.name)), None)
    if unreadable is not None:
        raise InputError(f"the class folder {unreadable.name!r} in {split} has a name that is not UTF-8")
    if len(folders) < 2:
        raise InputError(f"{split} has {len(folders)} class folder(s): at least 2 are needed")
    files = {folder.name: _images_in(folder) for folder in folders}
    empty = [name for name, paths in files.items() if not paths]
    if empty:
        raise InputError(f"{split / empty[0]} holds no images ({', '.join(sorted(SUFFIXES))})")
    return files


def _annotated(listed: Path) -> dict[str, list[Path]]:
    """The images of each class by a list of `name, class, box` a line, between tabs; they lie in images/ beside it."""
    try:
        rows = [line.split("\t") for line in listed.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read {listed}: {getattr(error, 'strerror', None) or error}") from error
    files: dict[str, list[Path]] = {}
    for number, row in enumerate(rows, 1):
        if len(row) < 2 or Path(row[0]).suffix.lower() not in SUFFIXES or not row[0].isprintable():
            raise InputError(f"{listed}, line {number}: expected an image's name, a tab and its class")
        files.setdefault(row[1], []).append(listed.parent / "images" / row[0])
    return {name: sorted(files[name]) for name in sorted(files)}


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _images_in(folder: Path) -> list[Path]:
    """The image files at any depth, but none that is hidden or lies in something hidden."""
    found = (path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and not _is_special(path))
    return sorted(path for path in found if not any(p.startswith(".") for p in path.relative_to(folder).parts))


def _is_special(path: Path) -> bool:
    """Whether it is something else than a file or a link, such as a pipe, which would be waited for without end."""
    return not (path.is_file() or path.is_symlink())


def _folder_key(root: Path, data: DatasetConfig, files: FolderFiles) -> str:
    """Changes when any file is added, removed, rewritten or of another class, or is to be decoded otherwise."""
    digest = hashlib.sha256(f"{root.resolve()} {data.image_size} {data.in_chans}".encode(errors="surrogateescape"))
    listed = ((path, name) for classes in files.values() for name, paths in classes.items() for path in paths)
    for path, name in listed:
        try:
            status = path.stat()
        except OSError as error:
            raise InputError(f"cannot read image {path}: {error.strerror or error}") from error
        stamp = f"{path} {name} {status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}"  # no copy can set the last
        digest.update(stamp.encode(errors="surrogateescape"))
    return f"folder-{digest.hexdigest()[:16]}"


def _read_folder(files: FolderFiles, data: DatasetConfig, report: Report) -> Decoded:
    total = sum(len(paths) for classes in files.values() for paths in classes.values())
    done = 0
    splits = []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for classes in files.values():
            pairs = [(path, label) for label, paths in enumerate(classes.values()) for path in paths]
            images = np.empty((len(pairs), data.image_size, data.image_size, data.in_chans), np.uint8)
            for place, image in enumerate(pool.map(lambda pair: _decode(pair[0], data), pairs)):
                images[place] = image
                done += 1
                if done % 500 == 0 or done == total:
                    report(Progress("decoding images", done, total))
            splits.append(ImageArrays(images, np.array([label for _, label in pairs])))
    return splits[0], splits[1], tuple(files["train"])


def _decode(path: Path, data: DatasetConfig) -> NDArray[np.uint8]:
    """One image file as (size, size, channels). Another size is resized by its shorter side and cut at the centre."""
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as file:
            deep = file.mode.startswith("I;16")  # 16-bit grey, which Pillow would clip to 8 bits and not scale
            source = Image.fromarray((np.asarray(file) // 257).astype(np.uint8)) if deep else file
            image = source.convert("RGB" if data.in_chans == 3 else "L")
    except (OSError, SyntaxError, ValueError, NotImplementedError, Image.DecompressionBombError) as error:
        raise InputError(f"cannot read image {path}: {error}") from error
    if image.size != (data.image_size, data.image_size):
        image = ImageOps.fit(image, (data.image_size, data.image_size), Image.Resampling.BICUBIC)
    pixels = np.asarray(image, np.uint8)
    return pixels[..., None] if data.in_chans == 1 else pixels
