"""Read data sets with Hugging Face `datasets`: from the Hub, or from a local copy.

`datasets` is an optional dependency. It is imported in a worker process, runs no code of a data set, and connects to
the network only with `--download`.
"""

import hashlib
import os
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from arch.errors import InputError
from arch.text import plural
from benchmarks.datasets.arrays import DecodedDataset
from benchmarks.datasets.decode_splits import EncodedDataset, EncodedSplit, decode_dataset, warn
from benchmarks.datasets.listed_files import NEEDS_TEST_FRACTION
from benchmarks.definition.benchmark import DatasetConfig
from benchmarks.definition.versions import installed_version
from benchmarks.execution.progress import Report

MIN_MAJOR_VERSION = 4  # `datasets` 4 no longer runs the code of a data set
SAVED_FILES = ("dataset_dict.json", "state.json")  # what `save_to_disk` writes
TEST_SPLITS = ("test", "validation", "valid", "val", "dev")


def require_datasets() -> None:
    """Raise InputError unless a supported version of Hugging Face `datasets` is installed."""
    installed = installed_version("datasets")
    major = installed.partition(".")[0]
    if not major.isdigit() or int(major) < MIN_MAJOR_VERSION:
        raise InputError(
            f"hf data sets need the package datasets {MIN_MAJOR_VERSION} or later ({installed}): "
            "pip install 'timm-ablate[hf]'"
        )


def stamp_files(root: Path) -> str:
    """Return a hash of the names, sizes and times of all files in a folder, which changes when one is rewritten.

    Raises:
        InputError: If the folder cannot be read.
    """
    digest = hashlib.sha256(str(root.resolve()).encode(errors="surrogateescape"))
    try:
        for path in sorted(path for path in root.rglob("*") if path.is_file()):
            status = path.stat()
            stamp = f"{path} {status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}"
            digest.update(stamp.encode(errors="surrogateescape"))
    except OSError as error:
        raise InputError(f"cannot read --data {root}: {error.strerror or error}") from error
    return digest.hexdigest()


def read_huggingface(
    name: str, root: Path | None, config: DatasetConfig, download: bool, report: Report
) -> DecodedDataset:
    """Read a data set and decode it to the size and channels of a benchmark.

    Args:
        name: The name of a data set on the Hub, such as "uoft-cs/cifar100", with an optional configuration, as in
            "NAME:CONFIGURATION". It is not used if there is a local copy.
        root: A local copy: what `save_to_disk` writes, or Parquet files.
        config: The size and channels to decode to, and the names of the columns.
        download: Whether to download the data set to the cache of `datasets`.
        report: Called with the progress and with warnings.

    Raises:
        InputError: If the data set cannot be read, or its columns, splits or classes do not fit.
    """
    require_datasets()
    place = f"hf/{name}" if root is None else str(root)
    with _loaded(name, root, download) as splits:
        train = splits.get("train")
        if train is None:
            raise InputError(f"{place} has no split train; splits: {', '.join(splits)}")
        image_column = _find_image_column(place, train.features, config.image_column)
        label_column = _find_label_column(place, train.features, config.label_column)
        test_name = _find_test_split(splits, label_column)
        _check_test_split(place, test_name, config)
        if test_name not in (None, "test"):
            warn(report, place, f"the split {test_name} is used as the test split")
        used = ["train"] if test_name is None else ["train", test_name]
        values = [_labels(splits[split], label_column) for split in used]
        present, names = _classes(place, values, train.features[label_column])
        if len(names) != config.num_classes:
            raise InputError(
                f"{place} has {plural(len(names), 'class', 'classes')}, but this benchmark has {config.num_classes}"
            )
        encoded = [
            _encode(splits[split], image_column, np.searchsorted(present, labels).tolist(), f"{split} image")
            for split, labels in zip(used, values, strict=True)
        ]
        dataset = EncodedDataset(place, encoded[0], encoded[1] if len(encoded) == 2 else None, names, threads=1)
        return decode_dataset(dataset, config, report)


@contextmanager
def _loaded(name: str, root: Path | None, download: bool) -> Iterator[Mapping[str, Any]]:
    """Load the splits of a data set; files that are converted from a local copy are deleted afterwards."""
    import huggingface_hub.constants as hub

    # These constants are read from the environment when the Hub's library is imported, which timm does earlier.
    hub.HF_HUB_OFFLINE = root is not None or not download
    hub.HF_HUB_DISABLE_TELEMETRY = True
    os.environ["HF_UPDATE_DOWNLOAD_COUNTS"] = "FALSE"
    _use_thread_lock()
    import datasets

    datasets.disable_progress_bars()
    repository, _, configuration = name.partition(":")
    with tempfile.TemporaryDirectory(prefix="ablate-hf-") as folder:
        try:
            if root is None:
                loaded = datasets.load_dataset(repository, configuration or None)
            elif any((root / file).is_file() for file in SAVED_FILES):
                loaded = datasets.load_from_disk(str(root))
            else:
                loaded = datasets.load_dataset(str(root), cache_dir=folder)
        except Exception as error:  # `datasets` and the Hub raise errors of many types
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
            if root is None:
                hint = "" if download else ": pass --download, or --data DIR with a local copy"
                raise InputError(f"hf/{name} cannot be loaded ({reason}){hint}") from error
            raise InputError(f"{root} is neither a saved data set nor a folder of Parquet files: {reason}") from error
        yield loaded if isinstance(loaded, Mapping) else {"train": loaded}


def _use_thread_lock() -> None:
    """Replace tqdm's lock between processes, which would leak a semaphore when the worker process is killed."""
    from tqdm import tqdm

    tqdm.set_lock(threading.RLock())


def _find_image_column(place: str, features: Mapping[str, Any], chosen: str | None) -> str:
    import datasets

    candidates = [name for name, feature in features.items() if isinstance(feature, datasets.Image)]
    return _choose_column(place, features, candidates, chosen, "image")


def _find_label_column(place: str, features: Mapping[str, Any], chosen: str | None) -> str:
    import datasets

    candidates = [name for name, feature in features.items() if isinstance(feature, datasets.ClassLabel)]
    if chosen is not None and isinstance(features.get(chosen), datasets.Value):
        return chosen
    return _choose_column(place, features, candidates, chosen, "label")


def _choose_column(
    place: str, features: Mapping[str, Any], candidates: Sequence[str], chosen: str | None, kind: str
) -> str:
    if chosen in candidates or (chosen is None and len(candidates) == 1):
        return chosen or candidates[0]
    columns = ", ".join(f"{name} ({type(feature).__name__})" for name, feature in features.items())
    if chosen is not None:
        problem = f"{kind}_column {chosen!r} is not a column of {kind}s"
    elif candidates:
        problem = f"several columns contain {kind}s: set {kind}_column in [data] of the benchmark's TOML file"
    else:
        problem = f"no column has the type of {kind}s"
    raise InputError(f"{place}: {problem}; columns: {columns}")


def _find_test_split(splits: Mapping[str, Any], label_column: str) -> str | None:
    """Return the name of the test split. On the Hub, the labels of a test split without published labels are -1."""
    for name in TEST_SPLITS:
        if name in splits and label_column in splits[name].features and -1 not in splits[name][label_column]:
            return name
    return None


def _check_test_split(place: str, test_name: str | None, config: DatasetConfig) -> None:
    if test_name is None and config.test_fraction is None:
        raise InputError(f"{place} has no test split: {NEEDS_TEST_FRACTION}")
    if test_name is not None and config.test_fraction is not None:
        raise InputError(f"{place} has a test split ({test_name}): remove test_fraction from [data]")


def _labels(split: Any, column: str) -> NDArray[Any]:
    return np.array(list(split[column]))


def _classes(place: str, labels: Sequence[NDArray[Any]], feature: Any) -> tuple[Any, tuple[str, ...]]:
    """Return the labels that occur, sorted, and their names."""
    values = np.concatenate(labels)
    if values.dtype.kind not in "iuU":
        raise InputError(f"{place}: the labels must be integers or texts without gaps, not {values.dtype}")
    present = np.unique(values)
    names = getattr(feature, "names", None)
    return present, tuple(str(value) if names is None else names[value] for value in present.tolist())


def _encode(split: Any, column: str, labels: list[int], name: str) -> EncodedSplit:
    import datasets

    images = split.select_columns([column]).cast_column(column, datasets.Image(decode=False))

    def read(index: int) -> Path | bytes:
        image = images[index][column]
        return image["bytes"] if image["bytes"] is not None else Path(image["path"])

    return EncodedSplit(labels, read, lambda index: f"{name} {index}")
