"""Decode one image to 8-bit pixels: upright, and in the size and channels of a benchmark."""

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from arch.errors import InputError
from benchmarks.datasets.arrays import Pixels
from benchmarks.datasets.conversions import (
    FEWER_BITS,
    NO_TRANSPARENCY,
    UPRIGHT,
    describe_color_change,
    describe_resizing,
    has_more_than_8_bits,
    has_transparency,
)
from benchmarks.definition.benchmark import DatasetConfig

DECODER_VERSION = 3  # increase whenever a file is decoded to different pixels
# The content of a file determines its format, whatever its suffix. Pillow could open more formats than these, but runs
# other programs for some of them (EPS).
FORMATS = ("AVIF", "BMP", "DIB", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TGA", "TIFF", "WEBP")
TRANSPOSITIONS = {  # EXIF orientation -> how to turn the image upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
BITS_PER_SAMPLE = 258  # TIFF tag


def decode_image(path: Path, config: DatasetConfig) -> tuple[Pixels, tuple[str, ...]]:
    """Decode an image file. See `decode`.

    Raises:
        InputError: If the file cannot be decoded.
    """
    return decode(path, str(path), config)


def decode(content: Path | bytes | Image.Image, name: str, config: DatasetConfig) -> tuple[Pixels, tuple[str, ...]]:
    """Decode an image to uint8 pixels of shape (size, size, channels).

    An image of another size is resized so that its shorter side has `size` pixels, and then center-cropped. Of a file
    with several frames, the first is decoded.

    Args:
        content: A file, the content of a file, or an image.
        name: The name of the image in error messages.
        config: The size and the channels.

    Returns:
        The pixels, and the conversions that were necessary.

    Raises:
        InputError: If the image cannot be decoded.
    """
    image, conversions = decode_to_8_bits(content, name, "RGB" if config.in_chans == 3 else "L")
    size = (config.image_size, config.image_size)
    if image.size != size:
        conversions += describe_resizing(image.size, config.image_size)
        image = ImageOps.fit(image, size, Image.Resampling.BICUBIC)
    pixels = np.asarray(image, np.uint8)
    return (pixels[..., None] if config.in_chans == 1 else pixels), conversions


def decode_to_8_bits(content: Path | bytes | Image.Image, name: str, mode: str) -> tuple[Image.Image, tuple[str, ...]]:
    """Decode an image in its own size, upright and with 8 bits per channel.

    Args:
        content: A file, the content of a file, or an image.
        name: The name of the image in error messages.
        mode: The mode of the result: "RGB", or "L" for gray.

    Returns:
        The image, and the conversions that were necessary.

    Raises:
        InputError: If the image cannot be decoded.
    """
    if isinstance(content, Path) and content.exists() and not (content.is_file() or content.is_dir()):
        raise InputError(f"cannot read image {name}: it is not a regular file")  # reading a named pipe would block
    try:
        if isinstance(content, Image.Image):
            return _convert(content, mode)
        with Image.open(BytesIO(content) if isinstance(content, bytes) else content, formats=FORMATS) as file:
            return _convert(file, mode)
    except UnidentifiedImageError as error:
        raise InputError(f"cannot read image {name}: its content is not in a supported format") from error
    except Exception as error:  # decoders raise errors of any type for damaged files
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise InputError(f"cannot read image {name}: {reason}") from error


def read_mode(content: Path | Image.Image) -> str:
    """Return Pillow's mode of an image or a readable image file."""
    if isinstance(content, Image.Image):
        return content.mode
    with Image.open(content, formats=FORMATS) as file:
        return file.mode


def _convert(file: Image.Image, mode: str) -> tuple[Image.Image, tuple[str, ...]]:
    conversions: tuple[str, ...] = (FEWER_BITS,) if has_more_than_8_bits(file) else ()
    file.load()
    if has_transparency(file):
        conversions += (NO_TRANSPARENCY,)
    conversions += describe_color_change(file.mode, mode)
    image = _scale_to_8_bits(file).convert(mode)
    transposition = _find_transposition(file)
    if transposition is None:
        return image, conversions
    return image.transpose(transposition), (*conversions, UPRIGHT)


def _scale_to_8_bits(file: Image.Image) -> Image.Image:
    """Scale 16-bit, 32-bit and float images to 8 bits. Pillow would clip them.

    Raises:
        ValueError: If the values exceed their range: 0 to 1 for floats, and 16 bits for integers, as in PGM files,
            which Pillow scales to 16 bits.
    """
    if file.mode == "F":
        values = _check_range(np.asarray(file), 1)
        return Image.fromarray(np.rint(values * 255).astype(np.uint8))
    if file.mode.startswith("I"):
        bits = file.tag_v2[BITS_PER_SAMPLE][0] if file.format == "TIFF" else 16  # type: ignore[attr-defined]
        maximum = 2 ** min(bits, 16) - 1
        values = _check_range(np.asarray(file), maximum)
        return Image.fromarray(((values.astype(np.int64) * 255 + maximum // 2) // maximum).astype(np.uint8))
    return file


def _check_range(values: NDArray[Any], maximum: int) -> NDArray[Any]:
    low, high = values.min(), values.max()
    if not (low >= 0 and high <= maximum):  # also if one is not a number
        kind = "float" if values.dtype.kind == "f" else "integer"
        raise ValueError(f"its {kind} values range from {low:.6g} to {high:.6g}, not from 0 to {maximum}")
    return values


def _find_transposition(file: Image.Image) -> Image.Transpose | None:
    """Return how to turn an image upright, from the EXIF data that cameras store instead of rotating the pixels."""
    try:
        return TRANSPOSITIONS.get(file.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # damaged EXIF data, of which Pillow raises errors of any type
        return None
