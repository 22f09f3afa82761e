from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal
from urllib.error import URLError

import numpy as np
import pytest
from numpy.typing import NDArray

from arch.errors import InputError
from benchmarks.datasets.cifar import cifar_image_counts
from benchmarks.datasets.prepare import prepare_dataset
from benchmarks.definition.benchmark import DatasetConfig


def small_cifar(train: bool) -> tuple[NDArray[np.uint8], list[int]]:
    """Return two images of each of three classes, and their labels."""
    generators = [np.random.default_rng(10 * train + index) for index in range(6)]
    pixels = np.stack([generator.integers(0, 256, (32, 32, 3), np.uint8) for generator in generators])
    return pixels, [0, 1, 2, 2, 1, 0]


class SmallCifar:
    """Fake of torchvision's CIFAR10 and CIFAR100."""

    classes = ("apple", "bear", "crab")

    def __init__(self, root: Path, train: bool, download: bool) -> None:
        if not (root / "cifar").exists():
            raise RuntimeError("Dataset not found or corrupted. You can use download=True to download it")
        self.data, self.targets = small_cifar(train)


@pytest.fixture
def cifar(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder in which torchvision's CIFAR classes find their files."""
    (tmp_path / "data" / "cifar").mkdir(parents=True)
    for name in ("CIFAR10", "CIFAR100"):
        monkeypatch.setattr(f"torchvision.datasets.{name}", SmallCifar)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "data"


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (DatasetConfig("cifar100", 100), (50_000, 10_000)),
        (DatasetConfig("cifar10", 10), (50_000, 10_000)),
        (DatasetConfig("cifar100", 100, train_per_class=100, test_per_class=20), (10_000, 2_000)),
        (DatasetConfig("folder", 2), None),
        (DatasetConfig("digits", 10), None),
    ],
)
def test_cifar_image_counts_need_no_images(config: DatasetConfig, expected: tuple[int, int] | None) -> None:
    assert cifar_image_counts(config) == expected


@pytest.mark.parametrize("source", ["cifar10", "cifar100"])
def test_image_folder_with_the_images_of_cifar_is_equal_to_cifar(
    source: Literal["cifar10", "cifar100"],
    cifar: Path,
    tmp_path: Path,
    write_images: Callable[..., Path],
    samples: Callable[..., Any],
) -> None:
    config = DatasetConfig(source, 3)
    files = {
        f"{split}/{SmallCifar.classes[label]}/{index}.png": pixels
        for split in ("train", "test")
        for index, (pixels, label) in enumerate(zip(*small_cifar(split == "train"), strict=True))
    }
    original = prepare_dataset(config, cifar)
    folder = prepare_dataset(config, write_images(tmp_path / "folder", files))
    assert folder.folder != original.folder
    assert (folder.fingerprint, folder.classes) == (original.fingerprint, original.classes)
    assert samples(folder, config) == samples(original, config)


@pytest.mark.usefixtures("cifar")
def test_default_folder_of_cifar_is_data() -> None:
    config = DatasetConfig("cifar10", 3)
    dataset = prepare_dataset(config, None)
    assert dataset.counts(config) == (6, 6)
    assert dataset.load(config, "test")[0].images.shape == (6, 32, 32, 3)


def test_missing_cifar_suggests_download_and_data(tmp_path: Path, cache: Path) -> None:
    (tmp_path / "data").mkdir()
    with pytest.raises(InputError, match=r"^cifar100 is not in .*data: .*--download.*--data DIR") as raised:
        prepare_dataset(DatasetConfig("cifar100", 100), tmp_path / "data")
    assert "\n" not in str(raised.value)


@pytest.mark.usefixtures("cifar")
def test_failed_download_states_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise URLError("no route to host")

    monkeypatch.setattr("torchvision.datasets.CIFAR100", fail)
    with pytest.raises(InputError, match=r"^downloading cifar100 to .*data failed: .*no route to host"):
        prepare_dataset(DatasetConfig("cifar100", 3), None, download=True)


def test_folder_is_created_for_the_download(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def download(root: Path, train: bool, download: bool) -> SmallCifar:
        (root / "cifar").touch()  # fails if the folder does not exist
        return SmallCifar(root, train, download)

    monkeypatch.setattr("torchvision.datasets.CIFAR10", download)
    config = DatasetConfig("cifar10", 3)
    assert prepare_dataset(config, tmp_path / "new" / "deep", download=True).counts(config) == (6, 6)


@pytest.mark.parametrize(
    ("name", "expected"), [("file", "--data .*file is not a folder"), ("file/new", "cannot create --data .*file/new: ")]
)
def test_folder_for_the_download_cannot_replace_a_file(name: str, expected: str, tmp_path: Path, cache: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=expected):
        prepare_dataset(DatasetConfig("cifar10", 10), tmp_path / name, download=True)


@pytest.mark.parametrize("source", ["digits", "folder"])
def test_folder_is_only_created_for_cifar(source: Literal["digits", "folder"], tmp_path: Path, cache: Path) -> None:
    with pytest.raises(InputError, match="missing is not a folder"):
        prepare_dataset(DatasetConfig(source, 10), tmp_path / "missing", download=True)
    assert not (tmp_path / "missing").exists()
