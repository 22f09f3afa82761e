import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from arch.errors import InputError
from benchmarks.datasets.prepare import prepare_dataset
from benchmarks.datasets.torchvision_data import read_torchvision
from benchmarks.definition.benchmark import DatasetConfig
from benchmarks.execution.progress import Progress, silent

pytestmark = pytest.mark.slow  # imports torchvision

MNIST = DatasetConfig("torchvision/MNIST", 10, image_size=28, in_chans=1)
NUM_IMAGES = {"train": 30, "t10k": 20}


def digits(split: str) -> tuple[Any, Any]:
    count = NUM_IMAGES[split]
    images = np.random.default_rng(count).integers(0, 256, (count, 28, 28), np.uint8)
    return images, np.arange(count, dtype=np.uint8) % 10


@pytest.fixture
def mnist(tmp_path: Path, cache: Path) -> Path:
    """Write small files in the format of MNIST."""
    raw = tmp_path / "data" / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for split in NUM_IMAGES:
        images, labels = digits(split)
        (raw / f"{split}-images-idx3-ubyte").write_bytes(struct.pack(">4i", 2051, *images.shape) + images.tobytes())
        (raw / f"{split}-labels-idx1-ubyte").write_bytes(struct.pack(">2i", 2049, len(labels)) + labels.tobytes())
    return tmp_path / "data"


def test_data_set_is_decoded_by_a_worker_process_and_cached(mnist: Path, samples: Callable[..., Any]) -> None:
    reports: list[Progress] = []
    dataset = prepare_dataset(MNIST, mnist, report=reports.append)
    for split, decoded in zip(NUM_IMAGES, samples(dataset, MNIST), strict=True):
        expected = [bytes([label]) + image.tobytes() for image, label in zip(*digits(split), strict=True)]
        assert sorted(decoded) == sorted(expected)
    assert dataset.classes[:2] == ("0 - zero", "1 - one")
    assert reports == [Progress("decoding images", 50, 50)]
    assert prepare_dataset(MNIST, mnist, report=reports.append) == dataset
    assert len(reports) == 1


def test_errors_of_the_worker_process_are_one_line(cache: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"torchvision/MNIST is not in .*: pass --download") as raised:
        prepare_dataset(MNIST, tmp_path)
    assert "\n" not in str(raised.value)


def read(source: str, root: Path, report: Callable[[Progress], None] = silent, **fields: Any) -> Any:
    config = DatasetConfig(f"torchvision/{source}", **{"num_classes": 2, "image_size": 8, **fields})
    return read_torchvision(source, root, config, False, report)


def test_images_are_converted_to_the_benchmark(mnist: Path) -> None:
    reports: list[Progress] = []
    dataset = read("MNIST", mnist, reports.append, num_classes=10)
    assert dataset.train.images.shape == (30, 8, 8, 3)
    warnings = [report.warning for report in reports if report.warning]
    assert [warning.partition(" were ")[2] for warning in warnings] == [
        "converted from gray to RGB, such as train image 0",
        "resized to 8 x 8 px, such as train image 0",
    ]


class Splits:
    """Fake of a data set with the argument `split`, such as GTSRB."""

    splits: tuple[str, ...] = ("train", "val")
    classes: tuple[Any, ...] = ("unused", ("cat", "tomcat"), "dog")

    def __init__(self, root: Path, split: str = "train", download: bool = False) -> None:
        if split not in self.splits:
            raise ValueError(f"Unknown value '{split}' for argument split. Valid values are {set(self.splits)}.")
        self.split = split

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        if index >= len(self):
            raise IndexError
        pixels = np.full((8, 8, 3), 10 * index + self.splits.index(self.split), np.uint8)
        return Image.fromarray(pixels), 1 + index % 2


class Unsplit(Splits):
    """Fake of a data set without splits, such as EuroSAT."""

    def __init__(self, root: Path, download: bool = False) -> None:
        super().__init__(root)


class Choices(Splits):
    """Fake of a data set with a choice of data, such as EMNIST."""

    def __init__(self, root: Path, split: str, **kwargs: Any) -> None:
        super().__init__(root, split if split not in ("letters",) else ("train" if kwargs["train"] else "val"))


class Masks(Splits):
    """Fake of a data set for segmentation."""

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        return super().__getitem__(index)[0], np.zeros((8, 8))


class NeedsMore(Splits):
    """Fake of a data set that is not opened by its folder alone."""

    def __init__(self, root: Path, annotations: str) -> None:
        super().__init__(root)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Callable[[type], None]:
    """Return a function that replaces torchvision's GTSRB."""
    return lambda dataset_class: monkeypatch.setattr("torchvision.datasets.GTSRB", dataset_class)


def test_validation_split_is_the_test_split_without_one(fake: Callable[[type], None], tmp_path: Path) -> None:
    fake(Splits)
    reports: list[Progress] = []
    dataset = read("GTSRB", tmp_path, reports.append)
    assert [
        (arrays.images[:, 0, 0, 0].tolist(), arrays.labels.tolist()) for arrays in (dataset.train, dataset.test)
    ] == [
        ([0, 10, 20, 30], [0, 1, 0, 1]),
        ([1, 11, 21, 31], [0, 1, 0, 1]),
    ]
    assert dataset.classes == ("cat", "dog")
    assert [report.warning for report in reports if report.warning] == ["the split val is used as the test split"]


def test_data_set_without_splits_needs_test_fraction(fake: Callable[[type], None], tmp_path: Path) -> None:
    fake(Unsplit)
    dataset = read("GTSRB", tmp_path, test_fraction=0.5)
    assert (len(dataset.train), len(dataset.test)) == (2, 2)
    with pytest.raises(InputError, match=r"no test split.*test_fraction"):
        read("GTSRB", tmp_path)


def test_choice_of_data_follows_the_name(fake: Callable[[type], None], tmp_path: Path) -> None:
    fake(Choices)
    assert len(read("GTSRB:letters", tmp_path).train) == 4


def test_missing_choice_of_data_is_explained(
    fake: Callable[[type], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake(Choices)
    monkeypatch.setattr(Choices, "splits", ("letters",))
    with pytest.raises(InputError, match="needs a choice of data, as in GTSRB:CHOICE; valid: 'letters'"):
        read("GTSRB", tmp_path)


@pytest.mark.parametrize(
    ("dataset_class", "fields", "expected"),
    [
        (Splits, {"test_fraction": 0.5}, "has a test split: remove test_fraction"),
        (Splits, {"num_classes": 3}, "has 2 classes, but this benchmark has 3"),
        (Masks, {}, "does not have one image and one class per sample"),
        (NeedsMore, {}, "cannot be read by name"),
    ],
)
def test_unsuitable_data_set_is_explained(
    dataset_class: type, fields: dict[str, Any], expected: str, fake: Callable[[type], None], tmp_path: Path
) -> None:
    fake(dataset_class)
    with pytest.raises(InputError, match=f"torchvision/GTSRB.*{expected}"):
        read("GTSRB", tmp_path, **fields)


def test_unknown_name_is_explained(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="unknown torchvision data set 'FashionMNST': did you mean 'FashionMNIST'"):
        read("FashionMNST", tmp_path)
