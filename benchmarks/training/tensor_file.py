"""safetensors files with a JSON header: the format of weights, predictions and checkpoints."""

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from benchmarks.records.atomic_write import path_in_error, replace_file

TensorsAndHeader = tuple[dict[str, Tensor], dict[str, Any]]


def write_tensors(path: Path, tensors: dict[str, Tensor], header: dict[str, Any]) -> None:
    """Write a safetensors file atomically.

    Args:
        path: The file, whose folder is created.
        tensors: Tensors of any device and memory layout, which may share memory.
        header: Stored as JSON under the metadata key "header".

    Raises:
        OSError: If the file cannot be written. The message contains its name.
    """
    content = serialize(tensors, header)
    with path_in_error(path):
        replace_file(path, lambda file: file.write_bytes(content))


def read_tensors(path: Path) -> TensorsAndHeader:
    """Read a file that `write_tensors` wrote.

    Args:
        path: The file.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If the file is damaged, or another program wrote it.
    """
    return parse(path.read_bytes())


def serialize(tensors: dict[str, Tensor], header: dict[str, Any]) -> bytes:
    """Return the content of a safetensors file.

    Args:
        tensors: Tensors of any device and memory layout, which may share memory.
        header: Stored as JSON under the metadata key "header".

    Raises:
        ValueError: If the header contains a number that JSON cannot represent.
    """
    return save(_separate(tensors), {"header": json.dumps(header, allow_nan=False)})


def _separate(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return contiguous CPU tensors that share no memory, which safetensors requires.

    Every name of a shared tensor is written, so that any program can load the file by the names in a state_dict.
    """
    separate: dict[str, Tensor] = {}
    storages: set[int] = set()
    for name, tensor in tensors.items():
        own = tensor.detach().cpu().contiguous()
        if own.untyped_storage().data_ptr() in storages:
            own = own.clone()
        storages.add(own.untyped_storage().data_ptr())
        separate[name] = own
    return separate


def parse(content: bytes) -> TensorsAndHeader:
    """Return the tensors and the header that `serialize` was given.

    Args:
        content: Content of a file.

    Raises:
        ValueError: If the content is damaged, or another program wrote it.
    """
    try:
        tensors = load(content)
    except SafetensorError as error:
        raise ValueError(str(error)) from error
    length = int.from_bytes(content[:8], "little")
    try:
        header = json.loads(json.loads(content[8 : 8 + length]).get("__metadata__", {}).get("header", "null"))
    except RecursionError as error:
        raise ValueError("the JSON in its header is nested too deeply") from error
    if not isinstance(header, dict):
        raise ValueError("its header was not written by timm-ablate")
    return tensors, header
