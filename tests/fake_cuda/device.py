"""A GPU that does not exist.

On tensors of torch's FakeTensorMode, autocast, autograd's formulas, the gradient scaler and optimizers run as on a GPU,
but kernels only compute shapes, types and strides. What needs a driver besides is replaced here.
"""

import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import numpy as np
import safetensors.torch
import torch
import torch._subclasses.fake_tensor as fake_tensor
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode, unset_fake_temporarily

from benchmarks.training import augment, tensor_file
from benchmarks.training.determinism import make_deterministic
from tests.fake_cuda import engine
from tests.fake_cuda.mode import FakeCudaMode

DEVICE = "cuda:0"  # with an index, because torch asks the driver for the index of "cuda"
CUDA = {  # functions of torch.cuda, and what they return
    "current_device": 0,
    "device_count": 1,
    "empty_cache": None,
    "get_device_capability": (9, 0),
    "get_device_name": "fake GPU",
    "is_available": True,
    "is_bf16_supported": True,
    "max_memory_allocated": 2**30,
    "reset_peak_memory_stats": None,
    "set_device": None,
    "set_rng_state": None,
    "synchronize": None,
}


class FakeGenerator(torch.Generator):
    """A generator that claims to be on a GPU. Its state is that of a generator on the CPU."""

    def __new__(cls, device: Any = "cpu") -> "FakeGenerator":
        return super().__new__(cls, device="cpu")  # type: ignore[call-arg]  # incomplete in torch's annotations

    def __init__(self, device: Any = "cpu") -> None:
        self._device = torch.device(DEVICE if str(device) == "cuda" else device)

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return self._device

    def set_state(self, state: Tensor) -> "FakeGenerator":
        """Do nothing, because a fake tensor has no values."""
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


def _save(tensors: dict[str, Tensor], metadata: dict[str, str]) -> bytes:
    with unset_fake_temporarily():
        return safetensors.torch.save(tensors, metadata)


def always(answer: Any) -> Callable[..., Any]:
    """Return a function that returns `answer` for all arguments."""
    return lambda *_, **__: answer


def _random_state(device: object = None) -> Tensor:
    return torch.zeros(16, dtype=torch.uint8)


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
    with ExitStack() as stack:
        for name, answer in CUDA.items():
            stack.enter_context(mock.patch.object(torch.cuda, name, always(answer)))
        stack.enter_context(mock.patch.object(torch.cuda, "Event", FakeEvent))
        stack.enter_context(mock.patch.object(torch.cuda, "get_rng_state", _random_state))
        stack.enter_context(mock.patch.object(fake_tensor, "init_gpu_context", always(None)))
        # Otherwise, constants are created on the device, because torch believes that it is available.
        stack.enter_context(mock.patch.object(FakeTensorMode, "avoid_device_init", True))
        stack.enter_context(mock.patch.object(torch, "Generator", FakeGenerator))
        stack.enter_context(mock.patch.object(torch, "set_rng_state", always(None)))  # see FakeGenerator.set_state
        stack.enter_context(mock.patch.object(nn.Module, "_apply", _apply))
        stack.enter_context(mock.patch.object(Tensor, "backward", engine.backward))
        stack.enter_context(mock.patch.object(torch.autograd, "grad", engine.grad))
        stack.enter_context(mock.patch.object(FakeTensor, "numpy", _numpy))
        stack.enter_context(mock.patch.object(FakeTensor, "tolist", lambda self: _numpy(self.cpu()).tolist()))
        stack.enter_context(mock.patch.object(tensor_file, "_separate", _separate))
        stack.enter_context(mock.patch.object(tensor_file, "save", _save))
        stack.enter_context(_deterministic())
        stack.enter_context(warnings.catch_warnings())
        warnings.filterwarnings("ignore", "Accessing the data pointer of FakeTensor")  # by copy.deepcopy
        augment._pixel_values.cache_clear()  # its tensors belong to one mode, or to a real GPU
        stack.callback(augment._pixel_values.cache_clear)
        yield stack.enter_context(FakeCudaMode())
