"""The images that a step fixes or breaks, as thumbnails in the HTML report."""

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ablation.analysis.errors import Integers
from ablation.plans.row import Row
from benchmarks.datasets.arrays import ImageArrays

MAX_PAIRS = 30
MAX_IMAGES = 16  # fixed, and as many broken ones, per pair of rows
MAX_SIDE = 48  # pixels
MAX_LOSSLESS_SIDE = 32  # pixels; larger thumbnails are JPEG files


def no_images(reason: str) -> dict[str, Any]:
    """Return the section without images."""
    return {"pairs": [], "thumbnails": {}, "notes": [reason]}


def changed_images(rows: Sequence[Row], by_row: Mapping[int, Integers], images: ImageArrays) -> dict[str, Any]:
    """Return the images that most seeds of one row predict correctly and most seeds of another one do not.

    Args:
        rows: The rows of the plan.
        by_row: The predictions of the rows that have any, shape (seeds, images).
        images: The images and their labels.
    """
    pairs = [_pair(before, after, by_row, images.labels) for before, after in _pairs(rows, by_row)]
    shown = sorted({entry["image"] for pair in pairs for entry in (*pair["fixed"], *pair["broken"])})
    thumbnails = {str(index): _thumbnail(images.images[index]) for index in shown}
    return {"pairs": pairs, "thumbnails": thumbnails, "notes": []}


def _pairs(rows: Sequence[Row], by_row: Mapping[int, Integers]) -> list[tuple[int, int]]:
    """Return pairs of rows: each row with the one that it is compared with, then each row with the first one."""
    steps = [(row.against[0][0], index) for index, row in enumerate(rows) if len(row.against) == 1]
    steps += [(0, index) for index in range(1, len(rows))]
    known = [(before, after) for before, after in dict.fromkeys(steps) if before in by_row and after in by_row]
    return known[:MAX_PAIRS]


def _pair(before: int, after: int, by_row: Mapping[int, Integers], labels: Integers) -> dict[str, Any]:
    correct_before, correct_after = ((by_row[row] == labels).mean(axis=0) for row in (before, after))
    gain = correct_after - correct_before

    def entries(is_changed: NDArray[np.bool_], gain: NDArray[np.float64]) -> list[dict[str, int]]:
        indices = np.random.default_rng(0).permutation(np.flatnonzero(is_changed))  # equal gains: images of all classes
        largest = indices[np.argsort(-gain[indices], kind="stable")][:MAX_IMAGES]
        return [_entry(int(index), by_row[before], by_row[after], labels) for index in largest]

    is_fixed = (correct_after > 0.5) & (correct_before < 0.5)
    is_broken = (correct_after < 0.5) & (correct_before > 0.5)
    return {
        "before": before,
        "after": after,
        "num_fixed": int(is_fixed.sum()),
        "num_broken": int(is_broken.sum()),
        "fixed": entries(is_fixed, gain),
        "broken": entries(is_broken, -gain),
    }


def _entry(index: int, before: Integers, after: Integers, labels: Integers) -> dict[str, int]:
    """Return an image with its class, and the class that each row predicts: see `_predicted`."""
    label = int(labels[index])
    return {
        "image": index,
        "class": label,
        "before": _predicted(before[:, index], label),
        "after": _predicted(after[:, index], label),
    }


def _predicted(predictions: Integers, label: int) -> int:
    """Return the label if most seeds predict it, otherwise the wrong class that most of the others predict."""
    wrong = predictions[predictions != label]
    return label if 2 * len(wrong) < len(predictions) else int(np.bincount(wrong).argmax())


def _thumbnail(pixels: NDArray[np.uint8]) -> str:
    """Return an image of shape (height, width, channels) as a data URL."""
    image = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels[:, :, :3])
    image.thumbnail((MAX_SIDE, MAX_SIDE))
    file_format = "PNG" if max(image.size) <= MAX_LOSSLESS_SIDE else "JPEG"
    file = io.BytesIO()
    image.save(file, file_format, **({"optimize": True} if file_format == "PNG" else {"quality": 80}))
    return f"data:image/{file_format.lower()};base64,{base64.b64encode(file.getvalue()).decode()}"
