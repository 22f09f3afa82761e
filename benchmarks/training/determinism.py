"""Make torch give the same numbers for the same seed on the same device."""

import re
from collections.abc import Callable
from typing import TypeVar

import torch

T = TypeVar("T")

NOT_DETERMINISTIC = re.compile(
    r"(\w+) does not have a deterministic implementation|not deterministic because it uses (\w+)"
)


def make_deterministic(strict: bool = True) -> None:
    """Let torch use deterministic algorithms only, and compute in float32 where the recipe does.

    On a GPU, CUBLAS_WORKSPACE_CONFIG must also be set in the process's environment.

    Args:
        strict: Whether an operator without a deterministic algorithm raises an error, which `nondeterministic_operator`
            recognizes, instead of a warning. On a GPU, fused attention has such an algorithm, but torch uses it only
            if this is true.
    """
    torch.backends.cudnn.benchmark = False
    # By default, the float32 convolutions of recent GPUs round their inputs to the 10-bit mantissa of TF32. For matrix
    # products, the environment of NVIDIA's containers sets the same default.
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    torch.use_deterministic_algorithms(True, warn_only=not strict)
    # By default, torch then also fills all new memory, to make reads of uninitialized memory deterministic.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # a property of a module


def nondeterministic_operator(error: RuntimeError) -> str:
    """Return the operator that has no deterministic algorithm, if that is the reason for an error; otherwise ""."""
    match = NOT_DETERMINISTIC.search(str(error))
    return (match[1] or match[2]) if match else ""


def deterministically(work: Callable[[], T]) -> T:
    """Call `work` with deterministic algorithms; if an operator has none, call it again and allow any algorithm."""
    make_deterministic()
    try:
        return work()
    except RuntimeError as error:
        if not nondeterministic_operator(error):
            raise
    make_deterministic(strict=False)  # after the `except` clause, which keeps the memory of the first call alive
    return work()
