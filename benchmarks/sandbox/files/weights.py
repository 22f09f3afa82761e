"""Read a file of weights: `.safetensors`, or what torch.save writes. Only shapes are read, no values."""

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
from benchmarks.sandbox.errors import FileRefused
from benchmarks.sandbox.files.archive import content_of
from benchmarks.sandbox.files.other_format import not_a

BUFFER_NAMES = ("running_mean", "running_var", "num_batches_tracked")  # statistics of norms, which are not parameters
WEIGHTS_KEYS = ("state_dict_ema", "model_ema", "state_dict", "model", "module", "weights")  # keys in checkpoints
ALLOW_CODE_HINT = "use --allow-code to open it in the sandbox"


@dataclass(frozen=True)
class WeightsFile:
    """The content of a weights file.

    Attributes:
        shapes: The shape of each tensor, by name.
        params: Number of parameters; tensors that share memory count once.
        metadata: Text that the file contains besides the tensors.
    """

    shapes: dict[str, tuple[int, ...]]
    params: int
    metadata: dict[str, str]


def read_safetensors(path: Path) -> WeightsFile:
    """Read the header of a safetensors file.

    Raises:
        InputError: If the file is not a safetensors file.
    """
    try:
        with safe_open(path, framework="pt") as file:
            shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
            metadata = dict(file.metadata() or {})
    except (SafetensorError, OSError, ValueError) as error:
        raise not_a("a safetensors file", path, str(error)) from error
    return WeightsFile(shapes, sum(prod(shape) for name, shape in shapes.items() if not _is_buffer(name)), metadata)


def read_pickle(path: Path, allow_code: bool) -> WeightsFile | nn.Module:
    """Read what torch.save wrote.

    Tensors are loaded onto the meta device, so that a tensor of any size takes no memory.

    Args:
        path: The file; its content is "pickle".
        allow_code: Whether a pickle of more than tensors and plain data may run. It may then contain a whole Module.

    Raises:
        FileRefused: If the pickle contains more than tensors and plain data, and `allow_code` is false.
        InputError: If torch.save did not write the file.
    """
    assert content_of(path) == "pickle"
    try:
        content = torch.load(path, map_location="meta", weights_only=True)
    except pickle.UnpicklingError as error:
        if not allow_code:
            raise FileRefused(f"its pickle contains more than tensors and plain data; {ALLOW_CODE_HINT}") from error
        content = unpickle(path)
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, AttributeError, IndexError, TypeError) as error:
        raise InputError(f"{path.name} was not written by torch.save: {error}") from error
    return content if isinstance(content, nn.Module) else _find_weights(path, content)


def unpickle(path: Path) -> Any:
    """Unpickle what torch.save wrote, with tensors on the CPU. This may run any code."""
    return torch.load(path, map_location="cpu", weights_only=False)


def _find_weights(path: Path, content: Any) -> WeightsFile:
    """Return the named tensors in an unpickled object, which may be a checkpoint."""
    for key in WEIGHTS_KEYS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            return _find_weights(path, content[key])
    tensors = {k: v for k, v in content.items() if isinstance(v, Tensor)} if isinstance(content, Mapping) else {}
    if not tensors:
        raise InputError(f"{path.name} contains no named tensors")
    counted = {
        (tensor.untyped_storage()._cdata, tensor.storage_offset(), tuple(tensor.shape)): tensor.numel()
        for name, tensor in tensors.items()
        if not _is_buffer(str(name))
    }
    return WeightsFile({str(name): tuple(tensor.shape) for name, tensor in tensors.items()}, sum(counted.values()), {})


def _is_buffer(name: str) -> bool:
    return name.rpartition(".")[2] in BUFFER_NAMES
