import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.error import URLError

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_digits

from arch.errors import InputError
from benchmarks.datasets.cache import CACHE_FORMAT, CachedDataset, ImageArrays, image_counts, prepare
from benchmarks.definition.benchmark import BENCHMARKS, DatasetConfig
from benchmarks.execution.progress import Progress

DIGITS = BENCHMARKS["digits"].data
DIGITS_FINGERPRINT = "678e43ae7e307e59"  # of scikit-learn's 1,797 images; another one means other numbers
FOLDER = DatasetConfig("folder", 2, image_size=8)
CLASSES = ("cat", "dog")

Pixels = NDArray[np.uint8]
Files = dict[str, Pixels]  # path below the root -> pixels


def noise(seed: int, size: int = 8, *channels: int) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, (size, size, *(channels or (3,))), np.uint8)


def two_classes(train: int = 4, test: int = 2) -> Files:
    """Noise for train/ and test/ of the classes cat and dog."""
    places = [(split, name, i) for split, n in (("train", train), ("test", test)) for name in CLASSES for i in range(n)]
    return {f"{split}/{name}/{i}.png": noise(seed) for seed, (split, name, i) in enumerate(places)}


def write(root: Path, files: Files) -> Path:
    for name, pixels in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    return root


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of this test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def folder(tmp_path: Path, cache: Path) -> Path:
    """An image folder with two classes of four training and two test images."""
    return write(tmp_path / "images", two_classes())


def rows(images: ImageArrays) -> list[bytes]:
    """Labels and pixels, in the order they have."""
    return [bytes([label]) + image.tobytes() for image, label in zip(images.images, images.labels, strict=True)]


def decoded(cached: CachedDataset, data: DatasetConfig) -> list[list[bytes]]:
    return [rows(split) for split in cached.load(data, "test")]


# digits


def test_digits_has_its_published_counts(digits: CachedDataset) -> None:
    train, test = digits.load(DIGITS, "test")
    assert (len(train), len(test)) == (1297, 500)
    assert np.bincount(test.labels).tolist() == [50] * 10
    assert train.images.shape == (1297, 8, 8, 1)
    assert (train.images.dtype.name, train.labels.dtype.name) == ("uint8", "int64")
    assert digits.classes == tuple("0123456789")


def test_the_digits_of_both_splits_are_scikit_learns(digits: CachedDataset) -> None:
    source = load_digits()
    pixels = np.round(source.images / 16 * 255).astype(np.uint8)
    whole = [bytes([label]) + image.tobytes() for image, label in zip(pixels, source.target, strict=True)]
    train, test = decoded(digits, DIGITS)
    assert sorted(train + test) == sorted(whole)  # each image once: in one split or in the other


def test_the_digits_have_one_fingerprint(digits: CachedDataset, cache: Path) -> None:
    again = prepare(DIGITS, None)
    assert again.folder != digits.folder
    assert again.fingerprint == digits.fingerprint == DIGITS_FINGERPRINT
    assert decoded(again, DIGITS) == decoded(digits, DIGITS)


PREPARE = """
import sys
from pathlib import Path
from benchmarks.definition.benchmark import BENCHMARKS
from benchmarks.datasets import cache as data

write = data._write_cache

def write_slowly(*arguments):
    import time
    time.sleep(0.5)
    print("wrote")
    write(*arguments)

data._write_cache = write_slowly
print("ready", flush=True)
input()
print(data.prepare(BENCHMARKS["digits"].data, None).fingerprint)
"""


def test_two_processes_make_one_cache(cache: Path, python: Callable[..., Any]) -> None:
    processes = [python(PREPARE), python(PREPARE)]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    said = sorted(line for process in processes for line in process.communicate(timeout=60)[0].split())
    assert said == [DIGITS_FINGERPRINT, DIGITS_FINGERPRINT, "wrote"]
    entries = sorted(
        entry.name for entry in (cache / "timm-ablate" / f"data-{CACHE_FORMAT}").iterdir() if entry.is_dir()
    )
    assert entries == ["digits"]


def test_a_second_preparation_reads_the_first_ones_cache(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = prepare(DIGITS, None)
    monkeypatch.setattr("benchmarks.datasets.cache._read_digits", lambda: pytest.fail("decoded again"))
    assert prepare(DIGITS, None) == first


def test_a_half_written_cache_is_made_anew(cache: Path) -> None:
    first = prepare(DIGITS, None)
    (first.folder / "meta.json").unlink()
    (first.folder / "train_images.npy").write_bytes(b"half")
    assert prepare(DIGITS, None) == first
    assert len(first.load(DIGITS, "test")[0]) == 1297


def test_an_interrupted_decoding_leaves_no_cache(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("numpy.save", interrupt)
        with pytest.raises(KeyboardInterrupt):
            prepare(DIGITS, None)
    assert [entry for entry in (cache / "timm-ablate" / f"data-{CACHE_FORMAT}").iterdir() if entry.is_dir()] == []
    assert prepare(DIGITS, None).fingerprint == DIGITS_FINGERPRINT


@pytest.mark.parametrize("changes", [{}, {"train_per_class": 7}, {"test_per_class": 3}, {"train_per_class": 200}])
def test_counts_are_the_lengths(digits: CachedDataset, changes: dict[str, Any]) -> None:
    data = replace(DIGITS, **changes)
    train, test = digits.load(data, "test")
    assert digits.counts(data) == (len(train), len(test))


@pytest.mark.parametrize(("limit", "count"), [(124, 1240), (125, 1249), (130, 1288), (133, 1297)])
def test_classes_of_uneven_size_are_counted_as_they_are(digits: CachedDataset, limit: int, count: int) -> None:
    assert digits.counts(replace(DIGITS, train_per_class=limit)) == (count, 500)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (DatasetConfig("cifar100", 100), (50_000, 10_000)),
        (DatasetConfig("cifar10", 10), (50_000, 10_000)),
        (DatasetConfig("cifar100", 100, train_per_class=100, test_per_class=20), (10_000, 2_000)),
        (FOLDER, None),
        (DIGITS, None),
    ],
)
def test_counts_of_known_sets_need_no_images(data: DatasetConfig, expected: tuple[int, int] | None) -> None:
    assert image_counts(data) == expected


def test_subsets_are_equal_in_size_and_nested(digits: CachedDataset) -> None:
    subsets = [digits.load(replace(DIGITS, train_per_class=k), "test")[0] for k in (3, 10, 40)]
    assert [np.bincount(subset.labels).tolist() for subset in subsets] == [[k] * 10 for k in (3, 10, 40)]
    small, middle, large = (set(rows(subset)) for subset in subsets)
    assert small < middle < large


# the validation split


def test_validation_is_a_tenth_of_each_class(digits: CachedDataset) -> None:
    train, held_out = (np.bincount(split.labels) for split in digits.load(DIGITS, "val"))
    assert (abs(held_out - (train + held_out) / 10) <= 0.5).all()


@pytest.mark.parametrize(("fraction", "expected"), [(0.1, 2), (0.5, 10), (0.25, 5)])
def test_validation_has_the_fraction_asked_for(digits: CachedDataset, fraction: float, expected: int) -> None:
    data = replace(DIGITS, train_per_class=20, val_fraction=fraction)
    train, held_out = digits.load(data, "val")
    assert np.bincount(held_out.labels).tolist() == [expected] * 10
    assert np.bincount(train.labels).tolist() == [20 - expected] * 10


@pytest.mark.parametrize("limit", [None, 20])
def test_training_and_validation_make_up_the_training_images(digits: CachedDataset, limit: int | None) -> None:
    data = replace(DIGITS, train_per_class=limit)
    train, held_out = digits.load(data, "val")
    whole, _ = digits.load(data, "test")
    assert sorted(rows(train) + rows(held_out)) == sorted(rows(whole))


def test_validation_is_the_same_each_time(digits: CachedDataset) -> None:
    first, again = digits.load(DIGITS, "val"), digits.load(DIGITS, "val")
    assert [rows(split) for split in first] == [rows(split) for split in again]


def test_validation_does_not_open_the_test_images(digits: CachedDataset, tmp_path: Path) -> None:
    copy = replace(digits, folder=tmp_path / "copy")
    shutil.copytree(digits.folder, copy.folder)
    for name in ("test_images.npy", "test_labels.npy"):
        (copy.folder / name).unlink()
    assert [rows(split) for split in copy.load(DIGITS, "val")] == [rows(split) for split in digits.load(DIGITS, "val")]
    with pytest.raises(InputError, match=r"the cached images in .*copy are damaged: delete that folder"):
        copy.load(DIGITS, "test")


@pytest.mark.parametrize("name", ["train_images.npy", "test_images.npy", "train_labels.npy", "test_labels.npy"])
def test_a_damaged_cache_changes_no_number(digits: CachedDataset, tmp_path: Path, name: str) -> None:
    copy = replace(digits, folder=tmp_path / "copy")
    shutil.copytree(digits.folder, copy.folder)
    content = bytearray((copy.folder / name).read_bytes())
    content[-8] ^= 1
    (copy.folder / name).write_bytes(content)
    with pytest.raises(InputError, match="are damaged"):
        copy.load(DIGITS, "test")
    (copy.folder / name).write_bytes(content[:100])
    with pytest.raises(InputError, match="are damaged"):
        copy.load(DIGITS, "test")


@pytest.mark.parametrize("name", ["train_images.npy", "test_labels.npy", "meta.json"])
def test_a_cache_with_a_missing_file_is_made_anew(cache: Path, name: str) -> None:
    first = prepare(DIGITS, None)
    (first.folder / name).unlink()
    assert prepare(DIGITS, None) == first
    assert (first.folder / name).exists()


def test_a_pipe_is_not_waited_for_and_a_folder_is_no_image(folder: Path) -> None:
    before = prepare(FOLDER, folder)
    os.mkfifo(folder / "train" / "cat" / "8.png")
    (folder / "train" / "cat" / "9.png").mkdir()
    assert prepare(FOLDER, folder).fingerprint == before.fingerprint


def test_an_image_rewritten_at_the_same_size_and_time_is_seen(folder: Path) -> None:
    before = prepare(FOLDER, folder)
    path = folder / "train" / "cat" / "0.png"
    status = path.stat()
    content = bytearray(path.read_bytes())
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert prepare(FOLDER, folder).folder != before.folder


def test_validation_is_not_empty(digits: CachedDataset) -> None:
    _, held_out = digits.load(replace(DIGITS, train_per_class=4), "val")
    assert np.bincount(held_out.labels, minlength=10).min() > 0


# image folders


def test_a_folder_is_decoded_to_its_pixels(folder: Path) -> None:
    cached = prepare(FOLDER, folder)
    files = two_classes()
    assert cached.classes == CLASSES
    assert cached.counts(FOLDER) == (8, 4)
    for split, images in zip(("train", "test"), decoded(cached, FOLDER), strict=True):
        expected = [
            bytes([label]) + pixels.tobytes()
            for label, name in enumerate(CLASSES)
            for path, pixels in files.items()
            if path.startswith(f"{split}/{name}/")
        ]
        assert sorted(images) == sorted(expected)


@pytest.fixture
def tiny_imagenet(tmp_path: Path, cache: Path) -> Path:
    """As it is published: images below images/, val/ with a list of labels, test/ without labels."""
    files = {path.replace("/cat/", "/cat/images/").replace("/dog/", "/dog/images/"): p for path, p in TRAIN.items()}
    root = write(tmp_path / "tiny-imagenet-200", files)
    write(root, {f"val/images/val_{place}.png": pixels for place, pixels in enumerate(TEST.values())})
    write(root, {"test/images/test_0.png": noise(50)})
    lines = [f"val_{place}.png\t{path.split('/')[1]}\t0\t1\t7\t8\n" for place, path in enumerate(TEST)]
    (root / "val" / "val_annotations.txt").write_text("".join(reversed(lines)))
    (root / "train" / "cat" / "cat_boxes.txt").write_text("cat_0.png\t0\t1\t7\t8\n")
    return root


TRAIN = {path: pixels for path, pixels in two_classes().items() if path.startswith("train/")}
TEST = {path: pixels for path, pixels in two_classes().items() if path.startswith("test/")}


def test_tiny_imagenet_is_read_as_it_is_published(tiny_imagenet: Path, folder: Path) -> None:
    published, sorted_by_hand = prepare(FOLDER, tiny_imagenet), prepare(FOLDER, folder)
    assert published.fingerprint == sorted_by_hand.fingerprint
    assert decoded(published, FOLDER) == decoded(sorted_by_hand, FOLDER)
    shutil.rmtree(tiny_imagenet / "test")
    assert prepare(FOLDER, tiny_imagenet).fingerprint == published.fingerprint


def test_a_test_folder_with_classes_is_taken_before_a_list(folder: Path) -> None:
    before = prepare(FOLDER, folder)
    write(folder, {"val/images/a.png": noise(60)})
    (folder / "val" / "val_annotations.txt").write_text("a.png\tcat\n")
    assert prepare(FOLDER, folder) == before


def test_another_class_in_the_list_is_noticed(tiny_imagenet: Path) -> None:
    before = prepare(FOLDER, tiny_imagenet)
    listed = tiny_imagenet / "val" / "val_annotations.txt"
    listed.write_text(listed.read_text().replace("val_1.png\tcat", "val_1.png\tdog"))  # the last cat: the order stays
    after = prepare(FOLDER, tiny_imagenet)
    assert np.bincount(after.load(FOLDER, "test")[1].labels).tolist() == [1, 3]
    assert after.fingerprint != before.fingerprint


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("val_0.png cat", "line 1: expected an image's name, a tab and its class"),
        ("val_0.png\tcat\nval_1.png", "line 2: expected an image's name"),
        ("val_0\0.png\tcat", "line 1: expected an image's name"),
        ("val_0.png\tcat\nval_1.png\tcow", "between train/ and val/ of .*: 'cow' is only in val/"),
        ("val_0.png\tcat", "'dog' is only in train/"),
        ("", "'cat' is only in train/"),
        ("val_0.png\tcat\nval_9.png\tdog", "cannot read image .*val_9.png: No such file"),
        ("\udcff", "cannot read .*val_annotations.txt: .*utf-8"),
    ],
)
def test_a_list_of_labels_that_does_not_fit_is_one_line(tiny_imagenet: Path, text: str, says: str) -> None:
    listed = tiny_imagenet / "val" / "val_annotations.txt"
    listed.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(InputError, match=says) as raised:
        prepare(FOLDER, tiny_imagenet)
    assert str(raised.value).isprintable()


def test_images_are_in_an_order_of_their_own(folder: Path) -> None:
    train, _ = prepare(FOLDER, folder).load(FOLDER, "test")
    assert train.labels.tolist() == [0] * 4 + [1] * 4


def test_names_and_places_change_nothing(folder: Path, tmp_path: Path) -> None:
    renamed = {path.replace(".png", ".bmp").replace("/cat/", "/cat/deep/er/"): p for path, p in two_classes().items()}
    shuffled = dict(sorted(renamed.items(), key=lambda item: item[1].tobytes()))
    renumbered = {str(Path(path).with_name(f"{i:03}.BMP")): p for i, (path, p) in enumerate(shuffled.items())}
    other = prepare(FOLDER, write(tmp_path / "other", renumbered))
    first = prepare(FOLDER, folder)
    assert other.folder != first.folder
    assert other.fingerprint == first.fingerprint
    assert decoded(other, FOLDER) == decoded(first, FOLDER)


def test_a_changed_image_is_noticed(folder: Path) -> None:
    before = prepare(FOLDER, folder)
    write(folder, {"train/cat/0.png": noise(99)})
    after = prepare(FOLDER, folder)
    assert after.fingerprint != before.fingerprint
    assert b"\0" + noise(99).tobytes() in decoded(after, FOLDER)[0]


def test_an_image_more_or_less_is_noticed(folder: Path) -> None:
    before = prepare(FOLDER, folder)
    write(folder, {"train/cat/new.png": noise(99)})
    assert prepare(FOLDER, folder).counts(FOLDER) == (9, 4)
    (folder / "train/cat/new.png").unlink()
    assert prepare(FOLDER, folder) == before


def test_a_label_is_part_of_the_fingerprint(folder: Path) -> None:
    before = prepare(FOLDER, folder)
    (folder / "train/cat/0.png").rename(folder / "train/dog/moved.png")
    assert prepare(FOLDER, folder).fingerprint != before.fingerprint


def test_a_folder_that_has_not_changed_is_not_decoded_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = prepare(FOLDER, folder)
    monkeypatch.setattr("benchmarks.datasets.cache._decode", lambda *_: pytest.fail("decoded again"))
    assert prepare(FOLDER, folder) == first


def test_other_sizes_and_channels_have_caches_of_their_own(folder: Path) -> None:
    shapes = [
        prepare(data, folder).load(data, "test")[0].images.shape
        for data in (FOLDER, replace(FOLDER, image_size=16), replace(FOLDER, in_chans=1), FOLDER)
    ]
    assert shapes == [(8, 8, 8, 3), (8, 16, 16, 3), (8, 8, 8, 1), (8, 8, 8, 3)]


def only(folder: Path, data: DatasetConfig, name: str, pixels: Pixels) -> NDArray[np.uint8]:
    """What becomes of one image, put alone into train/cat."""
    shutil.rmtree(folder / "train" / "cat")
    write(folder, {f"train/cat/{name}": pixels})
    train, _ = prepare(data, folder).load(data, "test")
    image: NDArray[np.uint8] = train.images[train.labels == 0][0]
    return image


def test_grey_images_become_three_equal_channels(folder: Path) -> None:
    grey = noise(7)[:, :, 0]
    assert np.array_equal(only(folder, FOLDER, "grey.png", grey), np.stack([grey] * 3, axis=-1))


def test_colours_become_grey_as_pillow_does_it(folder: Path) -> None:
    grey = np.asarray(Image.fromarray(noise(7)).convert("L"))
    assert np.array_equal(only(folder, replace(FOLDER, in_chans=1), "colour.png", noise(7)), grey[..., None])


def test_transparency_is_dropped(folder: Path) -> None:
    rgba = noise(7, 8, 4)
    assert np.array_equal(only(folder, FOLDER, "rgba.png", rgba), rgba[:, :, :3])


@pytest.mark.parametrize("name", ["image.jpg", "image.JPEG", "image.Bmp", "image.webp", "image.tif", "image.ppm"])
def test_other_formats_are_read(folder: Path, name: str) -> None:
    plain = np.full((8, 8, 3), 100, np.uint8)
    assert abs(only(folder, FOLDER, name, plain).astype(int) - 100).max() <= 2


def test_another_size_is_resized_by_its_shorter_side_and_cut_at_the_centre(folder: Path) -> None:
    wide = np.full((16, 64, 3), 255, np.uint8)
    wide[:, :16] = wide[:, -16:] = 0  # what the cut takes away
    wide[:, 20:44] = 100
    image = only(folder, FOLDER, "wide.png", wide)
    assert image.shape == (8, 8, 3)
    assert abs(image.astype(int) - 100).max() <= 1


def test_sixteen_bits_keep_their_shades(folder: Path) -> None:
    shades = np.arange(0, 65536, 1024, dtype=np.uint16).reshape(8, 8)
    image = only(folder, replace(FOLDER, in_chans=1), "deep.png", shades)  # type: ignore[arg-type]
    assert len(np.unique(image)) == 64


def test_hidden_class_folders_and_other_files_are_passed_over(folder: Path) -> None:
    before = prepare(FOLDER, folder)
    write(folder, {"train/.thumbnails/0.png": noise(99)})
    (folder / "train" / "cat" / "notes.txt").write_text("a note")
    (folder / "train" / "README.md").write_text("a note")
    (folder / "extra").mkdir()
    assert prepare(FOLDER, folder) == before


@pytest.mark.parametrize("name", [".thumbnails/0.png", "._0.png"])
def test_hidden_files_within_a_class_are_passed_over(folder: Path, name: str) -> None:
    before = prepare(FOLDER, folder)
    write(folder, {f"train/cat/{name}": noise(99)})
    assert prepare(FOLDER, folder).fingerprint == before.fingerprint


def test_decoding_is_reported_to_its_end(folder: Path) -> None:
    reports: list[Progress] = []
    prepare(FOLDER, folder, report=reports.append)
    assert reports == [Progress("decoding images", 12, 12)]


# CIFAR


def small_cifar(train: bool) -> tuple[Pixels, list[int]]:
    """Two images of each of three classes."""
    pixels = np.stack([noise(10 * train + i, 32) for i in range(6)])
    return pixels, [0, 1, 2, 2, 1, 0]


class SmallCifar:
    """What torchvision's CIFAR10 and CIFAR100 have that we read."""

    classes = ("apple", "bear", "crab")

    def __init__(self, root: Path, train: bool, download: bool) -> None:
        if not (root / "cifar").exists():
            raise RuntimeError("Dataset not found or corrupted. You can use download=True to download it")
        self.data, self.targets = small_cifar(train)


@pytest.fixture
def cifar(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which torchvision's CIFAR classes find their files."""
    (tmp_path / "data" / "cifar").mkdir(parents=True)
    for name in ("CIFAR10", "CIFAR100"):
        monkeypatch.setattr(f"torchvision.datasets.{name}", SmallCifar)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "data"


@pytest.mark.parametrize("source", ["cifar10", "cifar100"])
def test_a_folder_of_cifars_images_is_cifar(source: Any, cifar: Path, tmp_path: Path) -> None:
    data = DatasetConfig(source, 3)
    files = {
        f"{split}/{SmallCifar.classes[label]}/{i}.png": pixels
        for split in ("train", "test")
        for i, (pixels, label) in enumerate(zip(*small_cifar(split == "train"), strict=True))
    }
    original = prepare(data, cifar)
    copy = prepare(data, write(tmp_path / "copy", files))
    assert copy.folder != original.folder
    assert (copy.fingerprint, copy.classes) == (original.fingerprint, original.classes)
    assert decoded(copy, data) == decoded(original, data)


def test_cifar_is_looked_for_in_data(cifar: Path) -> None:
    cached = prepare(DatasetConfig("cifar10", 3), None)
    assert cached.counts(DatasetConfig("cifar10", 3)) == (6, 6)
    assert cached.load(DatasetConfig("cifar10", 3), "test")[0].images.shape == (6, 32, 32, 3)


def test_missing_cifar_names_what_would_help(tmp_path: Path, cache: Path) -> None:
    (tmp_path / "data").mkdir()
    with pytest.raises(InputError, match=r"^cifar100 is not in .*data: pass --download, or --data DIR") as raised:
        prepare(BENCHMARKS["cifar100"].data, tmp_path / "data")
    assert "\n" not in str(raised.value)


def test_a_failed_download_says_why(cifar: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: object, **__: object) -> None:
        raise URLError("no route to host")

    monkeypatch.setattr("torchvision.datasets.CIFAR100", offline)
    with pytest.raises(InputError, match=r"^downloading cifar100 to .*data failed: .*no route to host"):
        prepare(DatasetConfig("cifar100", 3), None, download=True)


@pytest.mark.parametrize("changes", [{"image_size": 32}, {"in_chans": 3}, {"num_classes": 5}, {"num_classes": 12}])
def test_data_that_a_known_set_does_not_have_is_refused_or_made(cache: Path, changes: dict[str, Any]) -> None:
    data = replace(DIGITS, **changes)
    try:
        cached = prepare(data, None)
    except InputError:
        return
    channels, height, width = data.input_shape
    assert cached.load(data, "test")[0].images.shape[1:] == (height, width, channels)
    assert len(cached.classes) == data.num_classes


# errors


def broken(folder: Path, name: str, content: bytes) -> None:
    (folder / name).write_bytes(content)


def truncate(path: Path) -> None:
    Image.fromarray(noise(0, 64)).save(path)
    path.write_bytes(path.read_bytes()[:200])


def emptied(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()


def without(folder: Path, *names: str) -> None:
    for name in names:
        shutil.rmtree(folder / name)


Spoil = Callable[[Path], object]

SPOILT: dict[str, tuple[Spoil, str]] = {
    "one class": (lambda f: without(f, "train/dog", "test/dog"), "train has 1 class folder(s): at least 2 are needed"),
    "no class": (lambda f: without(f, "train/dog", "train/cat"), "train has 0 class folder(s): at least 2 are needed"),
    "empty class": (
        lambda f: emptied(f / "test/cat"),
        "test/cat holds no im",
    ),
    "missing class": (lambda f: write(f, {"train/eel/0.png": noise(0)}), "'eel' is only in train/"),
    "other class": (lambda f: (f / "test/cat").rename(f / "test/car"), "'car' is only in test/"),
    "third class": (
        lambda f: write(f, {"train/eel/0.png": noise(0), "test/eel/0.png": noise(1)}),
        "has 3 classes, but this benchmark has 2",
    ),
    "text": (lambda f: broken(f, "train/cat/9.png", b"text"), "cannot read image"),
    "empty file": (lambda f: broken(f, "test/dog/9.jpg", b""), "test/dog/9.jpg: "),
    "truncated": (lambda f: truncate(f / "train/cat/9.png"), "train/cat/9.png: "),
    "truncated JPEG": (lambda f: truncate(f / "train/cat/9.jpg"), "train/cat/9.jpg: "),
}


@pytest.mark.parametrize(("spoil", "expected"), SPOILT.values(), ids=SPOILT.keys())
def test_a_wrong_folder_is_named_in_one_line(folder: Path, spoil: Spoil, expected: str) -> None:
    spoil(folder)
    with pytest.raises(InputError) as raised:
        prepare(FOLDER, folder)
    message = str(raised.value)
    assert expected in message
    assert str(folder) in message
    assert "\n" not in message


def test_a_link_to_nothing_is_named(folder: Path) -> None:
    (folder / "train" / "cat" / "9.png").symlink_to(folder / "missing.png")
    with pytest.raises(InputError, match=r"train/cat/9\.png"):
        prepare(FOLDER, folder)


def test_after_a_broken_image_is_mended_the_folder_is_read(folder: Path) -> None:
    path = folder / "train" / "cat" / "9.png"
    truncate(path)
    with pytest.raises(InputError, match=r"9\.png"):
        prepare(FOLDER, folder)
    write(folder, {"train/cat/9.png": noise(99)})
    assert prepare(FOLDER, folder).counts(FOLDER) == (9, 4)


@pytest.mark.parametrize(
    ("data", "root", "expected"),
    [
        (FOLDER, "missing", "--data .*missing is not a folder"),
        (FOLDER, "images/train/cat/0.png", "--data .*0.png is not a folder"),
        (FOLDER, None, "this benchmark reads an image folder with train/<class>/ and test/<class>/: give --data DIR"),
        (
            FOLDER,
            "images/train",
            "reads an image folder with train/<class>/ and test/<class>/: --data .*train lacks them",
        ),
        (DIGITS, "images/train", "--data .*train has no train/ and test/ folders; digits needs no --data"),
    ],
)
def test_a_wrong_root_is_named(folder: Path, data: DatasetConfig, root: str | None, expected: str) -> None:
    with pytest.raises(InputError, match=expected):
        prepare(data, folder.parent / root if root else None)


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(InputError, match=r"^cannot keep decoded images in .*file.*; XDG_CACHE_HOME can move it$"):
        prepare(DIGITS, None)


@pytest.mark.parametrize("damage", [b"", b"\x93NUMPY", b"garbage" * 50])
def test_damaged_labels_are_named_before_anything_is_trained(
    damage: bytes, digits: CachedDataset, tmp_path: Path
) -> None:
    copy = replace(digits, folder=tmp_path / "copy")
    shutil.copytree(digits.folder, copy.folder)
    (copy.folder / "train_labels.npy").write_bytes(damage)
    with pytest.raises(InputError, match=r"the cached images in .*copy are damaged: delete that folder"):
        copy.counts(DIGITS)
    with pytest.raises(InputError, match="are damaged"):
        copy.load(DIGITS, "test")
    shutil.rmtree(copy.folder)
    with pytest.raises(InputError, match="are gone"):
        copy.counts(DIGITS)


@pytest.mark.parametrize("meta", ["{}", "[]", "null", '{"classes": [], "digests": {}, "input_shape": []}', "{"])
def test_a_cache_without_its_description_is_made_anew(meta: str, cache: Path) -> None:
    made = prepare(DIGITS, None)
    (made.folder / "meta.json").write_text(meta)
    assert prepare(DIGITS, None) == made


HASHES = """
from fractions import Fraction
from benchmarks.definition.benchmark import BENCHMARKS
from benchmarks.datasets.cache import prepare
data = BENCHMARKS["digits"].data
for text in ("1/16", "1/3", "1/2", "1"):
    print(text, prepare(data, None).load(data, "test", Fraction(text))[0].digest())
"""


def test_parts_of_the_images_hash_the_same_in_every_process() -> None:
    said = [
        subprocess.run(
            [sys.executable, "-c", HASHES], env={**os.environ, "PYTHONHASHSEED": seed}, check=True, capture_output=True
        ).stdout
        for seed in ("1", "2")
    ]
    assert said[0] == said[1]
    assert len(set(said[0].split())) == 8


def test_a_smaller_part_is_inside_a_larger_one_and_classes_stay_balanced() -> None:
    data, images = DIGITS, prepare(DIGITS, None)
    parts = [images.load(data, "test", Fraction(text))[0] for text in ("1/16", "1/3", "1/2", "1")]
    kept = [{(int(label), image.tobytes()) for image, label in zip(p.images, p.labels, strict=True)} for p in parts]
    assert all(smaller < larger for smaller, larger in pairwise(kept))
    whole = np.bincount(parts[-1].labels)
    assert [int(count) for count in np.bincount(parts[1].labels)] == [round(Fraction(int(n), 3)) for n in whole]
    assert [images.counts(data, Fraction(text))[0] for text in ("1/16", "1")] == [len(parts[0]), len(parts[-1])]


def test_the_least_part_has_an_image_of_each_class() -> None:
    least = prepare(DIGITS, None).load(DIGITS, "test", Fraction(1, 10_000))[0]
    assert sorted(least.labels.tolist()) == list(range(10))
