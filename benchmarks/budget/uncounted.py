"""Find operators that do real work, such as a transform, but whose multiply-adds a counter leaves out."""

import re
from collections import Counter
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode

# Words in the names of torch's own operators with multiply-adds. All others do a constant amount of work per element:
# elementwise operators, reductions, norms, pooling, interpolation and data movement.
WORKING_WORDS = frozenset(
    {"addbmm", "addmm", "attention", "baddbmm", "bmm", "cdist", "cholesky", "conv", "convolution", "einsum", "fft"}
    | {"geqrf", "gru", "inverse", "linalg", "linear", "lstm", "matmul", "matrix", "mm", "ormqr", "pdist", "qr", "rnn"}
    | {"svd", "transformer", "triangular", "trilinear"}
)
OTHER_WORDS = frozenset({"errors", "norm", "upsample"})  # as in linalg_vector_norm and upsample_linear1d
TORCH_NAMESPACES = ("aten", "prim", "prims", "profiler")
DATA_DEPENDENT_TAGS = frozenset({torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape})


class OperatorRecorder(TorchDispatchMode):
    """Records how often each operator runs in the context, except those that a counter counts.

    Args:
        counted: The operators that are counted, as overload packets.

    Attributes:
        operators: How often each other operator runs, by its name with its namespace, such as "aten::_fft_r2c".
        reads_values: Whether an operator reads values, so that the operators that follow may depend on them.
    """

    supports_higher_order_operators = True  # such as torch.cond, whose branches consist of other operators

    def __init__(self, counted: Iterable[Any]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.counted = frozenset(counted)
        self.operators: Counter[str] = Counter()
        self.reads_values = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if isinstance(func, OpOverload) and func.overloadpacket not in self.counted:
            self.operators[f"{func.namespace}::{func.overloadpacket.__name__}"] += 1
            self.reads_values |= _reads_values(func, args)
        return func(*args, **(kwargs or {}))


def working_operators(operators: Counter[str]) -> tuple[str, ...]:
    """Return the operators with multiply-adds and how often each runs, such as "fft_r2c x2", the most frequent first.

    Args:
        operators: How often each operator runs, by its name with its namespace, such as "aten::_fft_r2c".
    """
    return tuple(f"{_user_name(name)} x{count}" for name, count in operators.most_common() if _does_work(name))


def _reads_values(func: OpOverload, args: tuple[Any, ...]) -> bool:
    """Return whether an operator returns a number, or a tensor whose shape depends on values."""
    if func.overloadpacket is torch.ops.aten.index:  # indexing with a mask; it has no tag
        return any(isinstance(index, Tensor) and index.dtype in (torch.bool, torch.uint8) for index in args[1])
    return not DATA_DEPENDENT_TAGS.isdisjoint(func.tags)


def _does_work(name: str) -> bool:
    """Return whether an operator has multiply-adds. Operators of other libraries are assumed to."""
    namespace, _, operator = name.partition("::")
    if namespace not in TORCH_NAMESPACES or operator.startswith("PythonOp"):
        return True
    words = set(re.findall("[a-z]+", operator))
    return not WORKING_WORDS.isdisjoint(words) and OTHER_WORDS.isdisjoint(words)


def _user_name(name: str) -> str:
    return re.sub(f"^(?:{'|'.join(TORCH_NAMESPACES)})::_?", "", name)
