"""Resolve the source of a benchmark's images: one function per kind of source in `benchmarks.definition.data_sources`.

A source is resolved without reading its images, into the function that decodes them and the key of the result in the
cache.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from arch.entries import DATA_SOURCES
from arch.errors import InputError
from benchmarks.datasets.arrays import DecodedDataset
from benchmarks.datasets.cifar import DEFAULT_ROOT, read_cifar
from benchmarks.datasets.csv_file import is_csv_file, list_csv
from benchmarks.datasets.decode import DECODER_VERSION
from benchmarks.datasets.digits import read_digits
from benchmarks.datasets.folder import folder_key, read_folder
from benchmarks.datasets.folder_layout import is_image_folder, list_folder
from benchmarks.datasets.huggingface import read_huggingface, stamp_files
from benchmarks.datasets.listed_files import ListedFiles, check_files
from benchmarks.datasets.plugin_data import read_plugin
from benchmarks.datasets.tiny_imagenet import class_names
from benchmarks.datasets.torchvision_data import read_torchvision
from benchmarks.definition.benchmark import DatasetConfig
from benchmarks.definition.data_sources import check_source, split_source
from benchmarks.execution.progress import Report, silent


@dataclass(frozen=True)
class SourceRequest:
    """What a user asks for: see `benchmarks.datasets.prepare.prepare_dataset`."""

    config: DatasetConfig
    root: Path | None = None
    download: bool = False
    report: Report = field(default=silent, compare=False)


@dataclass(frozen=True)
class ImageSource:
    """Images that are not decoded yet.

    Attributes:
        key: The name of the decoded images in the cache. It differs whenever `decode` would return other arrays.
        decode: Reads and decodes the images.
        needs_torch: Whether `decode` imports torch, and so must run in a worker process.
        rename_classes: Returns the names of the classes to display.
    """

    key: str
    decode: Callable[[], DecodedDataset]
    needs_torch: bool = False
    rename_classes: Callable[[tuple[str, ...]], tuple[str, ...]] = tuple


def find_source(request: SourceRequest) -> ImageSource:
    """Return the source of the images that are requested.

    An image folder or a CSV file at `request.root` takes the place of any source except a plugin's.

    Raises:
        InputError: If the source does not exist, or the folder or the CSV file is invalid.
    """
    config, root = request.config, request.root
    if config.source in DATA_SOURCES:
        return _plugin(request)
    if root is not None and is_csv_file(root):
        return _listed_files(list_csv(root, config), request)
    if root is not None and is_image_folder(root, config):
        return _listed_files(list_folder(root), request)
    check_source(config.source)
    return SOURCE_FUNCTIONS[split_source(config.source)[0]](request)


def _listed_files(files: ListedFiles, request: SourceRequest) -> ImageSource:
    config, report, root = request.config, request.report, files.root
    check_files(files, config, report)
    return ImageSource(
        folder_key(files, config),
        lambda: read_folder(files, config, report),
        rename_classes=lambda classes: class_names(root, classes) if root.is_dir() else classes,
    )


def _digits(request: SourceRequest) -> ImageSource:
    return ImageSource("digits", read_digits)


def _cifar(request: SourceRequest) -> ImageSource:
    source, root = request.config.source, request.root or DEFAULT_ROOT
    return ImageSource(source, lambda: read_cifar(source, root, request.download))


def _folder(request: SourceRequest) -> ImageSource:
    problem = "pass --data DIR" if request.root is None else f"--data {request.root} does not contain them"
    raise InputError(f"this benchmark reads an image folder with train/<class>/ and test/<class>/: {problem}")


def _torchvision(request: SourceRequest) -> ImageSource:
    root = request.root or DEFAULT_ROOT
    name, config = split_source(request.config.source)[1], request.config
    return ImageSource(
        _key("torchvision", config, str(root.resolve())),
        lambda: read_torchvision(name, root, config, request.download, request.report),
        needs_torch=True,
    )


def _huggingface(request: SourceRequest) -> ImageSource:
    name, config, root = split_source(request.config.source)[1], request.config, request.root
    return ImageSource(
        _key("hf", config, "" if root is None else stamp_files(root)),
        lambda: read_huggingface(name, root, config, request.download, request.report),
        needs_torch=True,
    )


def _plugin(request: SourceRequest) -> ImageSource:
    config, root, report = request.config, request.root, request.report
    version = DATA_SOURCES[config.source].plugin.digest
    return ImageSource(
        _key("plugin", config, version if root is None else f"{version} {stamp_files(root)}"),
        lambda: read_plugin(config, root, report),
        needs_torch=True,
    )


def _key(kind: str, config: DatasetConfig, place: str) -> str:
    fields = (config.source, config.image_size, config.in_chans, config.test_fraction)
    content = json.dumps([*fields, config.image_column, config.label_column, place, DECODER_VERSION])
    return f"{kind}-{hashlib.sha256(content.encode()).hexdigest()[:16]}"


SOURCE_FUNCTIONS: dict[str, Callable[[SourceRequest], ImageSource]] = {
    "digits": _digits,
    "cifar10": _cifar,
    "cifar100": _cifar,
    "folder": _folder,
    "torchvision/": _torchvision,
    "hf": _huggingface,
    "hf/": _huggingface,
}
