"""Count the batches that all normalization layers have seen with one kernel per step, instead of one per layer."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from timm.layers import BatchNormAct2d
from torch import nn

COUNTED = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, BatchNormAct2d)  # exact types: their forward only adds 1
PACKAGES = {"arch", "timm", "torch"}  # none of their modules reads the count of another module
BUFFER = "num_batches_tracked"


class _Count:
    """Takes the place of a layer's counter during a step, and counts on the host."""

    def __init__(self) -> None:
        self.batches = 0

    def add_(self, batches: int) -> None:
        self.batches += batches


def countable_norms(model: nn.Module) -> list[nn.Module]:
    """Return the layers whose batches can be counted at the end of a step.

    Layers with a cumulative average (momentum None) use their count in the step, so they are left out. If the model
    has a module of a plugin, which may read any count, the list is empty.
    """
    modules = list(model.modules())
    if any(type(module).__module__.partition(".")[0] not in PACKAGES for module in modules):
        return []
    norms = [module for module in modules if type(module) in COUNTED]
    return [norm for norm in norms if norm.momentum is not None and norm._buffers[BUFFER] is not None]


@contextmanager
def counting_at_the_end(norms: Sequence[nn.Module]) -> Iterator[None]:
    """Add the batches that some layers see in this context to their counters at its end, unless it raises an error.

    A layer that is called twice, or not at all, counts as it would otherwise.

    Args:
        norms: See `countable_norms`.
    """
    counters: list[Any] = [norm._buffers[BUFFER] for norm in norms]
    counts = [_Count() for _ in norms]
    try:
        for norm, count in zip(norms, counts, strict=True):
            norm._buffers[BUFFER] = count  # type: ignore[assignment]
        yield
    finally:
        for norm, counter in zip(norms, counters, strict=True):
            norm._buffers[BUFFER] = counter
    for batches in {count.batches for count in counts} - {0}:
        counted = zip(counters, counts, strict=True)
        torch._foreach_add_([counter for counter, count in counted if count.batches == batches], batches)
