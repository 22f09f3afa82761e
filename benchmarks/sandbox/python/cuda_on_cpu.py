"""Let `.cuda()` and `device="cuda"` mean the CPU, for files that use a GPU where there is none."""

import re
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

GPU_ERROR = re.compile(r"NVIDIA driver|CUDA enabled|CUDA driver|CUDA GPUs|with CUDA|HIP GPUs")


TENSOR_TYPES = ("BFloat16", "Bool", "Byte", "Char", "Double", "Float", "Half", "Int", "Long", "Short")


class CudaOnCpu(TorchFunctionMode):
    """While active, tensors that would be created on or moved to a GPU are created on or stay on the CPU."""

    is_active = False

    def start(self) -> None:
        """Activate it until `stop` is called."""
        self.is_active = True
        self._tensor_types = {f"{name}Tensor": getattr(torch.cuda, f"{name}Tensor") for name in TENSOR_TYPES}
        for name in self._tensor_types:  # calls of these classes are not seen by a mode
            setattr(torch.cuda, name, getattr(torch, name))
        self.__enter__()  # type: ignore[no-untyped-call]

    def stop(self) -> None:
        """Deactivate it."""
        self.is_active = False
        self.__exit__(None, None, None)  # type: ignore[no-untyped-call]
        for name, tensor_type in self._tensor_types.items():
            setattr(torch.cuda, name, tensor_type)

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Call a function of torch without its CUDA devices."""
        if func is Tensor.cuda:
            return args[0]
        named = {key: value for key, value in (kwargs or {}).items() if key != "device" or not _is_cuda(value)}
        if func is Tensor.type:
            args = tuple(value.replace("torch.cuda.", "torch.") if isinstance(value, str) else value for value in args)
        if func is Tensor.to:
            args = tuple(args[0].device if _is_cuda(value) else value for value in args)
        return func(*args, **named)


CUDA_ON_CPU = CudaOnCpu()


def needs_gpu(error: BaseException) -> bool:
    """Return whether code failed because there is no GPU, and may run with `CUDA_ON_CPU`."""
    return not CUDA_ON_CPU.is_active and not torch.cuda.is_available() and bool(GPU_ERROR.search(str(error)))


def _is_cuda(value: Any) -> bool:
    """Return whether an argument is a CUDA device, or the name of one."""
    return (isinstance(value, torch.device) and value.type == "cuda") or (
        isinstance(value, str) and value.partition(":")[0] == "cuda"
    )
