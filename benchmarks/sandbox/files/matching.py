"""Compare the tensors of a weights file with those of a network, as strict loading does."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from torch import nn

from arch.errors import InputError
from benchmarks.budget.builders import Builder
from benchmarks.budget.cost import materialize
from benchmarks.sandbox.files.archive import content_of
from benchmarks.sandbox.files.checkpoint import without_wrappers
from benchmarks.sandbox.files.weights import read_pickle, read_safetensors

MAX_NAMES_PER_MISMATCH = 3  # in a message
Shapes = Mapping[str, tuple[int, ...]]


def tensor_shapes(builder: Builder, input_shape: tuple[int, int, int]) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the parameters and buffers of a model, by name, without the prefixes of wrappers."""
    try:
        with torch.device("meta"):
            model = materialize(builder(), input_shape)
    except Exception:  # not every model can be built on the meta device
        model = materialize(builder(), input_shape)
    return _shapes_of(model)


def check_weights(path: Path, shapes: Shapes, allow_code: bool) -> str:
    """Compare a weights file with the shapes of a model, and return a sentence for the report.

    Args:
        path: The weights file.
        shapes: The shapes of the model's parameters and buffers.
        allow_code: Whether a pickle of more than tensors and plain data may be opened.

    Raises:
        InputError: If strict loading would fail. Counters of batches may be missing, as torch allows.
        FileRefused: If the file would run code, and `allow_code` is false.
    """
    saved, shapes = _with_common_names(_read(path, allow_code), shapes)
    missing = [name for name in shapes if name not in saved and not name.endswith("num_batches_tracked")]
    unexpected = [name for name in saved if name not in shapes]
    different = [
        f"{name} is {tuple(saved[name])} in the file and {tuple(shapes[name])} in the model"
        for name in saved
        if name in shapes and tuple(saved[name]) != tuple(shapes[name])
    ]
    groups = {"missing": missing, "unexpected": unexpected, "of another shape": different}
    mismatches = [f"{len(names)} {kind} ({_first(names)})" for kind, names in groups.items() if names]
    if mismatches:
        raise InputError(f"the tensors of {path.name} do not match the model: {'; '.join(mismatches)}")
    return f"all {len(saved)} tensors of {path.name} match the model"


def _read(path: Path, allow_code: bool) -> Shapes:
    if path.suffix == ".safetensors":
        return without_wrappers(read_safetensors(path).shapes)
    if content_of(path) != "pickle":
        raise InputError(f"{path.name} is a program, not a weights file")
    content = read_pickle(path, allow_code)
    return _shapes_of(content) if isinstance(content, nn.Module) else content.shapes


def _shapes_of(model: nn.Module) -> dict[str, tuple[int, ...]]:
    state = {name: tuple(value.shape) for name, value in model.state_dict().items() if isinstance(value, torch.Tensor)}
    return without_wrappers(state)


def _with_common_names(saved: Shapes, shapes: Shapes) -> tuple[Shapes, Shapes]:
    """Remove the first part of all names on one side, such as `model.` of Lightning, if they then match better."""
    pairs = [(saved, shapes), (_without_first_part(saved), shapes), (saved, _without_first_part(shapes))]
    return max(pairs, key=lambda pair: len(pair[0].keys() & pair[1].keys()))


def _without_first_part(shapes: Shapes) -> Shapes:
    first_parts = {name.partition(".")[0] for name in shapes}
    return {name.partition(".")[2]: shape for name, shape in shapes.items()} if len(first_parts) == 1 else shapes


def _first(names: Iterable[str]) -> str:
    listed = list(names)
    more = ", ..." if len(listed) > MAX_NAMES_PER_MISMATCH else ""
    return ", ".join(listed[:MAX_NAMES_PER_MISMATCH]) + more
