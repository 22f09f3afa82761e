import struct
import warnings
import zlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import ExifTags, Image

from arch.errors import InputError
from benchmarks.datasets.arrays import Pixels
from benchmarks.datasets.decode import decode_image
from benchmarks.definition.benchmark import DatasetConfig

COLOR = DatasetConfig("folder", 2, image_size=8)
GRAY = replace(COLOR, in_chans=1)
RAMP = (np.arange(64, dtype=np.uint8) * 4).reshape(8, 8)  # 0, 4, ... 252
RAMP_16 = RAMP.astype(np.uint16) * 257  # the same shades in 16 bits
NOISE = np.random.default_rng(0).integers(0, 256, (8, 8, 4), np.uint8)

Write = Callable[[Path], object]  # writes an image file


def decode(path: Path, config: DatasetConfig = COLOR) -> Pixels:
    return decode_image(path, config)[0]


def save(pixels: NDArray[Any], **options: Any) -> Write:
    return lambda path: Image.fromarray(pixels).save(path, **options)


def save_as(mode: str, **options: Any) -> Write:
    return lambda path: Image.fromarray(RAMP).convert("RGB").convert(mode).save(path, **options)


def write(content: bytes) -> Write:
    return lambda path: path.write_bytes(content)


def png(bits: int, color_type: int, size: int, rows: bytes) -> bytes:
    """Return a PNG file, also in formats that Pillow does not write."""
    header = struct.pack(">IIBBBBB", size, size, bits, color_type, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    packed = (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


def png_16(channels: int, color_type: int) -> bytes:
    rows = np.repeat(RAMP_16[..., None], channels, axis=2).astype(">u2")
    return png(16, color_type, 8, b"".join(b"\0" + row.tobytes() for row in rows))


def tiff(pixels: bytes, bits: int, sample_format: int = 1, order: str = "<") -> bytes:
    """Return a gray TIFF file of 8 x 8 pixels, also in formats that Pillow does not write."""
    tags = {256: 8, 257: 8, 258: bits, 259: 1, 262: 1, 273: 8, 277: 1, 278: 8, 279: len(pixels), 339: sample_format}
    entries = b"".join(struct.pack(f"{order}HHII", tag, 4, 1, value) for tag, value in tags.items())
    header = struct.pack(f"{order}2sHI", b"II" if order == "<" else b"MM", 42, 8 + len(pixels))
    return header + pixels + struct.pack(f"{order}H", len(tags)) + entries + bytes(4)


def pack_12_bits(values: NDArray[np.uint16]) -> bytes:
    """Return values of 12 bits, two in three bytes."""
    return int("".join(f"{value:03x}" for value in values.ravel()), 16).to_bytes(values.size * 3 // 2, "big")


# formats


GRAY_FILES: dict[str, Write] = {  # files that contain RAMP
    "8 bits.png": save(RAMP),
    "16 bits.png": save(RAMP_16),
    "16 bits.tif": save(RAMP_16),
    "16 bits, big endian.tif": write(tiff(RAMP_16.astype(">u2").tobytes(), 16, order=">")),
    "16 bits.jp2": save(RAMP_16),
    "16 bits.pgm": write(b"P5\n8 8\n65535\n" + RAMP_16.astype(">u2").tobytes()),
    "plain, maxval 510.pgm": write(
        b"P2\n8 8\n510\n" + b" ".join(b"%d" % (2 * shade) for shade in RAMP.ravel().tolist())
    ),
    "maxval 255.pgm": save(RAMP),
    "16-bit color.png": write(png_16(3, 2)),
    "16-bit gray and alpha.png": write(png_16(2, 4)),
    "16-bit color and alpha.png": write(png_16(4, 6)),
    "16-bit color.ppm": write(b"P6\n8 8\n65535\n" + np.repeat(RAMP_16.ravel(), 3).astype(">u2").tobytes()),
    "32-bit integers.tif": save(RAMP_16.astype(np.int32)),
    "32-bit integers, big endian.tif": write(tiff(RAMP_16.astype(">i4").tobytes(), 32, 2, ">")),
    "unsigned 32-bit integers.tif": write(tiff(RAMP_16.astype("<u4").tobytes(), 32)),
    "float.tif": save((RAMP / 255).astype(np.float32)),
    "float, big endian.tif": write(tiff((RAMP / 255).astype(">f4").tobytes(), 32, 3, ">")),
    "float.pfm": save((RAMP / 255).astype(np.float32)),
    "color.png": save_as("RGB"),
    "gray and alpha.png": save_as("LA"),
    "color and alpha.png": save_as("RGBA"),
    "CMYK.tif": save_as("CMYK"),
    "palette.gif": save(RAMP),
    "first of two frames.gif": save(RAMP, save_all=True, append_images=[Image.fromarray(255 - RAMP)]),
    "transparent shade.png": save(RAMP, transparency=40),
    "transparent color.png": save_as("RGB", transparency=(40, 40, 40)),
    "other suffix.jpg": lambda path: Image.fromarray(RAMP).save(path, format="PNG"),
    "Targa.TGA": save(RAMP),
}


@pytest.mark.parametrize("config", [GRAY, COLOR], ids=["gray", "color"])
@pytest.mark.parametrize("name", GRAY_FILES)
def test_every_gray_format_is_decoded_to_the_same_shades(name: str, config: DatasetConfig, tmp_path: Path) -> None:
    GRAY_FILES[name](tmp_path / name)
    assert np.array_equal(decode(tmp_path / name, config), np.stack([RAMP] * config.in_chans, axis=-1))


def test_12_bit_images_are_scaled_by_their_maximum(tmp_path: Path) -> None:
    shades = RAMP.astype(np.uint16) * 16  # 0, 64, ... 4032 of 4095
    expected = np.rint(shades * (255 / 4095))
    (tmp_path / "a.tif").write_bytes(tiff(pack_12_bits(shades), 12))
    (tmp_path / "a.pgm").write_bytes(b"P5\n8 8\n4095\n" + shades.astype(">u2").tobytes())
    assert np.array_equal(decode(tmp_path / "a.tif", GRAY)[..., 0], expected)
    assert np.array_equal(decode(tmp_path / "a.pgm", GRAY)[..., 0], expected)


def test_bilevel_images_are_black_and_white(tmp_path: Path) -> None:
    Image.fromarray(RAMP >= 128).save(tmp_path / "a.png")
    assert np.array_equal(decode(tmp_path / "a.png", GRAY)[..., 0], np.where(RAMP >= 128, 255, 0))


def test_transparency_of_a_palette_is_dropped(tmp_path: Path) -> None:
    image = Image.fromarray(RAMP).convert("RGB").quantize(16)
    expected = np.asarray(image.convert("RGB"))
    image.save(tmp_path / "a.png", transparency=bytes(range(0, 160, 10)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # as in `read_folder`
        assert np.array_equal(decode(tmp_path / "a.png"), expected)


def test_color_is_converted_to_gray_by_pillow(tmp_path: Path) -> None:
    image = Image.fromarray(NOISE[..., :3])
    image.save(tmp_path / "a.png")
    assert np.array_equal(decode(tmp_path / "a.png", GRAY)[..., 0], np.asarray(image.convert("L")))


def test_alpha_is_dropped(tmp_path: Path) -> None:
    Image.fromarray(NOISE).save(tmp_path / "a.png")
    assert np.array_equal(decode(tmp_path / "a.png"), NOISE[..., :3])


@pytest.mark.parametrize("suffix", ["jpg", "JPEG", "jfif", "jpe", "Bmp", "webp", "avif", "jp2", "tif", "ppm", "gif"])
def test_compressed_formats_are_decoded(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"image.{suffix}"
    Image.new("RGB", (8, 8), (100, 100, 100)).save(path)
    assert abs(decode(path).astype(int) - 100).max() <= 2


def test_other_sizes_are_scaled_by_the_shorter_side_and_center_cropped(tmp_path: Path) -> None:
    wide = np.full((16, 64, 3), 255, np.uint8)
    wide[:, :16] = wide[:, -16:] = 0  # removed by the crop
    wide[:, 20:44] = 100
    Image.fromarray(wide).save(tmp_path / "wide.png")
    image, conversions = decode_image(tmp_path / "wide.png", COLOR)
    assert image.shape == (8, 8, 3)
    assert abs(image.astype(int) - 100).max() <= 1
    assert conversions == ("resized to 8 px on the shorter side and center-cropped",)


# orientation


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.webp", "16 bits.png"])
def test_images_are_turned_upright(name: str, orientation: int, tmp_path: Path) -> None:
    stored = [NOISE[..., 0], NOISE[..., 0].T][orientation > 4]
    # EXIF 2.32, tag 274: where row 0 and column 0 of the stored pixels are in the upright image.
    upright = {
        1: stored,
        2: stored[:, ::-1],
        3: stored[::-1, ::-1],
        4: stored[::-1],
        5: stored.T,
        6: stored.T[:, ::-1],
        7: stored.T[::-1, ::-1],
        8: stored.T[::-1],
    }[orientation]
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    pixels = stored.astype(np.uint16) * 257 if name.startswith("16") else stored
    Image.fromarray(pixels).save(tmp_path / name, exif=exif, lossless=True)
    assert np.array_equal(decode(tmp_path / name, GRAY)[..., 0], upright)


def test_jpeg_is_turned_upright_before_it_is_cropped(tmp_path: Path) -> None:
    lying = np.zeros((8, 24, 3), np.uint8)
    lying[:, :8] = 255
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6  # the left side is the top
    Image.fromarray(lying).save(tmp_path / "a.jpg", exif=exif)
    upright = decode(tmp_path / "a.jpg", replace(COLOR, image_size=4))
    Image.fromarray(lying.transpose(1, 0, 2)).save(tmp_path / "b.png")
    expected = decode(tmp_path / "b.png", replace(COLOR, image_size=4))
    assert abs(upright.astype(int) - expected).max() <= 8


@pytest.mark.parametrize(
    "exif", [b"", b"Exif\0\0garbage", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0II*\0\x08\0\0\0\xff\xff"]
)
def test_damaged_exif_data_is_ignored(exif: bytes, tmp_path: Path) -> None:
    Image.fromarray(NOISE[..., :3]).save(tmp_path / "a.webp", lossless=True, exif=exif)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert np.array_equal(decode(tmp_path / "a.webp"), NOISE[..., :3])


# errors


INVALID_FILES: dict[str, tuple[Write, str]] = {
    "float above 1.tif": (save(RAMP.astype(np.float32)), "float values range from 0 to 252, not from 0 to 1"),
    "negative float.tif": (save((RAMP / -255).astype(np.float32)), "float values range from -0.988"),
    "not a number.tif": (save(np.full((8, 8), np.nan, np.float32)), "float values range from nan"),
    "infinity.pfm": (save(np.full((8, 8), np.inf, np.float32)), "float values range from inf"),
    "large integer.tif": (save(RAMP_16.astype(np.int32) + 65536), "from 65536 to 130300, not from 0 to 65535"),
    "negative integer.tif": (write(tiff((RAMP - 5.0).astype("<i2").tobytes(), 16, 2)), "from -5 to 247"),
    "text.png": (write(b"text"), "not in a supported format"),
    "empty.jpg": (write(b""), "not in a supported format"),
    "PostScript.png": (save_as("RGB", format="EPS"), "not in a supported format"),
    "double.tif": (write(tiff((RAMP / 255).tobytes(), 64, 3)), "not in a supported format"),
    "decompression bomb.png": (write(png(8, 2, 50_000, b"")), "decompression bomb"),
    "folder.png": (lambda path: path.mkdir(), "Is a directory"),
    "dangling link.png": (lambda path: path.symlink_to("missing.png"), "No such file"),
    "link to itself.png": (lambda path: path.symlink_to(path.name), "symbolic links"),
}


@pytest.mark.parametrize("name", INVALID_FILES)
def test_invalid_file_is_explained_in_one_line(name: str, tmp_path: Path) -> None:
    create, expected = INVALID_FILES[name]
    create(tmp_path / name)
    with pytest.raises(InputError) as raised:
        decode(tmp_path / name)
    message = str(raised.value)
    assert message.startswith(f"cannot read image {tmp_path / name}: ")
    assert expected in message
    assert "\n" not in message


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "avif", "tif", "gif", "bmp", "jp2", "tga", "ppm"])
def test_truncated_and_damaged_files_are_refused_or_decoded(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(NOISE[..., :3]).resize((32, 32)).save(path)
    content, rng = path.read_bytes(), np.random.default_rng(0)
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match="cannot read image"):
        decode(path)
    for _ in range(20):
        damaged = bytearray(content)
        for position in rng.integers(0, len(content), 4):
            damaged[position] ^= 255
        path.write_bytes(damaged)
        with warnings.catch_warnings(), suppress(InputError):
            warnings.simplefilter("ignore")
            assert decode(path).shape == (8, 8, 3)
