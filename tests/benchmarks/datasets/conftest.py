"""Fixtures for dataset tests: an empty cache and image files."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from benchmarks.datasets.cache import CachedDataset
from benchmarks.definition.benchmark import DatasetConfig


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Use an empty cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="session")
def write_images() -> Callable[[Path, Mapping[str, NDArray[np.uint8]]], Path]:
    """Write images to the given paths in a folder, and return the folder."""

    def write(root: Path, images: Mapping[str, NDArray[np.uint8]]) -> Path:
        for name, pixels in images.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)
        return root

    return write


@pytest.fixture(scope="session")
def samples() -> Callable[[CachedDataset, DatasetConfig], list[list[bytes]]]:
    """Return the label and the pixels of each training image and each test image, in order."""

    def load(dataset: CachedDataset, config: DatasetConfig) -> list[list[bytes]]:
        return [
            [bytes([label]) + image.tobytes() for image, label in zip(split.images, split.labels, strict=True)]
            for split in dataset.load(config, "test")
        ]

    return load
