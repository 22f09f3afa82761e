"""A file of weights: `.safetensors`, or what torch.save writes. Shapes are read, no value."""

import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from arch.errors import InputError
from benchmarks.sandbox.files.archive import content_of
from benchmarks.sandbox.files.refused import FileRefused

BUFFERS = ("running_mean", "running_var", "num_batches_tracked")  # a norm's statistics are no parameters
INSIDE = ("state_dict_ema", "model_ema", "state_dict", "model", "module", "weights")  # where trainers keep weights
ALLOW = "--allow-code opens it, in the sandbox"


@dataclass(frozen=True)
class WeightsFile:
    """Tensors by name, as shapes, and what else the file says of itself."""

    shapes: dict[str, tuple[int, ...]]
    params: int  # tensors that share memory count once
    notes: dict[str, str]


def read_safetensors(path: Path) -> WeightsFile:
    """Reads the header. Raises InputError where the file is none."""
    try:
        with safe_open(path, framework="pt") as file:
            shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
            notes = dict(file.metadata() or {})
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(f"{path.name} is not a safetensors file: {error}") from error
    return WeightsFile(shapes, sum(prod(shape) for name, shape in shapes.items() if not _is_buffer(name)), notes)


def read_pickle(path: Path, allow_code: bool) -> WeightsFile | nn.Module:
    """Reads what torch.save wrote, onto the meta device: tensors of any size take no memory.

    Raises FileRefused where the pickle needs more than tensors and plain data, unless `allow_code` lets it run;
    then it may also hold a whole Module.
    """
    assert content_of(path) == "pickle"
    try:
        content = torch.load(path, map_location="meta", weights_only=True)
    except pickle.UnpicklingError as error:
        if not allow_code:
            raise FileRefused(f"its pickle holds more than tensors and plain data: {ALLOW}") from error
        content = torch.load(path, map_location="cpu", weights_only=False)
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, AttributeError, IndexError, TypeError) as error:
        raise InputError(f"{path.name} is not a file that torch.save wrote: {error}") from error
    return content if isinstance(content, nn.Module) else _weights(path, content)


def _weights(path: Path, content: Any) -> WeightsFile:
    for key in INSIDE:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            return _weights(path, content[key])
    tensors = {k: v for k, v in content.items() if isinstance(v, Tensor)} if isinstance(content, Mapping) else {}
    if not tensors:
        raise InputError(f"{path.name} holds no tensors by name")
    counted = {
        (tensor.untyped_storage()._cdata, tensor.storage_offset(), tuple(tensor.shape)): tensor.numel()
        for name, tensor in tensors.items()
        if not _is_buffer(str(name))
    }
    return WeightsFile({str(name): tuple(tensor.shape) for name, tensor in tensors.items()}, sum(counted.values()), {})


def _is_buffer(name: str) -> bool:
    return name.rpartition(".")[2] in BUFFERS
