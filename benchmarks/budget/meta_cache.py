"""Remember what operators return on the meta device, because torch computes much of it in Python, which is slow."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode

MAX_CACHED_CALLS = 100_000

_Layout = tuple[torch.Size, tuple[int, ...], torch.dtype]

_LAYOUTS: dict[Any, list[_Layout] | _Layout] = {}  # of the outputs, by operator and inputs; for all models of a process


class _NotCached(Exception):
    """An argument is none of those that determine the outputs of an operator on the meta device."""


class MetaCache(TorchDispatchMode):
    """In this context, operators on meta tensors run once for each combination of shapes and other arguments.

    Operators that change their inputs, or return views of them, always run.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        try:
            key = (func, _describe(args), *((name, _describe(value)) for name, value in (kwargs or {}).items()))
            layouts = _LAYOUTS.get(key) if _is_functional(func) else None
        except (_NotCached, TypeError):  # TypeError: it cannot be hashed
            return func(*args, **(kwargs or {}))
        if layouts is not None:
            return tuple(map(_empty, layouts)) if isinstance(layouts, list) else _empty(layouts)
        outputs = func(*args, **(kwargs or {}))
        tensors = list(outputs) if isinstance(outputs, tuple) else [outputs]
        if _is_functional(func) and len(_LAYOUTS) < MAX_CACHED_CALLS and _are_new(tensors, args):
            layouts = [(tensor.shape, tensor.stride(), tensor.dtype) for tensor in tensors]
            _LAYOUTS[key] = layouts if isinstance(outputs, tuple) else layouts[0]
        return outputs


def _is_functional(func: Any) -> bool:
    """Return whether an operator of torch returns new tensors only, and changes nothing."""
    return (
        isinstance(func, OpOverload)
        and func.namespace == "aten"
        and not func._schema.is_mutable
        and all(output.alias_info is None for output in func._schema.returns)
    )


def _describe(value: Any) -> Any:
    """Return all that an operator can know about an argument on the meta device, as a key of a dict."""
    if type(value) in (Tensor, nn.Parameter):
        if not value.is_meta or value.layout != torch.strided or value.dtype.is_complex:
            raise _NotCached
        return value.shape, value.stride(), value.dtype
    if isinstance(value, Tensor):
        raise _NotCached
    if isinstance(value, tuple | list):
        return tuple(map(_describe, value))
    return type(value), value  # because True == 1 == 1.0


def _are_new(outputs: Sequence[Any], args: Any) -> bool:
    """Return whether all outputs are plain meta tensors, and none shares the memory of an input or another output."""
    inputs = [value for arg in args for value in (arg if isinstance(arg, tuple | list) else (arg,))]
    if not all(type(output) is Tensor and output.is_meta and output.layout == torch.strided for output in outputs):
        return False
    tensors = [value for value in (*inputs, *outputs) if isinstance(value, Tensor)]
    storages = [tensor.untyped_storage()._cdata for tensor in tensors]
    return all(storages.count(output.untyped_storage()._cdata) == 1 for output in outputs)


def _empty(layout: _Layout) -> Tensor:
    shape, strides, dtype = layout
    return torch.empty_strided(shape, strides, dtype=dtype, device="meta")
