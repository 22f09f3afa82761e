"""Test a folder as people have it: the pixels against Pillow's own conversions, and what is reported."""

import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps

from benchmarks.datasets.cache import CachedDataset
from benchmarks.datasets.examine import examine_files
from benchmarks.datasets.prepare import prepare_dataset
from benchmarks.definition.benchmark import DatasetConfig
from benchmarks.execution.progress import Progress, silent

SIZE = 16
CONFIG = DatasetConfig("folder", 2, image_size=SIZE)
CLASSES = ("a cat", "犬 été")
Samples = Callable[[CachedDataset, DatasetConfig], list[list[bytes]]]


def noise(name: str, height: int = SIZE, width: int = SIZE, channels: int = 3) -> NDArray[np.uint8]:
    return np.random.default_rng(zlib.crc32(name.encode())).integers(0, 256, (height, width, channels), np.uint8)


def rotated(path: Path) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    Image.fromarray(noise("rotated")).save(path, exif=exif, quality=95)


def gray_16_bits(path: Path) -> None:
    Image.fromarray(noise("16 bits")[..., 0].astype(np.uint16) * 257).save(path)


def color_16_bits(path: Path) -> None:
    """Write a 16-bit color PPM file, which Pillow reads but cannot write."""
    values = noise("16 bits").astype(">u2") * 257
    path.write_bytes(b"P6\n%d %d\n65535\n" % (SIZE, SIZE) + values.astype(">u2").tobytes())


def plain(name: str, height: int = SIZE, width: int = SIZE, mode: str = "RGB") -> Callable[[Path], None]:
    return lambda path: Image.fromarray(noise(name, height, width)).convert(mode).save(path)


def palette(path: Path) -> None:
    Image.fromarray(noise("palette")).quantize(16).save(path)


def transparent(path: Path) -> None:
    Image.fromarray(noise("transparent", channels=4)).save(path)


WRITERS: dict[str, Callable[[Path], None]] = {
    "Train/a cat/plain.png": plain("plain"),
    "Train/a cat/rotated.JPG": rotated,
    "Train/a cat/palette.PNG": palette,
    "Train/a cat/palette.gif": palette,
    "Train/a cat/cmyk.jpeg": plain("cmyk", mode="CMYK"),
    "Train/a cat/deep/er/16 bits.png": gray_16_bits,
    "Train/a cat/color.ppm": color_16_bits,
    "Train/犬 été/gray.TIF": plain("gray", mode="L"),
    "Train/犬 été/transparent.png": transparent,
    "Train/犬 été/wide.bmp": plain("wide", SIZE, 3 * SIZE),
    "Train/犬 été/large.webp": plain("large", 2 * SIZE, 2 * SIZE),
    "val/a cat/ü.png": plain("first"),
    "val/犬 été/0.png": plain("second"),
}


def with_pillow(path: Path) -> NDArray[np.uint8]:
    """Decode a file as Pillow's documentation recommends."""
    with Image.open(path) as file:
        image = ImageOps.exif_transpose(file)
        if image.mode.startswith("I"):
            image = Image.fromarray((np.asarray(image) // 257).astype(np.uint8))
        return np.asarray(ImageOps.fit(image.convert("RGB"), (SIZE, SIZE), Image.Resampling.BICUBIC))


@pytest.fixture
def folder(tmp_path: Path, cache: Path) -> Path:
    """Create a folder with every oddity that can be read."""
    root = tmp_path / "my images"
    for name, write in WRITERS.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        write(root / name)
    for name in ("Train/.DS_Store", "Train/a cat/.DS_Store", "Train/a cat/Thumbs.db", "val/.hidden.png"):
        (root / name).write_bytes(b"not an image")
    for name in ("Train/a cat/phone.HEIC", "Train/a cat/notes.txt"):
        (root / name).touch()
    (tmp_path / "elsewhere").mkdir()
    plain("linked")(tmp_path / "elsewhere" / "0.png")
    plain("link")(tmp_path / "other.png")
    (root / "Train/犬 été/linked").symlink_to(tmp_path / "elsewhere")
    (root / "Train/犬 été/link.png").symlink_to(tmp_path / "other.png")
    return root


IMAGES = [*WRITERS, "Train/犬 été/linked/0.png", "Train/犬 été/link.png"]
CONVERSIONS = {  # a part of each report -> (count, example)
    "turned upright according to the EXIF orientation": (1, "rotated.JPG"),
    "converted from palette colors to RGB": (2, "palette.PNG"),
    "converted from CMYK to RGB": (1, "cmyk.jpeg"),
    "scaled from more than 8 bits to 8 bits": (2, "16 bits.png"),
    "converted from gray to RGB": (2, "16 bits.png"),
    "stripped of transparency": (1, "transparent.png"),
    f"resized to {SIZE} x {SIZE} px": (1, "large.webp"),
    "center-cropped": (1, "wide.bmp"),
}


def test_pixels_are_those_of_pillow(folder: Path, samples: Samples) -> None:
    decoded = samples(prepare_dataset(CONFIG, folder), CONFIG)
    for split, images in zip(("Train", "val"), decoded, strict=True):
        names = [name for name in IMAGES if name.startswith(f"{split}/")]
        expected = [bytes([CLASSES.index(name.split("/")[1])]) + with_pillow(folder / name).tobytes() for name in names]
        assert sorted(images) == sorted(expected)


def test_each_conversion_is_reported_once(folder: Path) -> None:
    reports: list[Progress] = []
    assert prepare_dataset(CONFIG, folder, report=reports.append).classes == CLASSES
    warnings = [report.warning for report in reports if report.warning]
    for conversion, (count, example) in CONVERSIONS.items():
        [warning] = [warning for warning in warnings if conversion in warning]
        assert warning.startswith(f"{count} of {len(IMAGES)} images ")
        assert "such as Train/" in warning
        if count == 1:
            assert warning.endswith(example)
    others = [warning for warning in warnings if not any(conversion in warning for conversion in CONVERSIONS)]
    assert len(others) == 2
    assert "val/ is used as the test split" in others[0]
    assert "1 .txt, 1 .heic" in others[1]


def test_gray_benchmarks_report_the_loss_of_color(folder: Path) -> None:
    reports: list[Progress] = []
    prepare_dataset(DatasetConfig("folder", 2, SIZE, in_chans=1), folder, report=reports.append)
    text = " ".join(report.warning for report in reports)
    assert f"10 of {len(IMAGES)} images were converted from RGB to gray" in text
    assert "2 of 15 images were converted from palette colors to gray" in text
    assert "from gray to RGB" not in text


def test_examination_reports_the_same_conversions(folder: Path) -> None:
    report = examine_files(folder, CONFIG, silent)
    reports: list[Progress] = []
    prepare_dataset(CONFIG, folder, report=reports.append)
    assert {*report.conversions, *report.notes} == {report.warning for report in reports if report.warning}
    assert report.problems == ()
    assert report.counts.to_dict() == {"train": {"a cat": 7, "犬 été": 6}, "test": {"a cat": 1, "犬 été": 1}}


@pytest.mark.parametrize("opaque", [True, False])
def test_only_visible_transparency_is_a_conversion(folder: Path, opaque: bool) -> None:
    pixels = noise("opaque", channels=4)
    pixels[..., 3] = 255 if opaque else 254
    Image.fromarray(pixels).save(folder / "Train/a cat/plain.png")
    [line] = [line for line in examine_files(folder, CONFIG, silent).conversions if "transparency" in line]
    assert line.startswith(f"{1 if opaque else 2} of ")
