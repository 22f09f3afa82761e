"""Build and run models on the meta device without operations that only affect values, which take half of the time."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

RANDOM_METHODS = frozenset({Tensor.normal_, Tensor.uniform_})
TRAINING_ARGUMENT = 5  # of native_batch_norm


class _WithoutRandomValues(TorchFunctionMode):
    """Leaves out random initialization."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return args[0] if func in RANDOM_METHODS else func(*args, **(kwargs or {}))


class _WithoutBatchNorms(TorchDispatchMode):
    """Leaves out the arithmetic of BatchNorm in evaluation mode, which torch runs operator by operator in Python."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten.native_batch_norm.default and not args[TRAINING_ARGUMENT] and args[0].is_meta:
            images = args[0]
            return torch.empty_like(images), images.new_empty(0), images.new_empty(0)
        return func(*args, **(kwargs or {}))


@contextmanager
def building_without_values() -> Iterator[None]:
    """Build modules on the meta device in this context."""
    with torch.device("meta"), _WithoutRandomValues():
        yield


@contextmanager
def running_without_values(model: nn.Module) -> Iterator[None]:
    """Run a model on the meta device in this context, without gradients and the arithmetic of BatchNorm."""
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter in trainable:
        parameter.requires_grad = False  # `requires_grad_` does not accept the parameters of lazy layers
    try:
        with _WithoutBatchNorms():  # type: ignore[no-untyped-call]
            yield
    finally:
        for parameter in trainable:
            parameter.requires_grad = True
