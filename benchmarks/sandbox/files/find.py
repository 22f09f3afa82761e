"""Any model file to something that builds the model, or where a file holds none, to what can be counted without."""

import copy
import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import nn

from arch.errors import InputError
from benchmarks.budget.check import spec_builder
from benchmarks.budget.models import FoundModel
from benchmarks.budget.verdict import ModelCost
from benchmarks.definition.benchmark import Benchmark
from benchmarks.sandbox.files.archive import content_of
from benchmarks.sandbox.files.onnx_graph import read_onnx
from benchmarks.sandbox.files.program import read_export, read_torchscript
from benchmarks.sandbox.files.python_file import find_in_file
from benchmarks.sandbox.files.weights import WeightsFile, read_pickle, read_safetensors


@dataclass(frozen=True)
class CountedFile:
    """A file without a model that could be trained: what is known of its cost, and why there are no hours."""

    description: str
    cost: ModelCost
    untimed: str


def find_file(path: Path, name: str, benchmark: Benchmark, allow_code: bool) -> FoundModel | CountedFile:
    """Opens a model file by its suffix, and torch's by what is in it.

    Raises InputError for a file that is not what its suffix says, Refused for one that would run code.
    """
    if path.suffix == ".py":
        return find_in_file(path, name, benchmark.data)
    if path.suffix == ".onnx":
        why = "an ONNX file is a graph for inference, so its training cannot be timed"
        return CountedFile(f"{path.name} (ONNX graph)", read_onnx(path, benchmark.data.input_shape), why)
    if path.suffix == ".safetensors":
        return _weights(path, read_safetensors(path), benchmark)
    content = content_of(path)
    if content == "torchscript":
        read_torchscript(path, allow_code)
        return FoundModel(f"{path.name} (TorchScript)", partial(read_torchscript, path, allow_code))
    if content == "export":
        read_export(path, allow_code)
        return FoundModel(f"{path.name} (exported program)", partial(read_export, path, allow_code))
    pickled = read_pickle(path, allow_code)
    if isinstance(pickled, nn.Module):
        return FoundModel(f"{path.name} (pickled {type(pickled).__name__})", partial(copy.deepcopy, pickled))
    return _weights(path, pickled, benchmark)


def _weights(path: Path, weights: WeightsFile, benchmark: Benchmark) -> FoundModel | CountedFile:
    """WeightsFile that say which of our specs they belong to, and fit it, stand for that model."""
    spec = _spec_in(weights)
    if spec:
        builder = spec_builder(spec, benchmark)
        with torch.device("meta"):
            shapes = {name: tuple(tensor.shape) for name, tensor in builder().state_dict().items()}
        if shapes != weights.shapes:
            raise InputError(f"{path.name} says that it holds {spec}, but its tensors are others")
        return FoundModel(f"{path.name} (weights of {spec})", builder)
    cost = ModelCost(params=weights.params, trainable_params=weights.params)
    return CountedFile(f"{path.name} (weights)", cost, "weights alone do not say what is computed with them")


def _spec_in(weights: WeightsFile) -> str:
    """The spec that `ablate run` writes beside the weights."""
    try:
        header = json.loads(weights.notes.get("header", "null"))
    except (ValueError, RecursionError):
        return ""
    return str(header["spec"]) if isinstance(header, dict) and "spec" in header else ""
