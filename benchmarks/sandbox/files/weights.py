"""Read a file of weights: `.safetensors`, or what torch.save writes. Only shapes are read, no values."""

import pickle
from collections.abc import Collection, Mapping
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
from benchmarks.sandbox.files.checkpoint import find_state_dict
from benchmarks.sandbox.files.other_format import not_a

BUFFER_NAMES = frozenset(
    {"running_mean", "running_var", "num_batches_tracked", "n_averaged"}  # statistics
    | {"attn_mask", "relative_coords_table", "relative_position_index", "inv_freq", "weight_mask", "bias_mask"}
)  # names of floating-point buffers in timm, torchvision, torch and the original Swin
SAFETENSORS_INTEGERS = ("I", "U", "BOOL")  # how the names of these types start: I64, U8...
UNSUPPORTED_INSTRUCTION = "Unsupported operand"  # in an error message of torch's reader of tensors
NEW_PROTOCOL = (
    "its pickle uses instructions that torch cannot read safely, such as those of protocol 4 "
    "(torch.save writes protocol 2 by default)"
)
MAX_UNSAFE_NAMES = 3  # classes and functions of a pickle to name in a message
ALLOW_CODE_HINT = "use --allow-code to open it in the sandbox"


@dataclass(frozen=True)
class WeightsFile:
    """The content of a weights file.

    Attributes:
        shapes: The shape of each tensor, by name.
        params: Number of parameters; tensors that share memory count once.
        metadata: Text that the file contains besides the tensors.
        notes: Sentences about what is not counted.
    """

    shapes: dict[str, tuple[int, ...]]
    params: int
    metadata: dict[str, str]
    notes: tuple[str, ...] = ()


def read_safetensors(path: Path) -> WeightsFile:
    """Read the header of a safetensors file.

    Raises:
        InputError: If the file is not a safetensors file.
    """
    try:
        with safe_open(path, framework="pt") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
            metadata = dict(file.metadata() or {})
            shapes = {name: tuple(content.get_shape()) for name, content in slices.items()}
            types = {name: content.get_dtype() for name, content in slices.items()}
    except (SafetensorError, OSError, ValueError) as error:
        raise not_a("a safetensors file", path, str(error)) from error
    buffers = {n for n, t in types.items() if t.startswith(SAFETENSORS_INTEGERS) or _has_buffer_name(n)}
    params = sum(prod(shape) for name, shape in shapes.items() if name not in buffers)
    return WeightsFile(shapes, params, metadata, _notes(shapes, buffers))


def read_pickle(path: Path, allow_code: bool) -> WeightsFile | nn.Module:
    """Read what torch.save wrote.

    Without `allow_code`, tensors are loaded onto the meta device, so that a tensor of any size takes no memory.

    Args:
        path: The file; its content is "pickle".
        allow_code: Whether the pickle may run code. It may then contain a whole Module.

    Raises:
        FileRefused: If the pickle contains more than tensors and plain data, and `allow_code` is false.
        InputError: If torch.save did not write the file.
    """
    assert content_of(path) == "pickle"
    content = unpickle(path) if allow_code else _read_tensors(path)
    return content if isinstance(content, nn.Module) else _find_weights(path, content)


def _read_tensors(path: Path) -> Any:
    """Read tensors and plain data; see `read_pickle` for the errors."""
    try:
        return torch.load(path, map_location="meta", weights_only=True)
    except pickle.UnpicklingError as error:
        if UNSUPPORTED_INSTRUCTION in str(error):  # says nothing about the content: a plain dict can be such a pickle
            raise FileRefused(f"{NEW_PROTOCOL}; {ALLOW_CODE_HINT}") from error
        raise FileRefused(
            f"its pickle contains more than tensors and plain data{_unsafe_names(path)}; {ALLOW_CODE_HINT}"
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, AttributeError, IndexError, TypeError) as error:
        raise InputError(f"{path.name} was not written by torch.save: {error}") from error


def _unsafe_names(path: Path) -> str:
    """Return the first classes and functions that a pickle refers to, in parentheses. The pickle is not run."""
    try:
        names = sorted(torch.serialization.get_unsafe_globals_in_checkpoint(path))
    except Exception:  # the disassembler has no common exception, and knows only the newer format
        return ""
    more = ", ..." if len(names) > MAX_UNSAFE_NAMES else ""
    return f" ({', '.join(names[:MAX_UNSAFE_NAMES])}{more})" if names else ""


def unpickle(path: Path) -> Any:
    """Unpickle what torch.save wrote, with tensors on the CPU. This may run any code."""
    return torch.load(path, map_location="cpu", weights_only=False)


def _find_weights(path: Path, content: Any) -> WeightsFile:
    """Count the named tensors in an unpickled object, which may be a checkpoint."""
    tensors = find_state_dict(path.name, content)
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    buffers = {name for name, tensor in tensors.items() if _has_buffer_name(name) or not _can_be_trained(tensor)}
    counted = {
        (tensor.untyped_storage()._cdata, tensor.storage_offset(), tuple(tensor.shape)): tensor.numel()
        for name, tensor in tensors.items()
        if name not in buffers
    }
    return WeightsFile(shapes, sum(counted.values()), {}, _notes(shapes, buffers))


def _can_be_trained(tensor: Tensor) -> bool:
    return tensor.is_floating_point() or tensor.is_complex()


def _has_buffer_name(name: str) -> bool:
    return name.rpartition(".")[2] in BUFFER_NAMES


def _notes(shapes: Mapping[str, tuple[int, ...]], buffers: Collection[str]) -> tuple[str, ...]:
    """Return a sentence about the tensors that are not counted as parameters, and how they are recognized."""
    if not buffers:
        return ()
    values = sum(prod(shapes[name]) for name in buffers)
    names = sorted({name.rpartition(".")[2] for name in buffers if _has_buffer_name(name)})
    named = f" or name ({', '.join(names)})" if names else ""
    return (f"{values:,} values in {len(buffers)} buffers, recognized by type (integers){named}, are not parameters",)
