"""Bytes per element that tensors would have under mixed precision, while a model is traced in float32."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, UntypedStorage

aten = torch.ops.aten
HALF_OPERATORS = frozenset(  # what autocast runs in half precision
    {aten.convolution, aten._convolution, aten.convolution_backward, aten.mm, aten.addmm, aten.bmm, aten.baddbmm}
)
FULL_OPERATORS = frozenset(  # what autocast runs in float32
    {aten.native_layer_norm, aten.native_group_norm, aten._softmax, aten._log_softmax, aten.nll_loss_forward}
    | {aten.pow, aten.exp, aten.log, aten.sum, aten.prod, aten.cumsum, aten.rsqrt, aten.reciprocal, aten.softplus}
    | {aten.linalg_vector_norm}
)
FULL, HALF = 4, 2  # bytes per element


class ElementSizes:
    """Follows the rules of autocast on CUDA, which tensors on the meta device do not support.

    Args:
        is_mixed: Whether the training uses mixed precision; without it, all sizes are those of the traced tensors.
    """

    def __init__(self, is_mixed: bool) -> None:
        self.is_mixed = is_mixed
        self._sizes: dict[int, int] = {}  # by storage, so that a view has the size of what it views
        self._cast: set[int] = set()  # storages that were cast; autocast keeps the copies of the weights
        self._storages: list[UntypedStorage] = []  # kept, so that no later tensor has the address of an earlier one

    def num_bytes(self, packet: Any, tensor: Tensor) -> int:
        """Return the bytes of a tensor that an operator reads or returns."""
        if not self.is_mixed or not tensor.is_floating_point():
            return tensor.numel() * tensor.element_size()
        return tensor.numel() * (self._required_size(packet) or self._sizes.get(_storage(tensor), FULL))

    def cast_bytes(self, packet: Any, inputs: Iterable[Tensor]) -> list[int]:
        """Return the bytes that each cast moves which autocast inserts before an operator of the forward pass."""
        needed = self._required_size(packet)
        if not self.is_mixed or needed is None:
            return []
        casts = {
            _storage(tensor): (FULL + HALF) * tensor.numel()
            for tensor in inputs
            if tensor.is_floating_point() and self._sizes.get(_storage(tensor), FULL) != needed
        }
        moved = [size for storage, size in casts.items() if storage not in self._cast]
        self._cast.update(casts)
        return moved

    def record(self, packet: Any, inputs: list[Tensor], outputs: list[Tensor], is_backward: bool) -> None:
        """Set the sizes of what an operator returns; views and in-place operators keep theirs."""
        size = None if is_backward and packet not in HALF_OPERATORS else self._required_size(packet)
        known = {_storage(tensor) for tensor in inputs}
        for tensor in outputs:
            if tensor.is_floating_point() and _storage(tensor) not in known:
                self._storages.append(tensor.untyped_storage())
                self._sizes[_storage(tensor)] = size or self._promoted_size(packet, inputs)

    def _required_size(self, packet: Any) -> int | None:
        if packet in HALF_OPERATORS:
            return HALF
        return FULL if packet in FULL_OPERATORS else None

    def _promoted_size(self, packet: Any, inputs: list[Tensor]) -> int:
        """Return the size of the inputs that decide about that of the output."""
        floating = [tensor for tensor in inputs if tensor.is_floating_point() and tensor.dim() > 0]
        if "batch_norm" in packet.__name__:  # its weights are float32, and what it returns is not
            floating = floating[:1]
        return max((self._sizes.get(_storage(tensor), FULL) for tensor in floating), default=FULL)


def _storage(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)
