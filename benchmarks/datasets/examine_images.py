"""Read images one by one and describe them: size, colors, conversions, a hash of the pixels, and a thumbnail."""

import hashlib
import os
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from arch.errors import InputError
from benchmarks.datasets.arrays import Pixels
from benchmarks.datasets.conversions import ConversionCounts, color_name, describe_color_change, describe_resizing
from benchmarks.datasets.decode import decode_to_8_bits, read_mode
from benchmarks.datasets.decode_splits import IMAGES_PER_REPORT
from benchmarks.definition.benchmark import DatasetConfig
from benchmarks.execution.progress import Progress, Report

if TYPE_CHECKING:
    import pandas as pd

THUMBNAIL_SIZE = 64  # pixels
COLUMNS = ("split", "class", "name", "width", "height", "colors", "digest")
GRAY_TO_RGB = describe_color_change("L", "RGB")


@dataclass(frozen=True)
class Sample:
    """An image to examine.

    Attributes:
        split: "train" or "test".
        label: The name of its class.
        name: Its name in the report.
        content: Its file, or its pixels.
        is_shown: Whether to make a thumbnail.
    """

    split: str
    label: str
    name: str
    content: Path | Pixels
    is_shown: bool


@dataclass(frozen=True)
class ExaminedImages:
    """The result of `examine_images`. See `DataReport` for `frame` and `thumbnails`."""

    frame: "pd.DataFrame"
    conversions: ConversionCounts
    unreadable: list[str] = field(default_factory=list)
    thumbnails: dict[tuple[str, str], list[Image.Image]] = field(default_factory=dict)


@dataclass(frozen=True)
class _Description:
    row: dict[str, Any]
    conversions: tuple[str, ...]
    thumbnail: Image.Image | None


def examine_images(samples: Sequence[Sample], config: DatasetConfig | None, report: Report) -> ExaminedImages:
    """Read all images, in one thread per core.

    Args:
        samples: The images.
        config: The size and channels that the conversions are reported for. None: the images keep their size, and
            their color, unless only some of them are gray.
        report: Called with the progress.
    """
    import pandas as pd

    unreadable, rows, conversions = list[str](), list[dict[str, Any]](), list[tuple[str, tuple[str, ...]]]()
    thumbnails: dict[tuple[str, str], list[Image.Image]] = {}
    with ThreadPoolExecutor(os.cpu_count()) as pool, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of damaged metadata without naming the file
        results = pool.map(lambda sample: _describe(sample, config), samples)
        for done, (sample, result) in enumerate(zip(samples, results, strict=True), 1):
            if isinstance(result, InputError):
                unreadable.append(str(result))
                continue
            rows.append(result.row)
            conversions.append((sample.name, result.conversions))
            if result.thumbnail is not None:
                thumbnails.setdefault((sample.label, sample.split), []).append(result.thumbnail)
            if done % IMAGES_PER_REPORT == 0:
                report(Progress("reading images", done, len(samples)))
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    stay_gray = config is None and set(frame["colors"]) == {"gray"}
    counts = ConversionCounts()
    for name, names in conversions:
        counts.add([conversion for conversion in names if not (stay_gray and (conversion,) == GRAY_TO_RGB)], name)
    return ExaminedImages(frame, counts, unreadable, thumbnails)


def _describe(sample: Sample, config: DatasetConfig | None) -> _Description | InputError:
    mode = "L" if config is not None and config.in_chans == 1 else "RGB"
    content = sample.content if isinstance(sample.content, Path) else Image.fromarray(sample.content)
    try:
        image, conversions = decode_to_8_bits(content, sample.name, mode)
    except InputError as error:
        return error
    if config is not None and image.size != (config.image_size, config.image_size):
        conversions += describe_resizing(image.size, config.image_size)
    row = {
        "split": sample.split,
        "class": sample.label,
        "name": sample.name,
        "width": image.width,
        "height": image.height,
        "colors": color_name(read_mode(content)),
        "digest": hashlib.sha256(f"{image.size}".encode() + image.tobytes()).hexdigest(),
    }
    return _Description(row, conversions, _make_thumbnail(image) if sample.is_shown else None)


def _make_thumbnail(image: Image.Image) -> Image.Image:
    """Return the whole image in a white square. Small images are enlarged without smoothing."""
    method = Image.Resampling.NEAREST if max(image.size) < THUMBNAIL_SIZE else Image.Resampling.BICUBIC
    scale = THUMBNAIL_SIZE / max(image.size)
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    square = Image.new("RGB", (THUMBNAIL_SIZE, THUMBNAIL_SIZE), "white")
    corner = (THUMBNAIL_SIZE - size[0]) // 2, (THUMBNAIL_SIZE - size[1]) // 2
    square.paste(image.convert("RGB").resize(size, method), corner)
    return square
