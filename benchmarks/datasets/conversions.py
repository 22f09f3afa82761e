"""Conversions that change the pixels of images: their names, and one report for each kind."""

from collections import Counter
from collections.abc import Sequence

from PIL import Image

from arch.text import plural

UPRIGHT = "turned upright according to the EXIF orientation"
FEWER_BITS = "scaled from more than 8 bits to 8 bits"
NO_TRANSPARENCY = "stripped of transparency"

# Pillow's mode -> name of its colors
COLOR_NAMES = {
    **dict.fromkeys(("1", "L", "LA", "La", "I;16", "I;16L", "I;16B", "I;16N", "I", "F"), "gray"),
    **dict.fromkeys(("P", "PA"), "palette colors"),
    **dict.fromkeys(("RGB", "RGBA", "RGBX", "RGBa"), "RGB"),
}
PPM_DECODERS = ("ppm", "ppm_plain")  # Pillow's decoders of PPM files; their last argument is the largest value


def color_name(mode: str) -> str:
    """Return the name of the colors of a mode of Pillow, such as "gray" for "L"."""
    return COLOR_NAMES.get(mode, mode)


def describe_color_change(mode: str, target: str) -> tuple[str, ...]:
    """Return the conversion from one mode of Pillow to another; empty if both have the same colors."""
    before, after = color_name(mode), color_name(target)
    return () if before == after else (f"converted from {before} to {after}",)


def describe_resizing(size: tuple[int, int], target: int) -> tuple[str, ...]:
    """Return the conversion of an image of `size` (width, height) to a square; empty if it has this size already."""
    width, height = size
    if width == height:
        return () if width == target else (f"resized to {target} x {target} px",)
    return (f"resized to {target} px on the shorter side and center-cropped",)


def has_more_than_8_bits(file: Image.Image) -> bool:
    """Return whether the channels of an image file have more than 8 bits. Call this before the file is loaded.

    Pillow reduces color images to 8 bits while it loads them. Until then, `tile` contains the format of the raw data,
    such as "RGB;16B".
    """
    if file.mode.startswith(("I", "F")):
        return True
    for codec, _, _, arguments in getattr(file, "tile", ()):
        values = arguments if isinstance(arguments, tuple) else (arguments,)
        if ";16" in str(values[0]) or (codec in PPM_DECODERS and max(values[1:], default=0) > 255):
            return True
    return False


def has_transparency(image: Image.Image) -> bool:
    """Return whether an image has a transparent pixel, or a color that is declared to be transparent."""
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La"):  # the last letter is the channel
        return image.getchannel(image.mode[-1]).getextrema()[0] != 255
    return "transparency" in image.info


class ConversionCounts:
    """Counts each kind of conversion and keeps its first example."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._examples: dict[str, str] = {}

    def add(self, conversions: Sequence[str], name: str) -> None:
        """Count the conversions of one image.

        Args:
            conversions: What was done to the image.
            name: The name of the image.
        """
        for conversion in conversions:
            self._counts[conversion] += 1
            self._examples.setdefault(conversion, name)

    def lines(self, total: int) -> list[str]:
        """Return one line for each kind of conversion, the most frequent first.

        Args:
            total: The number of images.
        """
        return [
            f"{count:,} of {plural(total, 'image')} {'was' if count == 1 else 'were'} {conversion}, "
            f"such as {self._examples[conversion]}"
            for conversion, count in self._counts.most_common()
        ]
