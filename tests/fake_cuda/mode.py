"""Fake CUDA tensors on a computer without a driver.

On tensors of torch's FakeTensorMode, autocast, autograd's formulas, the gradient scaler and optimizers run as on a GPU,
but kernels only compute shapes, types and strides. Whatever needs a driver besides is replaced here.
"""

import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
import torch._subclasses.fake_tensor as fake_tensor
from safetensors.torch import load_file
from torch import Tensor, nn
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensor,
    FakeTensorMode,
    unset_fake_temporarily,
)
from torch.utils._pytree import tree_leaves, tree_map_only

from benchmarks.training import augment, tensor_file, weights
from benchmarks.training.determinism import make_deterministic
from tests.fake_cuda import engine

DEVICE = "cuda:0"  # with an index, because torch asks the driver for the index of "cuda"
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


class FakeGenerator(torch.Generator):
    """A generator that claims to be on a GPU. Its state is that of a generator on the CPU."""

    def __new__(cls, device: Any = "cpu") -> "FakeGenerator":
        return super().__new__(cls, device="cpu")

    def __init__(self, device: Any = "cpu") -> None:
        self._device = torch.device(DEVICE if str(device) == "cuda" else device)

    @property
    def device(self) -> torch.device:
        return self._device

    def set_state(self, state: Tensor) -> "FakeGenerator":  # type: ignore[override]
        """Do nothing, because states that were stored in a file have lost their values."""
        return self


class FakeEvent:
    """In place of `torch.cuda.Event`. Half a second passes between two events."""

    def __init__(self, enable_timing: bool = False) -> None: ...

    def record(self) -> None: ...

    def synchronize(self) -> None:
        torch.cuda.synchronize()

    def elapsed_time(self, _: "FakeEvent") -> float:
        return 500.0  # milliseconds


def _apply(self: nn.Module, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> nn.Module:
    """Convert all tensors of a module, as `nn.Module._apply` does. That one cannot convert fake parameters."""
    for module in self.modules() if recurse else (self,):
        for name, parameter in module._parameters.items():
            if parameter is None:
                continue
            with torch.no_grad():
                converted = fn(parameter)
            if isinstance(parameter, FakeTensor) and converted.device == parameter.device:
                parameter.data = converted  # keeps its identity, as on a GPU
            else:
                module._parameters[name] = nn.Parameter(converted, parameter.requires_grad)
        module._buffers.update({name: b if b is None else fn(b) for name, b in module._buffers.items()})
    return self


def _zeros(tensor: Tensor) -> Tensor:
    """Return a real tensor in place of a fake one."""
    with unset_fake_temporarily():
        return torch.zeros(tensor.shape, dtype=tensor.dtype)


def _numpy(self: Tensor) -> np.ndarray:
    assert self.device.type == "cpu", f"can't convert {self.device} device type tensor to numpy"
    with unset_fake_temporarily():
        return torch.zeros(self.shape, dtype=self.dtype).numpy()


def _separate(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return zeros to write to a file, because fake tensors have no values."""
    return {name: _zeros(tensor.detach().cpu()) for name, tensor in tensors.items()}


def _load_file(path: Path) -> dict[str, Tensor]:
    with unset_fake_temporarily():
        return load_file(path)


def _do_nothing(*arguments: object) -> None: ...


@contextmanager
def _deterministic() -> Iterator[None]:
    """Use deterministic algorithms, as a run does: torch then selects other operators."""
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    make_deterministic()
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])


@contextmanager
def fake_cuda() -> Iterator[FakeCudaMode]:
    """Make torch believe that there is a GPU. Tensors that are created on it, or copied to it, are fake."""
    cuda = {
        "Event": FakeEvent,
        "current_device": lambda: 0,
        "device_count": lambda: 1,
        "empty_cache": _do_nothing,
        "get_device_capability": lambda device=None: (9, 0),
        "get_device_name": lambda device=None: "fake GPU",
        "get_rng_state": lambda device=None: torch.zeros(16, dtype=torch.uint8),
        "is_available": lambda: True,
        "is_bf16_supported": lambda including_emulation=True: True,
        "max_memory_allocated": lambda device=None: 2**30,
        "reset_peak_memory_stats": _do_nothing,
        "set_device": _do_nothing,
        "set_rng_state": _do_nothing,
        "synchronize": _do_nothing,
    }
    with ExitStack() as stack:
        stack.enter_context(mock.patch.multiple(torch.cuda, **cuda))
        stack.enter_context(mock.patch.object(fake_tensor, "init_gpu_context", _do_nothing))
        # Otherwise, constants are created on the device, because torch believes that it is available.
        stack.enter_context(mock.patch.object(FakeTensorMode, "avoid_device_init", True))
        stack.enter_context(mock.patch.object(torch, "Generator", FakeGenerator))
        stack.enter_context(mock.patch.object(torch, "set_rng_state", _do_nothing))  # see FakeGenerator.set_state
        stack.enter_context(mock.patch.object(nn.Module, "_apply", _apply))
        stack.enter_context(mock.patch.object(Tensor, "backward", engine.backward))
        stack.enter_context(mock.patch.object(torch.autograd, "grad", engine.grad))
        stack.enter_context(mock.patch.object(FakeTensor, "numpy", _numpy))
        stack.enter_context(mock.patch.object(FakeTensor, "tolist", lambda self: _numpy(self.cpu()).tolist()))
        stack.enter_context(mock.patch.object(tensor_file, "_separate", _separate))
        stack.enter_context(mock.patch.object(weights, "load_file", _load_file))
        stack.enter_context(_deterministic())
        stack.enter_context(warnings.catch_warnings())
        warnings.filterwarnings("ignore", "Accessing the data pointer of FakeTensor")  # by copy.deepcopy
        stack.callback(augment._pixel_values.cache_clear)  # it would keep fake tensors of this mode
        yield stack.enter_context(FakeCudaMode())
