import importlib.util
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from arch.errors import InputError
from benchmarks.datasets.prepare import prepare_dataset
from benchmarks.definition.benchmark import DatasetConfig

CONFIG = DatasetConfig("hf", 2, image_size=8)
HAS_DATASETS = importlib.util.find_spec("datasets") is not None
needs_datasets = pytest.mark.skipif(not HAS_DATASETS, reason="needs Hugging Face datasets")

# Writes a data set whose images are those of an image folder. It runs in another process, because `datasets` warns.
WRITE = """
import sys
from pathlib import Path
from datasets import ClassLabel, Dataset, DatasetDict, Features, Image, Value
source, target, kind = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
features = Features({"photo": Image(), "animal": ClassLabel(names=["cat", "dog"]), "color": ClassLabel(names=["red"]),
                     "text": Value("string")})
if kind != "two labels":
    features.pop("color")
if kind == "texts":
    features.pop("animal")
splits = DatasetDict()
for split in ("train", "test"):
    paths = sorted((source / split).glob("*/*.png"))
    columns = {"photo": [{"bytes": path.read_bytes(), "path": None} for path in paths],
               "animal": [-1 if kind == "unlabeled" and split == "test" else "cat dog".split().index(path.parent.name)
                          for path in paths],
               "color": [0] * len(paths), "text": [path.parent.name for path in paths]}
    splits[split] = Dataset.from_dict({name: columns[name] for name in features}, features=features)
if kind == "unlabeled":
    splits["validation"] = splits["train"]
if kind == "parquet":
    (target / "data").mkdir(parents=True)
    for split, rows in splits.items():
        rows.to_parquet(target / "data" / f"{split}-00000-of-00001.parquet")
else:
    (splits["train"] if kind == "single" else splits).save_to_disk(target)
"""


@pytest.fixture
def folder(tmp_path: Path, cache: Path, write_images: Callable[[Path, Mapping[str, NDArray[np.uint8]]], Path]) -> Path:
    """Create an image folder."""
    names = [f"{split}/{label}/{i}.png" for split in ("train", "test") for label in ("cat", "dog") for i in range(4)]
    images = {
        name: np.random.default_rng(seed).integers(0, 256, (8, 8, 3), np.uint8) for seed, name in enumerate(names)
    }
    return write_images(tmp_path / "images", images)


@pytest.fixture
def save(folder: Path, tmp_path: Path) -> Callable[[str], Path]:
    """Return a function that saves the images of the folder with `datasets`, and returns the new folder."""

    def save_images(kind: str) -> Path:
        command = [sys.executable, "-W", "ignore", "-c", WRITE, str(folder), str(tmp_path / "saved"), kind]
        subprocess.run(command, check=True, capture_output=True)
        return tmp_path / "saved"

    return save_images


@needs_datasets
@pytest.mark.slow
@pytest.mark.parametrize("kind", ["saved", "parquet"])
def test_local_copy_is_equal_to_the_image_folder(kind: str, folder: Path, save: Callable[[str], Path]) -> None:
    dataset = prepare_dataset(CONFIG, save(kind))
    assert dataset.fingerprint == prepare_dataset(CONFIG, folder).fingerprint
    assert (dataset.classes, dataset.counts(CONFIG)) == (("cat", "dog"), (8, 8))


@needs_datasets
@pytest.mark.slow
def test_split_of_a_single_data_set_is_that_of_the_image_folder(folder: Path, save: Callable[[str], Path]) -> None:
    saved, config = save("single"), DatasetConfig("hf", 2, image_size=8, test_fraction=0.25)
    dataset = prepare_dataset(config, saved)
    (folder / "test").rename(folder / "other")
    assert dataset.fingerprint == prepare_dataset(config, folder).fingerprint
    with pytest.raises(InputError, match=r"no test split.*test_fraction"):
        prepare_dataset(CONFIG, saved)


@needs_datasets
@pytest.mark.slow
def test_unlabeled_test_split_is_replaced_by_the_validation_split(save: Callable[[str], Path]) -> None:
    reports: list[Any] = []
    dataset = prepare_dataset(CONFIG, save("unlabeled"), report=reports.append)
    assert dataset.counts(CONFIG) == (8, 8)
    assert "the split validation is used" in "".join(report.warning for report in reports)


@needs_datasets
@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "fields", "expected"),
    [
        ("two labels", {}, r"several columns contain labels: set label_column.* animal \(ClassLabel\), color"),
        ("two labels", {"label_column": "color"}, "has 1 class, but this benchmark has 2"),
        ("two labels", {"label_column": "animal"}, None),
        ("texts", {}, "no column has the type of labels; columns: photo"),
        ("texts", {"label_column": "text"}, None),
        ("texts", {"image_column": "image", "label_column": "text"}, "image_column 'image' is not a column of images"),
        ("saved", {"test_fraction": 0.5}, r"has a test split \(test\): remove test_fraction"),
    ],
)
def test_columns_are_found_by_type_or_name(
    kind: str, fields: dict[str, Any], expected: str | None, save: Callable[[str], Path]
) -> None:
    config = DatasetConfig("hf", 2, image_size=8, **fields)
    if expected is None:
        assert prepare_dataset(config, save(kind)).classes == ("cat", "dog")
        return
    with pytest.raises(InputError, match=expected):
        prepare_dataset(config, save(kind))


@needs_datasets
@pytest.mark.slow
def test_network_is_used_only_with_download(cache: Path) -> None:
    with pytest.raises(InputError, match=r"hf/nobody/nothing cannot be loaded .*: pass --download"):
        prepare_dataset(DatasetConfig("hf/nobody/nothing", 2), None)


@needs_datasets
@pytest.mark.slow
def test_other_folders_are_explained(tmp_path: Path, cache: Path) -> None:
    (tmp_path / "model.bin").write_bytes(b"x")
    with pytest.raises(InputError, match="is neither a saved data set nor a folder of Parquet files"):
        prepare_dataset(CONFIG, tmp_path)


@pytest.mark.parametrize("installed", ["not installed", "3.6.0"])
def test_missing_and_old_packages_are_explained(
    installed: str, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.datasets.huggingface.installed_version", lambda _: installed)
    with pytest.raises(InputError, match=rf"{installed}.*pip install 'timm-ablate\[hf\]'"):
        prepare_dataset(CONFIG, tmp_path)


@needs_datasets
def test_local_source_needs_a_folder(cache: Path) -> None:
    with pytest.raises(InputError, match="pass --data DIR, or use hf/NAME"):
        prepare_dataset(CONFIG, None)
