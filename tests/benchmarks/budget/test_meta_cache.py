from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.budget import meta_cache
from benchmarks.budget.meta_cache import MetaCache


class Recorder(TorchDispatchMode):
    """Records the operators that run."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.operators: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.operators.append(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


@pytest.fixture(autouse=True)
def _empty_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meta_cache, "_LAYOUTS", {})


def meta(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.empty(shape, dtype=dtype, device="meta")


def norm(x: Tensor) -> tuple[Tensor, ...]:
    channels = meta(x.shape[1])
    return torch.native_batch_norm(x, channels, channels, channels, channels, True, 0.1, 1e-5)


@pytest.mark.parametrize(
    "function",
    [
        torch.relu,
        norm,
        lambda x: x.to(torch.float16),
        lambda x: F.conv2d(x.to(memory_format=torch.channels_last), meta(4, 3, 3, 3), stride=2),
        lambda x: F.max_pool2d(x, 2, return_indices=True),
        lambda x: x.mean((2, 3), keepdim=True),
        lambda x: torch.cat([x, x], 1),
    ],
)
def test_outputs_are_those_without_a_cache(function: Callable[[Tensor], Any]) -> None:
    def layouts() -> list[Any]:
        outputs = function(meta(2, 3, 8, 8))
        tensors = outputs if isinstance(outputs, tuple) else (outputs,)
        return [(tensor.shape, tensor.stride(), tensor.dtype, tensor.device.type) for tensor in tensors]

    expected = layouts()
    with MetaCache():
        assert layouts() == layouts() == expected


def test_operator_runs_once_per_shape() -> None:
    with Recorder() as recorder, MetaCache():
        for size in (3, 3, 4, 3):
            torch.relu(meta(size))
    assert recorder.operators.count("relu") == 2


def test_numbers_of_other_types_are_other_arguments() -> None:
    x = meta(3, dtype=torch.int64)
    with MetaCache():
        assert [torch.add(x, number).dtype for number in (1, 1.0, 1)] == [torch.int64, torch.float32, torch.int64]


def test_views_and_changed_tensors_are_not_replaced() -> None:
    x = meta(4, 3)
    with MetaCache():
        for _ in range(2):
            assert x.view(12).untyped_storage()._cdata == x.untyped_storage()._cdata
            assert x.add_(1) is x


def test_real_tensors_have_values() -> None:
    with MetaCache():
        assert [float(torch.relu(torch.tensor(value))) for value in (1.0, 2.0)] == [1.0, 2.0]


def test_gradients_are_computed() -> None:
    weight = meta(5, 3).requires_grad_()
    with MetaCache():
        for _ in range(2):
            F.gelu(F.linear(meta(2, 3), weight)).sum().backward()
    assert weight.grad is not None
    assert weight.grad.shape == (5, 3)
