"""Read any image classification data set of torchvision by name. This module imports torch when it reads one."""

import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from arch.errors import InputError, unknown
from arch.text import plural
from benchmarks.datasets.arrays import DecodedDataset
from benchmarks.datasets.decode_splits import EncodedDataset, EncodedSplit, decode_dataset, warn
from benchmarks.datasets.listed_files import NEEDS_TEST_FRACTION
from benchmarks.definition.benchmark import DatasetConfig
from benchmarks.execution.progress import Report

# The values of torchvision's argument `split`, in the order of preference. "trainval" is the training split of data
# sets that publish results on it; others reject it before they read anything.
TRAIN_SPLITS = ("trainval", "train", "train-standard")
TEST_SPLITS = ("test", "val", "valid")


def read_torchvision(name: str, root: Path, config: DatasetConfig, download: bool, report: Report) -> DecodedDataset:
    """Read a data set of torchvision and decode it to the size and channels of a benchmark.

    Args:
        name: The name of a class in `torchvision.datasets`, such as "FashionMNIST". Classes that have both a choice of
            data and a training split are followed by the choice, such as "EMNIST:letters".
        root: The folder with torchvision's files.
        config: The size and channels to decode to.
        download: Whether to download missing files to `root`.
        report: Called with the progress and with warnings.

    Raises:
        InputError: If there is no such data set, its files are missing, or it does not have one class per image.
    """
    name, _, choice = name.partition(":")
    splits = _TorchvisionSplits(name, choice, root, download)
    train, test = splits.open("train"), splits.open("test")
    if test is None and config.test_fraction is None:
        raise InputError(f"torchvision/{name} has no test split: {NEEDS_TEST_FRACTION}")
    if test is not None and config.test_fraction is not None:
        raise InputError(f"torchvision/{name} has a test split: remove test_fraction from [data]")
    if splits.test_name not in ("", "test"):
        warn(report, f"torchvision/{name}", f"the split {splits.test_name} is used as the test split")
    return decode_samples(f"torchvision/{name}", (train, test), config, report)


def decode_samples(
    source: str, splits: tuple[Sequence[Any], Sequence[Any] | None], config: DatasetConfig, report: Report
) -> DecodedDataset:
    """Decode data sets that yield pairs of a Pillow image and a class.

    Args:
        source: The name of the data, for messages.
        splits: The training and the test images; None if there are no test images.
        config: The size and channels to decode to.
        report: Called with the progress and with warnings.

    Raises:
        InputError: If the data sets do not have the classes of the benchmark, or one image and one class per sample.
    """
    train, test = splits
    labels = [_labels_of(source, split) for split in splits if split is not None]
    present = np.unique(np.concatenate(labels))
    if len(present) != config.num_classes:
        raise InputError(
            f"{source} has {plural(len(present), 'class', 'classes')}, but this benchmark has {config.num_classes}"
        )
    encoded = [
        _encode(split, np.searchsorted(present, split_labels), f"{split_name} image")
        for split, split_labels, split_name in zip(splits, labels, ("train", "test"), strict=False)
    ]
    classes = tuple(_class_name(train, label) for label in present.tolist())
    dataset = EncodedDataset(source, encoded[0], encoded[1] if test is not None else None, classes, threads=1)
    return decode_dataset(dataset, config, report)


class _TorchvisionSplits:
    """Opens the splits of a data set with the arguments that its class has."""

    def __init__(self, name: str, choice: str, root: Path, download: bool) -> None:
        import torchvision.datasets

        names = [name for name in torchvision.datasets.__all__ if name[0].isupper() and name != "VisionDataset"]
        if name not in names:
            raise unknown("torchvision data set", name, names)
        self.name, self.choice, self.root, self.download = name, choice, root, download
        self.dataset_class = getattr(torchvision.datasets, name)
        self.parameters = inspect.signature(self.dataset_class.__init__).parameters
        signatures = [inspect.signature(base.__init__).parameters for base in self.dataset_class.__mro__]
        self.has_download = any("download" in parameters for parameters in signatures)  # a base class may define it
        self.test_name = ""

    def open(self, split: str) -> Any:
        """Return the training split or the test split; None if there is no test split."""
        if self.choice:
            return self._create(split=self.choice, train=split == "train")
        if "train" in self.parameters:
            return self._create(train=split == "train")
        if "split" not in self.parameters:
            return self._create() if split == "train" else None
        for value in TRAIN_SPLITS if split == "train" else TEST_SPLITS:
            try:
                dataset = self._create(split=value)
            except ValueError as error:
                if "for argument split" not in str(error):  # torchvision's message for an unknown split
                    raise
                choices = str(error).partition("Valid values are ")[2].strip("{}.")
                continue
            self.test_name = value if split == "test" else ""
            return dataset
        if split == "test":
            return None
        raise InputError(f"torchvision/{self.name} needs a choice of data, as in {self.name}:CHOICE; valid: {choices}")

    def _create(self, **arguments: Any) -> Any:
        if "root" in self.parameters:
            arguments["root"] = self.root
        if self.has_download:
            arguments["download"] = self.download
        try:
            return self.dataset_class(**arguments)
        except TypeError as error:
            raise InputError(f"torchvision/{self.name} cannot be read by name: {error}") from error
        except ImportError as error:
            raise InputError(f"torchvision/{self.name}: {error}") from error
        except (RuntimeError, OSError) as error:
            if self.download:
                raise InputError(f"downloading torchvision/{self.name} to {self.root} failed: {error}") from error
            reason = str(error).partition("\n")[0]
            hint = ": pass --download" if self.has_download else ""
            raise InputError(f"torchvision/{self.name} is not in {self.root} ({reason}){hint}") from error


def _labels_of(source: str, split: Any) -> NDArray[np.int64]:
    """Return the labels of a split, without decoding its images if it has a list of labels."""
    labels = getattr(split, "targets", getattr(split, "labels", getattr(split, "_labels", None)))
    try:
        if labels is None or len(labels) != len(split):
            labels = [split[index][1] for index in range(len(split))]
        array = np.array([int(label) for label in labels], np.int64)
        if not isinstance(split[0][0], Image.Image):
            raise TypeError("its images are not images of Pillow")
    except (TypeError, ValueError, IndexError, RuntimeError) as error:
        raise InputError(f"{source} does not have one image and one class per sample: {error}") from error
    return array


def _encode(split: Any, labels: NDArray[np.int64], name: str) -> EncodedSplit:
    return EncodedSplit(labels.tolist(), lambda index: split[index][0], lambda index: f"{name} {index}")


def _class_name(split: Any, label: int) -> str:
    """Return the name of a class; its number if the data set has no names."""
    names = getattr(split, "classes", None) or getattr(split, "categories", None)
    if isinstance(names, Mapping) or names is None or label >= len(names):
        return str(label)
    name = names[label]
    return name if isinstance(name, str) else str(next(iter(name)))
