"""A record of the operators that reach the device, and what is wrong with them."""

from collections import Counter
from contextlib import ExitStack
from typing import Any, Self
from unittest import mock

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tests.fake_cuda.nondeterministic import is_nondeterministic

aten = torch.ops.aten
# Operators for which the host waits until the device has computed a value, such as the size of their result.
READS_VALUES = {
    aten._local_scalar_dense,  # item()
    aten._unique2,
    aten.bincount,
    aten.equal,
    aten.masked_select,
    aten.nonzero,
    aten.unique_consecutive,
    aten.unique_dim,
}
# Without bmm: fake tensors take the composite attention, which computes in float32, and not a fused kernel.
PRODUCTS = {aten.addmm, aten.convolution, aten.convolution_backward, aten.mm}
COPIES = {aten._to_copy, aten.copy_}


class Recorder(TorchDispatchMode):
    """Records the operators within its context. Use it inside `fake_cuda`.

    Attributes:
        operators: How often each operator ran on the device.
        synchronizations: What made the host wait for the device.
        nondeterministic: Operators without a deterministic kernel.
        float64: Operators with a float64 tensor on the device.
        layout_changes: Operators that turn a channels-last image into one that is not.
        products: The types of the inputs of convolutions and matrix products, as (operator, type).
        nchw_convolutions: Convolutions of images that are not in the channels-last format.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.operators: Counter[str] = Counter()
        self.synchronizations: Counter[str] = Counter()
        self.nondeterministic: Counter[str] = Counter()
        self.float64: Counter[str] = Counter()
        self.layout_changes: Counter[str] = Counter()
        self.products: Counter[tuple[str, torch.dtype]] = Counter()
        self.nchw_convolutions = 0
        self._patches = ExitStack()

    def __enter__(self) -> Self:
        note = self._patches.enter_context(mock.patch.object(torch.cuda, "synchronize"))
        note.side_effect = lambda device=None: self.synchronizations.update(["synchronize"])
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *exception: Any) -> None:
        super().__exit__(*exception)  # type: ignore[no-untyped-call]
        self._patches.close()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        inputs, outputs = _tensors((args, kwargs)), _tensors(result)
        if any(tensor.device.type == "cuda" for tensor in inputs + outputs):
            self._record(func, (args, kwargs), inputs, outputs)
        return result

    def _record(self, func: Any, arguments: Any, inputs: list[Tensor], outputs: list[Tensor]) -> None:
        operator, (args, kwargs) = func.overloadpacket, arguments
        name = operator.__name__
        self.operators[name] += 1
        if reason := _synchronization(operator, args, kwargs, inputs, outputs):
            self.synchronizations[reason] += 1
        if is_nondeterministic(name, args, kwargs):
            self.nondeterministic[name] += 1
        if _computes_in_float64(inputs + outputs):
            self.float64[name] += 1
        if operator in PRODUCTS:
            self.products.update((name, tensor.dtype) for tensor in inputs)
        if operator is aten.convolution and _is_image(args[0]) and not _is_channels_last(args[0]):
            self.nchw_convolutions += 1
        if not func.is_view and _changes_layout(inputs, outputs):
            self.layout_changes[name] += 1


def _synchronization(operator: Any, args: Any, kwargs: Any, inputs: list[Tensor], outputs: list[Tensor]) -> str:
    """Return why the host waits for the device in an operator; "" if it does not."""
    if operator in READS_VALUES:
        return str(operator.__name__)
    if operator is aten.index and any(i is not None and i.dtype in (torch.bool, torch.uint8) for i in args[1]):
        return "boolean mask"
    if operator is aten.repeat_interleave and kwargs.get("output_size") is None:
        return "repeat_interleave"
    devices = {tensor.device.type for tensor in inputs + outputs}
    if operator in COPIES and len(devices) == 2 and not kwargs.get("non_blocking") and True not in args[2:]:
        return f"copy to the {'GPU' if outputs[0].device.type == 'cuda' else 'CPU'}"
    return ""


def _computes_in_float64(tensors: list[Tensor]) -> bool:
    """Return whether float64 is used for more than scalars, such as sums of losses and the scale of gradients."""
    on_device = [tensor for tensor in tensors if tensor.device.type == "cuda"]
    return any(t.dtype == torch.float64 for t in on_device) and any(t.dim() > 0 for t in on_device)


def _tensors(arguments: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(arguments) if isinstance(leaf, Tensor)]


def _changes_layout(inputs: list[Tensor], outputs: list[Tensor]) -> bool:
    """Return whether an image in the channels-last format becomes one of the same size that is not."""
    images = [image for image in inputs if _is_image(image) and _is_channels_last(image) and not image.is_contiguous()]
    return any(
        _is_image(result)
        and result.is_contiguous()
        and not _is_channels_last(result)
        and any(result.numel() >= image.numel() for image in images)
        for result in outputs
    )


def _is_image(tensor: Tensor) -> bool:
    """Return whether a tensor is (batch, channels, height, width). Pooled vectors, with a side of 1, are too small."""
    return tensor.dim() == 4 and min(tensor.shape[2:]) > 1


def _is_channels_last(tensor: Tensor) -> bool:
    return tensor.is_contiguous(memory_format=torch.channels_last)
