"""Sort the operators of a network into kinds whose speed differs, such as depthwise convolutions with 5x5 kernels."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import flop_registry

aten = torch.ops.aten
CONVOLUTIONS = frozenset({aten.convolution, aten._convolution, aten.convolution_backward})
MATRIX_PRODUCTS = frozenset({aten.mm, aten.addmm, aten.bmm, aten.baddbmm})
VIEW_OPERATORS = frozenset(  # operators that move no data
    {aten.view, aten._unsafe_view, aten.t, aten.transpose, aten.permute, aten.expand, aten.detach, aten.alias}
    | {aten.slice, aten.select, aten.unsqueeze, aten.squeeze, aten.as_strided, aten.split, aten.split_with_sizes}
    | {aten.unbind, aten.chunk, aten.empty, aten.empty_like, aten.new_empty, aten.sym_size, aten.is_same_size}
    | {aten.new_empty_strided, aten.diagonal, aten.lift_fresh}
)
KIND_OF_NAME = (  # the first word that an operator's name contains
    ("layer_norm", "layer norm"),
    ("group_norm", "group norm"),
    ("softmax", "softmax"),
    ("pool", "pooling"),
    ("upsample", "resampling"),
    ("reflection_pad", "resampling"),
    ("grid_sampler", "resampling"),
)
REDUCTIONS = frozenset({aten.sum, aten.mean, aten.var, aten.var_mean, aten.std, aten.amax, aten.linalg_vector_norm})
COPIES = frozenset(
    {aten.clone, aten.copy_, aten.constant_pad_nd, aten.cat, aten.stack, aten.roll, aten.repeat, aten.slice_backward}
    | {aten.select_backward, aten.index, aten.index_put, aten.unfold, aten.unfold_backward, aten.im2col, aten.col2im}
)
GROUP_WIDTHS = (4, 8, 16, 32, 64)  # grouped convolutions are told apart by the smallest of these that is not exceeded
FAST_GROUP_WIDTHS = (4, 8, 16, 32)  # widths for which cuDNN has grouped kernels on matrix units, with MIN_FAST_GROUPS
MIN_FAST_GROUPS, FAST_CHANNEL_MULTIPLE = 12, 32
THIN_CHANNELS = 16  # a convolution with fewer channels leaves vector and matrix units idle
CHANNEL_MULTIPLE = 8  # other numbers of channels leave matrix units idle in half precision

ByteCount = Callable[[Tensor], int]


@dataclass(frozen=True)
class Operator:
    """One operator of one step."""

    kind: str  # from general to special, as in "depthwise convolution, 5x5"
    phase: str  # "", "backward", "input gradient" or "weight gradient"
    flops: float
    bytes: float  # read and written


def describe(packet: Any, args: Any, out: Any, num_bytes: ByteCount) -> list[Operator]:
    """Return what an operator computes and moves; a convolution's backward pass consists of two operators.

    Args:
        packet: The operator, such as `torch.ops.aten.mm`.
        args: Its arguments.
        out: What it returns.
        num_bytes: Returns the bytes of a tensor.
    """
    if packet is aten.convolution_backward:
        return _convolution_backward(args, num_bytes)
    if packet in CONVOLUTIONS:
        images, weight, transposed = args[0], args[1], args[6]
        flops = 2 * (images if transposed else out).numel() * prod(weight.shape[1:])
        size = num_bytes(images) + num_bytes(weight) + num_bytes(out)
        return [Operator(convolution_kind(weight, args[3], args[5], args[8]), "", flops, size)]
    name = packet.__name__
    phase = "backward" if "backward" in name else ""
    count_flops = flop_registry.get(packet)
    flops = count_flops(*args, out_val=out) if count_flops else 0
    size = sum(map(num_bytes, tensors_of(args))) + sum(map(num_bytes, tensors_of(out)))
    return [Operator(_kind(packet, args), phase, flops, size)]


def _convolution_backward(args: Any, num_bytes: ByteCount) -> list[Operator]:
    gradient, images, weight, transposed, needed = args[0], args[1], args[2], args[7], args[10]
    flops = 2 * (images if transposed else gradient).numel() * prod(weight.shape[1:])
    kind = convolution_kind(weight, args[4], args[6], args[9])
    size = num_bytes(gradient) + num_bytes(images) + num_bytes(weight)
    phases = zip(("input gradient", "weight gradient"), needed[:2], strict=True)
    return [Operator(kind, phase, flops, size) for phase, is_needed in phases if is_needed]


def convolution_kind(weight: Tensor, stride: Sequence[int], dilation: Sequence[int], groups: int) -> str:
    """Return the kind of a convolution.

    Args:
        weight: Its shape is (outputs, inputs per group, ...).
        stride: Its steps in each dimension.
        dilation: The distances of its taps in each dimension.
        groups: Its number of groups.
    """
    outputs, width = weight.shape[:2]
    if groups > 1 and width == 1:
        kernel = max(weight.shape[2:])
        return f"depthwise convolution, {kernel}x{kernel}{', strided' if max(stride) > 1 else ''}"
    if groups > 1:
        is_square = outputs == groups * width and width in FAST_GROUP_WIDTHS and max(dilation) == 1
        is_fast = is_square and groups >= MIN_FAST_GROUPS and outputs % FAST_CHANNEL_MULTIPLE == 0
        bound = next((str(bound) for bound in GROUP_WIDTHS if width <= bound), "above")
        return f"grouped convolution, {'fast' if is_fast else 'slow'}, width {bound}"
    kind = "convolution, " + ("pointwise" if prod(weight.shape[2:]) == 1 else "spatial")
    if min(outputs, width) < THIN_CHANNELS:
        return f"{kind} thin"
    return kind if outputs % CHANNEL_MULTIPLE == width % CHANNEL_MULTIPLE == 0 else f"{kind} unaligned"


def _kind(packet: Any, args: Any) -> str:
    if packet in MATRIX_PRODUCTS:
        return f"matrix product, {'batched' if packet in (aten.bmm, aten.baddbmm) else 'single'}"
    if packet in REDUCTIONS:
        return "reduction"
    if packet in COPIES:
        return "copy"
    name = packet.__name__
    if "batch_norm" in name:
        channels = tensors_of(args)["backward" in name].shape[1]  # the gradient of the output comes first
        return "batch norm" if channels % CHANNEL_MULTIPLE == 0 else "batch norm, unaligned"
    return next((kind for word, kind in KIND_OF_NAME if word in name), "elementwise")


def tensors_of(values: Any) -> list[Tensor]:
    """Return the tensors among arguments, including those in lists."""
    if isinstance(values, Tensor):
        return [values]
    return [tensor for value in values for tensor in tensors_of(value)] if isinstance(values, (tuple, list)) else []
