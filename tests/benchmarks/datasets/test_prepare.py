from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from arch.errors import InputError
from benchmarks.datasets.prepare import prepare_dataset
from benchmarks.definition.benchmark import DatasetConfig

DIGITS = DatasetConfig("digits", 10, image_size=8, in_chans=1, test_per_class=50)
FOLDER = DatasetConfig("folder", 2, image_size=8)


@pytest.mark.parametrize("changes", [{"image_size": 32}, {"in_chans": 3}, {"num_classes": 5}, {"num_classes": 12}])
def test_config_must_have_the_shape_of_a_known_dataset(cache: Path, changes: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"num_classes = 10, image_size = 8 and in_chans = 1, not"):
        prepare_dataset(replace(DIGITS, **changes), None)


@pytest.mark.parametrize(
    ("config", "root", "expected"),
    [
        (FOLDER, "missing", "--data .*missing is not a folder"),
        (FOLDER, "x" * 300, "--data .*xxx is not a folder"),
        (FOLDER, "images/train/cat/0.png", "--data .*0.png is not a folder"),
        (FOLDER, None, "train/<class>/ and test/<class>/: pass --data DIR"),
        (FOLDER, "images/train", "train/<class>/ and test/<class>/: --data .*train does not contain them"),
        (DIGITS, "images/train", "--data .*train has no train/ and test/ folders; digits needs no --data"),
    ],
)
def test_unusable_root_is_explained(
    config: DatasetConfig,
    root: str | None,
    expected: str,
    tmp_path: Path,
    cache: Path,
    write_images: Callable[..., Path],
) -> None:
    write_images(tmp_path / "images", {"train/cat/0.png": np.zeros((8, 8, 3), np.uint8)})
    with pytest.raises(InputError, match=expected):
        prepare_dataset(config, tmp_path / root if root else None)
