"""`DataReport`: what a data set contains, and what is wrong with it."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from benchmarks.definition.benchmark import DatasetConfig

if TYPE_CHECKING:
    import pandas as pd

MAX_IMAGE_SIZE = 224  # pixels; the largest suggestion
SIZE_STEP = 8  # pixels; suggestions are multiples of it


@dataclass(frozen=True)
class DataReport:
    """What a data set contains, and what is wrong with it.

    Attributes:
        place: The folder, file or source of the images.
        classes: The names of the classes, including those without images.
        images: One line per readable image: split, class, name, width, height, colors and digest. The digest is a hash
            of the upright pixels, so that copies in other formats are found too.
        conversions: One line for each kind of conversion that changes pixels.
        notes: What a user should know.
        problems: Why the images cannot be used as they are.
        thumbnails: Some images of each class and split.
    """

    place: str
    classes: tuple[str, ...]
    images: "pd.DataFrame"
    conversions: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    thumbnails: dict[tuple[str, str], list[Image.Image]] = field(default_factory=dict)

    @property
    def counts(self) -> "pd.DataFrame":
        """The number of images of each class (rows) in each split (columns)."""
        counts = self.images.groupby(["class", "split"]).size().unstack(fill_value=0)
        splits = [name for name in ("train", "test") if name in counts]
        return counts.reindex(list(self.classes), fill_value=0)[splits]

    @property
    def sizes(self) -> "pd.Series[int]":
        """The number of images by size, such as "640 x 480", the most frequent first."""
        sizes = self.images["width"].astype(str) + " x " + self.images["height"].astype(str)
        return sizes.value_counts()

    @property
    def colors(self) -> "pd.Series[int]":
        """The number of images by their colors, such as "RGB" and "gray", the most frequent first."""
        return self.images["colors"].value_counts()

    @property
    def leaks(self) -> "pd.DataFrame":
        """The images that are in several splits, sorted so that copies follow each other."""
        return self._copies("split")

    @property
    def contradictions(self) -> "pd.DataFrame":
        """The images that are in several classes, sorted so that copies follow each other."""
        return self._copies("class")

    def num_copies_within(self, split: str) -> int:
        """Return the number of images of a split that are copies of an earlier image of this split."""
        return int(self.images[self.images["split"] == split]["digest"].duplicated().sum())

    def suggested_data(self) -> DatasetConfig:
        """Return the [data] section of a benchmark that reads these images from a folder or a CSV file."""
        shorter_sides = self.images[["width", "height"]].min(axis=1)
        size = min(MAX_IMAGE_SIZE, int(shorter_sides.median()) // SIZE_STEP * SIZE_STEP)
        return DatasetConfig(
            "folder",
            max(2, len(self.classes)),
            image_size=max(SIZE_STEP, size),
            in_chans=1 if set(self.images["colors"]) == {"gray"} else 3,
            test_fraction=None if "test" in set(self.images["split"]) else 0.2,
        )

    def _copies(self, column: str) -> "pd.DataFrame":
        num_values = self.images.groupby("digest")[column].transform("nunique")
        return self.images[num_values > 1].sort_values(["digest", "split", "class", "name"])


def toml_lines(data: DatasetConfig, root: Path) -> list[str]:
    """Return the [data] section of a benchmark for a folder, with the command-line option as a comment."""
    lines = [
        "[data]",
        f'source = "{data.source}"  # with --data {root}',
        f"num_classes = {data.num_classes}",
        f"image_size = {data.image_size}",
        f"in_chans = {data.in_chans}",
    ]
    return lines if data.test_fraction is None else [*lines, f"test_fraction = {data.test_fraction}"]
