"""List the operators of a training step or an evaluation batch, by tracing a model on the meta device."""

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.budget.element_sizes import ElementSizes
from benchmarks.budget.operator_kinds import VIEW_OPERATORS, Operator, describe, tensors_of

Work = list[Operator]  # all operators of one step


class _Recorder(TorchDispatchMode):
    """Records every operator that runs in the context, including those of the backward pass."""

    def __init__(self, precision: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.work: Work = []
        self.is_backward = False
        self._sizes = ElementSizes(precision != "fp32")

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        packet, inputs = func.overloadpacket, tensors_of(args)
        if not self.is_backward:
            casts = self._sizes.cast_bytes(packet, inputs)
            self.work += [Operator("cast", "", 0, size) for size in casts]
        self._sizes.record(packet, inputs, tensors_of(out), self.is_backward)
        if packet not in VIEW_OPERATORS:
            self.work += describe(packet, args, out, partial(self._sizes.num_bytes, packet))
        return out


def training_work(
    model: nn.Module, input_shape: tuple[int, int, int], batch_size: int, precision: str = "fp32"
) -> Work:
    """Return the operators of one training step.

    Args:
        model: A model on the meta device, so that nothing is computed.
        input_shape: (channels, height, width).
        batch_size: Images per step.
        precision: "fp32", or that of mixed precision, in which most tensors have half the bytes.
    """
    images = torch.empty(batch_size, *input_shape, device="meta")
    with _Recorder(precision) as recorder:
        total = model.train()(images).sum()
        recorder.is_backward = True
        total.backward()
    parameters = sum(_float32_bytes(parameter) for parameter in model.parameters() if parameter.requires_grad)
    return [
        *recorder.work,
        Operator("update", "", 0, parameters),
        Operator("augmentation", "", 0, _float32_bytes(images)),
    ]


def evaluation_work(
    model: nn.Module, input_shape: tuple[int, int, int], batch_size: int, precision: str = "fp32"
) -> Work:
    """Return the operators of one evaluation batch; see `training_work` for the arguments."""
    images = torch.empty(batch_size, *input_shape, device="meta")
    with _Recorder(precision) as recorder, torch.no_grad():
        model.eval()(images)
    return [*recorder.work, Operator("normalization", "", 0, _float32_bytes(images))]


def _float32_bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()
