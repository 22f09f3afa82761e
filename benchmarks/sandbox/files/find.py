"""Open any model file: find the model that it contains, or count what can be counted without one."""

import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import nn

from arch.errors import InputError
from benchmarks.budget.builders import spec_builder
from benchmarks.budget.model_kind import is_python
from benchmarks.budget.models import FoundModel
from benchmarks.budget.request import NO_FILE_OPTIONS, FileOptions
from benchmarks.budget.verdict import ModelCost
from benchmarks.definition.benchmark import Benchmark
from benchmarks.sandbox.files.archive import content_of
from benchmarks.sandbox.files.onnx_graph import read_onnx
from benchmarks.sandbox.files.program import read_export, read_torchscript
from benchmarks.sandbox.files.weights import WeightsFile, read_pickle, read_safetensors, unpickle
from benchmarks.sandbox.python.python_file import find_in_file


@dataclass(frozen=True)
class CountedFile:
    """A file without a model that could be trained.

    Attributes:
        description: The file and its format.
        cost: What could be counted.
        why_untimed: Why no hours can be predicted.
        notes: Sentences for the verdict.
    """

    description: str
    cost: ModelCost
    why_untimed: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class PythonOptions:
    """How a Python file is read.

    Attributes:
        name: Name in the file, possibly with arguments; "" selects the only model.
        options: What the user has decided about the model.
        folders: The folders from which the file imports modules; () for its own.
    """

    name: str = ""
    options: FileOptions = NO_FILE_OPTIONS
    folders: tuple[Path, ...] = ()


def find_file(path: Path, python: PythonOptions, benchmark: Benchmark, allow_code: bool) -> FoundModel | CountedFile:
    """Open a model file by its suffix; a file written by torch by its content.

    Args:
        path: The file.
        python: How a Python file is read.
        benchmark: Its images determine input shape and number of classes.
        allow_code: Whether programs and pickled modules may be opened.

    Raises:
        InputError: If the content does not match the suffix.
        FileRefused: If the file would run code, and `allow_code` is false.
    """
    if is_python(path):
        return find_in_file(path, python.name, benchmark.data, python.options, python.folders)
    if path.suffix == ".onnx":
        reason = "an ONNX file is a graph for inference, so its training cannot be timed"
        cost, notes = read_onnx(path, benchmark.data.input_shape)
        return CountedFile(f"{path.name} (ONNX graph)", cost, reason, notes)
    if path.suffix == ".safetensors":
        return _model_of_weights(path, read_safetensors(path), benchmark)
    content = content_of(path)
    if content == "torchscript":
        read_torchscript(path, allow_code)
        return FoundModel(f"{path.name} (TorchScript)", partial(read_torchscript, path, allow_code))
    if content == "export":
        read_export(path, allow_code)
        return FoundModel(f"{path.name} (exported program)", partial(read_export, path, allow_code))
    pickled = read_pickle(path, allow_code)
    if isinstance(pickled, nn.Module):
        return FoundModel(f"{path.name} (pickled {type(pickled).__name__})", partial(unpickle, path))
    return _model_of_weights(path, pickled, benchmark)


def _model_of_weights(path: Path, weights: WeightsFile, benchmark: Benchmark) -> FoundModel | CountedFile:
    """Return the model of the spec that the file names, if its tensors match; otherwise the number of parameters."""
    spec = _spec_in(weights)
    if spec:
        builder = spec_builder(spec, benchmark)
        with torch.device("meta"):
            shapes = {name: tuple(tensor.shape) for name, tensor in builder().state_dict().items()}
        if shapes != weights.shapes:
            raise InputError(f"{path.name} names the spec {spec}, but its tensors are not those of this model")
        return FoundModel(f"{path.name} (weights of {spec})", builder)
    cost = ModelCost(params=weights.params, trainable_params=weights.params)
    reason = "weights alone do not define a model that could be timed"
    return CountedFile(f"{path.name} (weights)", cost, reason, weights.notes)


def _spec_in(weights: WeightsFile) -> str:
    """Return the spec that `ablate run` writes to the header of a weights file; "" if there is none."""
    try:
        header = json.loads(weights.metadata.get("header", "null"))
    except (ValueError, RecursionError):
        return ""
    return str(header["spec"]) if isinstance(header, dict) and "spec" in header else ""
