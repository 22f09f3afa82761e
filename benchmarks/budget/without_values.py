"""Build and run models on the meta device without operations that only affect values, which take most of the time."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

RANDOM_METHODS = frozenset({Tensor.normal_, Tensor.uniform_})
TRAINING_ARGUMENT, NUM_OUTPUTS = 5, 3  # of native_batch_norm
aten = torch.ops.aten
ELEMENTWISE = frozenset(
    {aten.add.Tensor, aten.sub.Tensor, aten.mul.Tensor, aten.div.Tensor, aten.gelu.default, aten.hardsigmoid.default}
    | {aten.hardswish.default, aten.relu.default, aten.rsqrt.default, aten.sigmoid.default, aten.silu.default}
)


class _WithoutRandomValues(TorchFunctionMode):
    """Leaves out random initialization."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return args[0] if func in RANDOM_METHODS else func(*args, **(kwargs or {}))


class _WithoutElementwise(TorchDispatchMode):
    """Leaves out BatchNorm in evaluation mode and elementwise operators, whose shapes torch computes in slow Python."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is aten.native_batch_norm.default and not args[TRAINING_ARGUMENT] and args[0].is_meta:
            return (args[0].detach(),) * NUM_OUTPUTS
        if func in ELEMENTWISE and not kwargs and _has_shape_of_first(args):
            return args[0].detach()  # another tensor, since the model may change its shape in place
        return func(*args, **(kwargs or {}))


def _has_shape_of_first(args: tuple[Any, ...]) -> bool:
    """Return whether the result of an elementwise operator has the shape and type of the first argument."""
    first, others = args[0], [arg for arg in args[1:] if isinstance(arg, Tensor)]
    if not (isinstance(first, Tensor) and first.is_meta and first.is_floating_point()):
        return False
    return all(
        other.dtype == first.dtype and torch.broadcast_shapes(first.shape, other.shape) == first.shape
        for other in others
    )


@contextmanager
def building_without_values() -> Iterator[None]:
    """Build modules on the meta device in this context."""
    with torch.device("meta"), _WithoutRandomValues():
        yield


@contextmanager
def running_without_values(model: nn.Module) -> Iterator[None]:
    """Run a model on the meta device in this context, without gradients, BatchNorm and elementwise operators."""
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter in trainable:
        parameter.requires_grad = False  # `requires_grad_` does not accept the parameters of lazy layers
    try:
        with _WithoutElementwise():  # type: ignore[no-untyped-call]
            yield
    finally:
        for parameter in trainable:
            parameter.requires_grad = True
