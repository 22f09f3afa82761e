"""A FakeTensorMode for tensors on a GPU that does not exist."""

from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException, FakeTensorMode
from torch.utils._pytree import tree_leaves, tree_map_only

aten = torch.ops.aten
# Kernels that change tensors in place and have no implementation for fake tensors.
IN_PLACE = {
    aten._amp_foreach_non_finite_check_and_unscale_,
    aten._amp_update_scale_,
    aten._fused_adagrad_,
    aten._fused_adam_,
    aten._fused_adamw_,
    aten._fused_sgd_,
}


# On a GPU, these kernels keep the channels-last format. Without a driver, torch believes that cuDNN cannot compute in
# bfloat16, and selects kernels that do not.
KEEP_CHANNELS_LAST = {
    aten.convolution,
    aten.convolution_backward,
    aten.native_batch_norm,
    aten.native_batch_norm_backward,
}


class FakeCudaMode(FakeTensorMode):
    """A FakeTensorMode that creates tensors on a missing GPU, and returns some value where a program reads one."""

    def __init__(self) -> None:
        super().__init__(allow_non_fake_inputs=True)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        operator = func.overloadpacket
        if operator in IN_PLACE:
            return _check_in_place(operator.__name__, tree_leaves((args, kwargs)))
        if operator in (aten._pin_memory, aten.pin_memory):
            return args[0]
        if operator is aten.is_pinned:
            return False
        try:
            result = super().__torch_dispatch__(func, types, args, kwargs)
        except DataDependentOutputException:
            return _any_value(operator, args[0])
        except DynamicOutputShapeException:
            with self:
                return _largest_result(operator, args, kwargs)
        return self._in_channels_last(result) if _keeps_channels_last(operator, args) else result

    def _in_channels_last(self, result: Any) -> Any:
        def convert(tensor: Tensor) -> Tensor:
            return tensor.contiguous(memory_format=torch.channels_last) if tensor.dim() == 4 else tensor

        with self:
            return tree_map_only(Tensor, convert, result)


def _keeps_channels_last(operator: Any, args: Any) -> bool:
    if operator not in KEEP_CHANNELS_LAST:
        return False
    tensors = [argument for argument in args[:3] if isinstance(argument, Tensor) and argument.dim() == 4]
    return any(tensor.is_contiguous(memory_format=torch.channels_last) for tensor in tensors)


def _any_value(operator: Any, tensor: Tensor) -> Any:
    """Return a value of the type that a program reads from the device."""
    if operator is not aten._local_scalar_dense:
        return True
    number = tensor.device.type == "cpu"  # counters of updates are at least 1; found_inf on the GPU is 0
    return float(number) if tensor.dtype.is_floating_point else int(number)


def _check_in_place(name: str, leaves: list[Any]) -> None:
    """Raise RuntimeError if tensors are on several devices, as the kernel does."""
    devices = {str(leaf.device) for leaf in leaves if isinstance(leaf, Tensor)}
    if len(devices) != 1:
        raise RuntimeError(f"{name}: the tensors are on {' and '.join(sorted(devices))}")


def _largest_result(operator: Any, args: Any, kwargs: Any) -> Tensor:
    """Return the result of an operator whose size depends on values, with the maximum size."""
    tensor: Tensor = args[0]
    if operator is aten.nonzero:
        return tensor.new_empty(tensor.numel(), tensor.dim(), dtype=torch.int64)
    if operator is aten.masked_select:
        return tensor.new_empty(tensor.numel())
    if operator is aten.bincount:  # of labels below `minlength`
        return tensor.new_empty(kwargs["minlength"] if "minlength" in kwargs else args[2], dtype=torch.int64)
    if operator is aten.index and len(args[1]) == 1:
        mask = args[1][0]
        return tensor.new_empty(mask.numel(), *tensor.shape[mask.dim() :])
    raise NotImplementedError(f"the size of the result of {operator} is unknown")
