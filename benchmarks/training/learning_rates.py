"""The learning rates of an optimizer, in a form that a CUDA graph can read."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor
from torch.optim import Optimizer


class LearningRates:
    """The learning rates of all parameter groups, which a schedule sets as numbers before every update.

    A CUDA graph repeats the numbers of its capture. If torch's fused SGD reads the rates from tensors instead, whose
    values the host sets before each replay, the update can be part of the graph. On a GPU, these tensors are float32,
    so the rates are rounded to float32 in every compile mode, which makes all of them give the same numbers.

    Args:
        optimizer: The optimizer.
        device: The device of its parameters.

    Attributes:
        are_capturable: Whether the optimizer can read its rates from tensors.
    """

    def __init__(self, optimizer: Optimizer, device: torch.device) -> None:
        self.groups = optimizer.param_groups
        self.are_capturable = isinstance(optimizer, torch.optim.SGD) and bool(optimizer.defaults["fused"])
        self.are_rounded = self.are_capturable and device.type == "cuda"
        dtype = torch.float32 if device.type == "cuda" else torch.float64
        self._tensors: list[Tensor] = [torch.zeros((), dtype=dtype, device=device) for _ in self.groups]

    def scale(self, factor: float) -> None:
        """Multiply the rates that the schedule has set by a factor, and round them if necessary."""
        for group in self.groups:
            rate = factor * group["lr"]
            group["lr"] = float(np.float32(rate)) if self.are_rounded else rate

    def fill_tensors(self) -> None:
        """Copy the rates to the tensors, without waiting for the device."""
        for group, tensor in zip(self.groups, self._tensors, strict=True):
            tensor.fill_(group["lr"])

    @contextmanager
    def as_tensors(self) -> Iterator[None]:
        """Let the optimizer read the rates from the tensors."""
        rates = [group["lr"] for group in self.groups]
        if self.are_capturable:
            for group, tensor in zip(self.groups, self._tensors, strict=True):
                group["lr"] = tensor
        try:
            yield
        finally:
            for group, rate in zip(self.groups, rates, strict=True):
                group["lr"] = rate
