"""Decode one image file to 8-bit pixels: upright, and in the size and channels of a benchmark."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageFile, ImageOps, UnidentifiedImageError

from arch.errors import InputError
from benchmarks.datasets.arrays import Pixels
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


def decode_image(path: Path, config: DatasetConfig) -> tuple[Pixels, bool]:
    """Decode an image to uint8 pixels of shape (size, size, channels).

    An image of another size is resized so that its shorter side has `size` pixels, and then center-cropped. Of a file
    with several frames, the first is decoded.

    Returns:
        The pixels, and whether the image had another size.

    Raises:
        InputError: If the file cannot be decoded.
    """
    try:
        with Image.open(path, formats=FORMATS) as file:
            file.load()
            image = _scale_to_8_bits(file).convert("RGB" if config.in_chans == 3 else "L")
            image = _turn_upright(image, file)
    except UnidentifiedImageError as error:
        raise InputError(f"cannot read image {path}: its content is not in a supported format") from error
    except Exception as error:  # decoders raise errors of any type for damaged files
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise InputError(f"cannot read image {path}: {reason}") from error
    size = (config.image_size, config.image_size)
    is_other_size = image.size != size
    if is_other_size:
        image = ImageOps.fit(image, size, Image.Resampling.BICUBIC)
    pixels = np.asarray(image, np.uint8)
    return (pixels[..., None] if config.in_chans == 1 else pixels), is_other_size


def _scale_to_8_bits(file: ImageFile.ImageFile) -> Image.Image:
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


def _turn_upright(image: Image.Image, file: ImageFile.ImageFile) -> Image.Image:
    """Apply the EXIF orientation of a file, which cameras store instead of rotating the pixels."""
    try:
        orientation = file.getexif().get(ExifTags.Base.Orientation)
    except Exception:  # damaged EXIF data, of which Pillow raises errors of any type
        return image
    return image.transpose(TRANSPOSITIONS[orientation]) if orientation in TRANSPOSITIONS else image
