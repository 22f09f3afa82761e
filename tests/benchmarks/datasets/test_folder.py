import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from arch.errors import InputError
from benchmarks.datasets.cache import CachedDataset
from benchmarks.datasets.prepare import prepare_dataset
from benchmarks.definition.benchmark import DatasetConfig
from benchmarks.execution.progress import Progress

CONFIG = DatasetConfig("folder", 2, image_size=8)
CLASSES = ("cat", "dog")

Pixels = NDArray[np.uint8]
WriteImages = Callable[[Path, Mapping[str, Pixels]], Path]
Samples = Callable[[CachedDataset, DatasetConfig], list[list[bytes]]]


def noise(seed: int, size: int = 8, channels: int = 3) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, (size, size, channels), np.uint8)


def make_images(split: str, per_class: int, first_seed: int) -> dict[str, Pixels]:
    """Return noise images for each class, keyed by path."""
    names = [f"{split}/{name}/{index}.png" for name in CLASSES for index in range(per_class)]
    return {name: noise(seed) for seed, name in enumerate(names, first_seed)}


TRAIN, TEST = make_images("train", 4, 0), make_images("test", 2, 8)


@pytest.fixture
def folder(tmp_path: Path, cache: Path, write_images: WriteImages) -> Path:
    """Create an image folder with two classes, each with four training images and two test images."""
    return write_images(tmp_path / "images", TRAIN | TEST)


def test_folder_is_decoded_to_its_pixels(folder: Path, samples: Samples) -> None:
    dataset = prepare_dataset(CONFIG, folder)
    assert dataset.classes == CLASSES
    assert dataset.counts(CONFIG) == (8, 4)
    for images, decoded in zip((TRAIN, TEST), samples(dataset, CONFIG), strict=True):
        expected = [bytes([CLASSES.index(path.split("/")[1])]) + pixels.tobytes() for path, pixels in images.items()]
        assert sorted(decoded) == sorted(expected)


def test_images_are_sorted_by_class(folder: Path) -> None:
    train, _ = prepare_dataset(CONFIG, folder).load(CONFIG, "test")
    assert train.labels.tolist() == [0] * 4 + [1] * 4


def test_file_names_and_subfolders_do_not_matter(
    folder: Path, tmp_path: Path, write_images: WriteImages, samples: Samples
) -> None:
    moved = {path.replace("/cat/", "/cat/deep/er/"): pixels for path, pixels in (TRAIN | TEST).items()}
    shuffled = dict(sorted(moved.items(), key=lambda item: item[1].tobytes()))
    renamed = {str(Path(path).with_name(f"{i:03}.BMP")): pixels for i, (path, pixels) in enumerate(shuffled.items())}
    other = prepare_dataset(CONFIG, write_images(tmp_path / "other", renamed))
    original = prepare_dataset(CONFIG, folder)
    assert other.folder != original.folder
    assert other.fingerprint == original.fingerprint
    assert samples(other, CONFIG) == samples(original, CONFIG)


def test_fingerprint_of_plain_images_never_changes(folder: Path) -> None:
    """Benchmark ids are derived from the fingerprint. Another value would separate new records from existing ones."""
    assert prepare_dataset(CONFIG, folder).fingerprint == "0ea3d171f8390bf4"


def test_another_decoder_decodes_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = prepare_dataset(CONFIG, folder)
    monkeypatch.setattr("benchmarks.datasets.folder.DECODER_VERSION", -1)
    after = prepare_dataset(CONFIG, folder)
    assert after.folder != before.folder
    assert after.fingerprint == before.fingerprint


def test_decoding_reports_progress(folder: Path) -> None:
    reports: list[Progress] = []
    prepare_dataset(CONFIG, folder, report=reports.append)
    assert reports == [Progress("decoding images", 12, 12)]


# changed files


def test_unchanged_folder_is_not_decoded_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = prepare_dataset(CONFIG, folder)
    monkeypatch.setattr("benchmarks.datasets.decode_splits.decode", lambda *_: pytest.fail("decoded again"))
    assert prepare_dataset(CONFIG, folder) == first


def test_changed_image_changes_the_fingerprint(folder: Path, write_images: WriteImages, samples: Samples) -> None:
    before = prepare_dataset(CONFIG, folder)
    write_images(folder, {"train/cat/0.png": noise(99)})
    after = prepare_dataset(CONFIG, folder)
    assert after.fingerprint != before.fingerprint
    assert b"\0" + noise(99).tobytes() in samples(after, CONFIG)[0]


def test_rewritten_image_with_the_same_size_and_time_is_decoded_again(folder: Path) -> None:
    before = prepare_dataset(CONFIG, folder)
    path = folder / "train" / "cat" / "0.png"
    status = path.stat()
    path.write_bytes(path.read_bytes())
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert prepare_dataset(CONFIG, folder).folder != before.folder


def test_added_and_removed_images_are_noticed(folder: Path, write_images: WriteImages) -> None:
    before = prepare_dataset(CONFIG, folder)
    write_images(folder, {"train/cat/new.png": noise(99)})
    assert prepare_dataset(CONFIG, folder).counts(CONFIG) == (9, 4)
    (folder / "train/cat/new.png").unlink()
    assert prepare_dataset(CONFIG, folder) == before


def test_labels_are_part_of_the_fingerprint(folder: Path) -> None:
    before = prepare_dataset(CONFIG, folder)
    (folder / "train/cat/0.png").rename(folder / "train/dog/moved.png")
    assert prepare_dataset(CONFIG, folder).fingerprint != before.fingerprint


# Tiny ImageNet


@pytest.fixture
def tiny_imagenet(tmp_path: Path, cache: Path, write_images: WriteImages) -> Path:
    """Create the layout of Tiny ImageNet: images in images/, val/ with a list of labels, test/ without labels."""
    train = {path.replace("/cat/", "/cat/images/").replace("/dog/", "/dog/images/"): p for path, p in TRAIN.items()}
    root = write_images(tmp_path / "tiny-imagenet-200", train)
    write_images(root, {f"val/images/val_{index}.png": pixels for index, pixels in enumerate(TEST.values())})
    write_images(root, {"test/images/test_0.png": noise(50)})
    lines = [f"val_{index}.png\t{path.split('/')[1]}\t0\t1\t7\t8\n" for index, path in enumerate(TEST)]
    (root / "val" / "val_annotations.txt").write_text("".join(reversed(lines)))
    (root / "train" / "cat" / "cat_boxes.txt").write_text("cat_0.png\t0\t1\t7\t8\n")
    return root


def test_tiny_imagenet_is_read_as_it_is_published(tiny_imagenet: Path, folder: Path, samples: Samples) -> None:
    published, sorted_by_class = prepare_dataset(CONFIG, tiny_imagenet), prepare_dataset(CONFIG, folder)
    assert published.fingerprint == sorted_by_class.fingerprint
    assert samples(published, CONFIG) == samples(sorted_by_class, CONFIG)
    shutil.rmtree(tiny_imagenet / "test")
    assert prepare_dataset(CONFIG, tiny_imagenet).fingerprint == published.fingerprint


def test_test_folder_with_classes_takes_precedence_over_annotations(folder: Path, write_images: WriteImages) -> None:
    before = prepare_dataset(CONFIG, folder)
    write_images(folder, {"val/images/a.png": noise(60)})
    (folder / "val" / "val_annotations.txt").write_text("a.png\tcat\n")
    assert prepare_dataset(CONFIG, folder) == before


def test_val_that_was_sorted_into_classes_is_read(tiny_imagenet: Path) -> None:
    before = prepare_dataset(CONFIG, tiny_imagenet)
    for line in (tiny_imagenet / "val/val_annotations.txt").read_text().splitlines():
        name, label = line.split("\t")[:2]
        (tiny_imagenet / "val" / label).mkdir(exist_ok=True)
        (tiny_imagenet / "val/images" / name).rename(tiny_imagenet / "val" / label / name)
    (tiny_imagenet / "val/images").rmdir()
    assert prepare_dataset(CONFIG, tiny_imagenet).fingerprint == before.fingerprint
    assert len(warnings_of(tiny_imagenet)) == 1


def test_published_layout_has_no_warnings(tiny_imagenet: Path) -> None:
    assert warnings_of(tiny_imagenet) == []


def test_class_names_are_read_without_decoding_again(tiny_imagenet: Path) -> None:
    before = prepare_dataset(CONFIG, tiny_imagenet)
    (tiny_imagenet / "words.txt").write_text("cat\ttomcat, puss\n")
    after = prepare_dataset(CONFIG, tiny_imagenet)
    assert after == replace(before, classes=("tomcat", "dog"))


def test_changed_annotation_changes_the_fingerprint(tiny_imagenet: Path) -> None:
    before = prepare_dataset(CONFIG, tiny_imagenet)
    annotations = tiny_imagenet / "val" / "val_annotations.txt"
    # Relabel the last cat, so that the order of the images stays the same.
    annotations.write_text(annotations.read_text().replace("val_1.png\tcat", "val_1.png\tdog"))
    after = prepare_dataset(CONFIG, tiny_imagenet)
    assert np.bincount(after.load(CONFIG, "test")[1].labels).tolist() == [1, 3]
    assert after.fingerprint != before.fingerprint


@pytest.mark.parametrize(
    ("text", "expected"),
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
def test_invalid_annotations_are_explained_in_one_line(tiny_imagenet: Path, text: str, expected: str) -> None:
    annotations = tiny_imagenet / "val" / "val_annotations.txt"
    annotations.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(InputError, match=expected) as raised:
        prepare_dataset(CONFIG, tiny_imagenet)
    assert str(raised.value).isprintable()


# decoding


def test_other_sizes_and_channels_are_cached_separately(folder: Path) -> None:
    shapes = [
        prepare_dataset(config, folder).load(config, "test")[0].images.shape
        for config in (CONFIG, replace(CONFIG, image_size=16), replace(CONFIG, in_chans=1), CONFIG)
    ]
    assert shapes == [(8, 8, 8, 3), (8, 16, 16, 3), (8, 8, 8, 1), (8, 8, 8, 3)]


# ignored files


def test_hidden_class_folders_and_other_files_are_ignored(folder: Path, write_images: WriteImages) -> None:
    before = prepare_dataset(CONFIG, folder)
    write_images(folder, {"train/.thumbnails/0.png": noise(99)})
    (folder / "train" / "cat" / "notes.txt").write_text("a note")
    (folder / "train" / "README.md").write_text("a note")
    (folder / "extra").mkdir()
    assert prepare_dataset(CONFIG, folder) == before


@pytest.mark.parametrize("name", [".thumbnails/0.png", "._0.png"])
def test_hidden_files_in_a_class_are_ignored(folder: Path, name: str, write_images: WriteImages) -> None:
    before = prepare_dataset(CONFIG, folder)
    write_images(folder, {f"train/cat/{name}": noise(99)})
    assert prepare_dataset(CONFIG, folder).fingerprint == before.fingerprint


def test_empty_folders_with_image_names_are_ignored(folder: Path) -> None:
    before = prepare_dataset(CONFIG, folder)
    (folder / "train" / "cat" / "9.png").mkdir()
    assert prepare_dataset(CONFIG, folder).fingerprint == before.fingerprint


# warnings


def warnings_of(folder: Path, config: DatasetConfig = CONFIG) -> list[str]:
    reports: list[Progress] = []
    prepare_dataset(config, folder, report=reports.append)
    assert all(str(folder) in report.task for report in reports if report.warning)
    return [report.warning for report in reports if report.warning]


def test_plain_folder_has_no_warnings(folder: Path) -> None:
    assert warnings_of(folder) == []


def test_skipped_files_are_counted_also_when_the_images_are_cached(folder: Path) -> None:
    for name in ("train/cat/1.heic", "train/cat/deep/2.HEIC", "test/dog/notes.txt", "train/dog/no_suffix"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).touch()
    for _ in range(2):
        [warning] = warnings_of(folder)
        assert "4 files" in warning
        assert "2 .heic, 1 without suffix, 1 .txt" in warning
        assert "train/cat/1.heic" in warning


def test_names_in_warnings_are_printable(folder: Path) -> None:
    (folder / "train/cat/\x1b[31m\udcff.heic").touch()
    [warning] = warnings_of(folder)
    assert warning.isprintable()
    assert "?[31m?.heic" in warning


def test_resized_images_are_counted_when_they_are_decoded(folder: Path, write_images: WriteImages) -> None:
    write_images(folder, {"train/cat/0.png": noise(99, 16), "test/dog/1.png": noise(98, 9)})
    [warning] = warnings_of(folder)
    assert "2 of 12 images" in warning
    assert "8 x 8 px" in warning
    assert warnings_of(folder) == []
    assert "12 of 12 images" in warnings_of(folder, replace(CONFIG, image_size=4))[0]


# names of the split folders


def test_val_with_classes_is_the_test_split_without_test(folder: Path) -> None:
    before = prepare_dataset(CONFIG, folder)
    (folder / "test").rename(folder / "val")
    for _ in range(2):
        [warning] = warnings_of(folder)
        assert "val/ is used as the test split" in warning
    assert prepare_dataset(CONFIG, folder).fingerprint == before.fingerprint
    (folder / "test" / "unlabeled").mkdir(parents=True)
    assert len(warnings_of(folder)) == 1
    (folder / "val" / "cat").rename(folder / "val" / "car")
    with pytest.raises(InputError, match=r"between train/ and val/ of .*: 'car' is only in val/"):
        prepare_dataset(CONFIG, folder)


def test_test_takes_precedence_over_val(folder: Path) -> None:
    before = prepare_dataset(CONFIG, folder)
    shutil.copytree(folder / "train", folder / "val")
    assert warnings_of(folder) == []
    assert prepare_dataset(CONFIG, folder) == before


def test_val_without_classes_is_explained(folder: Path) -> None:
    shutil.rmtree(folder / "test")
    (folder / "val").mkdir()
    with pytest.raises(InputError, match=r"no test split: .*test_fraction.* val/ is ignored"):
        prepare_dataset(CONFIG, folder)


@pytest.mark.parametrize(("train", "test"), [("Train", "Test"), ("TRAIN", "TEST"), ("Train", "Val")])
def test_split_folders_may_have_capital_letters(folder: Path, train: str, test: str) -> None:
    before = prepare_dataset(CONFIG, folder)
    (folder / "train").rename(folder / train)
    (folder / "test").rename(folder / test)
    assert prepare_dataset(CONFIG, folder).fingerprint == before.fingerprint


def test_lower_case_split_folder_takes_precedence(folder: Path) -> None:
    before = prepare_dataset(CONFIG, folder)
    (folder / "TRAIN").mkdir()
    assert prepare_dataset(CONFIG, folder) == before
    (folder / "train").rename(folder / "Train")
    with pytest.raises(InputError, match="contains TRAIN/ and Train/"):
        prepare_dataset(CONFIG, folder)


def test_class_names_may_have_spaces_and_non_ascii_letters(folder: Path) -> None:
    before = prepare_dataset(CONFIG, folder)
    for split in ("train", "test"):
        (folder / split / "cat").rename(folder / split / "a cat")
        (folder / split / "dog").rename(folder / split / "犬 été")
        (folder / split / ".DS_Store").touch()
    after = prepare_dataset(CONFIG, folder)
    assert after.classes == ("a cat", "犬 été")
    assert after.fingerprint == before.fingerprint


# links


def test_linked_folders_in_a_class_are_read(folder: Path, tmp_path: Path, write_images: WriteImages) -> None:
    write_images(tmp_path / "more", {f"{index}.png": noise(50 + index) for index in range(3)})
    (folder / "train" / "cat" / "more").symlink_to(tmp_path / "more")
    assert prepare_dataset(CONFIG, folder).counts(CONFIG) == (11, 4)


# errors


def write_truncated(path: Path) -> None:
    Image.fromarray(noise(0, 64)).save(path)
    path.write_bytes(path.read_bytes()[:200])


def write_bomb(path: Path) -> None:
    """Write a file of 60 bytes whose header declares 10 gigapixels."""
    Image.fromarray(noise(0, 1)).save(path)
    content = bytearray(path.read_bytes())
    content[18:26] = 2 * (100_000).to_bytes(4, "little")
    path.write_bytes(content)


def remove_files(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()


def remove_folders(folder: Path, *names: str) -> None:
    for name in names:
        shutil.rmtree(folder / name)


def add_class(folder: Path, *splits: str) -> None:
    for split in splits:
        (folder / split / "eel").mkdir()
        Image.fromarray(noise(0)).save(folder / split / "eel" / "0.png")


INVALID_FOLDERS: dict[str, tuple[Callable[[Path], object], str]] = {
    "one class": (lambda f: remove_folders(f, "train/dog", "test/dog"), "train has 1"),
    "no class": (lambda f: remove_folders(f, "train/dog", "train/cat"), "train has 0"),
    "empty class": (lambda f: remove_files(f / "test/cat"), "test/cat contains no images"),
    "missing class": (lambda f: add_class(f, "train"), "'eel' is only in train/"),
    "other class": (lambda f: (f / "test/cat").rename(f / "test/car"), "'car' is only in test/"),
    "third class": (lambda f: add_class(f, "train", "test"), "has 3 classes, but this benchmark has 2"),
    "text": (lambda f: (f / "train/cat/9.png").write_bytes(b"text"), "cannot read image"),
    "empty file": (lambda f: (f / "test/dog/9.jpg").write_bytes(b""), "test/dog/9.jpg: "),
    "truncated": (lambda f: write_truncated(f / "train/cat/9.png"), "train/cat/9.png: "),
    "truncated JPEG": (lambda f: write_truncated(f / "train/cat/9.jpg"), "train/cat/9.jpg: "),
    "named pipe": (lambda f: os.mkfifo(f / "train/cat/9.png"), "train/cat/9.png: it is not a regular file"),
    "link to a device": (lambda f: (f / "test/dog/9.png").symlink_to("/dev/zero"), "9.png: it is not a regular file"),
    "only other files": (
        lambda f: [path.rename(path.with_suffix(".heic")) for path in (f / "test/cat").iterdir()],
        "test/cat contains no images (.apng, .avif,",
    ),
    "bomb": (lambda f: write_bomb(f / "train/cat/9.bmp"), "train/cat/9.bmp: "),
    "dangling link": (lambda f: (f / "train/cat/9.png").symlink_to(f / "missing.png"), "train/cat/9.png: "),
}


@pytest.mark.parametrize(("change", "expected"), INVALID_FOLDERS.values(), ids=INVALID_FOLDERS.keys())
def test_invalid_folder_is_explained_in_one_line(folder: Path, change: Callable[[Path], object], expected: str) -> None:
    change(folder)
    with pytest.raises(InputError) as raised:
        prepare_dataset(CONFIG, folder)
    message = str(raised.value)
    assert expected in message
    assert str(folder) in message
    assert "\n" not in message


def test_folder_is_read_after_a_damaged_image_was_replaced(folder: Path, write_images: WriteImages) -> None:
    write_truncated(folder / "train" / "cat" / "9.png")
    with pytest.raises(InputError, match=r"9\.png"):
        prepare_dataset(CONFIG, folder)
    write_images(folder, {"train/cat/9.png": noise(99)})
    assert prepare_dataset(CONFIG, folder).counts(CONFIG) == (9, 4)
