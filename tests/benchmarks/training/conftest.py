from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

T = TypeVar("T")

WAITING_OPERATORS = ("_local_scalar_dense", "nonzero", "masked_select", "unique")  # the host reads their results


class EmulatedGraph(TorchDispatchMode):
    """A CUDA graph on the CPU: it records the operators of a computation, and repeats them in the same memory.

    As in a CUDA graph, the addresses of all tensors and the numbers from the host are those of the capture, a replay
    draws new random numbers, and the capture fails if the host waits for a result or if a generator is not registered.
    Unlike there, the capture also computes, and the memory of a tensor is not used for others.
    """

    def __init__(self, generator: torch.Generator) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.generator = generator
        self.operators: list[tuple[Any, Any, Any, list[Tensor]]] = []
        self.replays = 0

    def warm_up(self, work: Callable[[], T]) -> T:
        return work()

    def capture(self, work: Callable[[], T]) -> T:
        with self:
            return work()

    def replay(self) -> None:
        self.replays += 1
        with torch.no_grad():
            for operator, arguments, keywords, results in self.operators:
                new_results = tensors(operator(*arguments, **keywords))
                for old, new in zip(results, new_results, strict=True):
                    if old.data_ptr() != new.data_ptr():  # not if the operator returns a view or works in place
                        old.copy_(new)

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name, keywords = function.__name__.partition(".")[0], kwargs or {}
        if name in WAITING_OPERATORS:
            raise RuntimeError("operation not permitted when stream is capturing")
        generator = keywords.get("generator")
        if generator is not None and id_of(generator) != id_of(self.generator):
            raise RuntimeError("Attempt to increase offset for a CUDA generator not in capture mode.")
        results = function(*args, **keywords)
        addresses = (tree_map(fixed, value) for value in (args, keywords))
        self.operators.append((function, *addresses, [fixed(result) for result in tensors(results)]))
        return results


def id_of(generator: Any) -> int:
    """Return the address of a generator, which each operator receives as a new Python object."""
    address: int = generator._cdata
    return address


def tensors(results: Any) -> list[Tensor]:
    return [result for result in tree_flatten(results)[0] if isinstance(result, Tensor)]


def fixed(value: T) -> T:
    """Return a tensor's present memory, which it may later exchange for other memory. Leave other values."""
    return value.detach() if isinstance(value, Tensor) else value  # type: ignore[return-value]


@pytest.fixture
def emulated_graphs(monkeypatch: pytest.MonkeyPatch) -> list[EmulatedGraph]:
    """Emulate CUDA graphs on the CPU, and return a list of all that are created."""
    graphs: list[EmulatedGraph] = []

    def create(generator: torch.Generator) -> EmulatedGraph:
        graphs.append(EmulatedGraph(generator))
        return graphs[-1]

    monkeypatch.setattr("benchmarks.training.graphed_step.CudaGraph", create)
    return graphs


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Use one thread, which is fastest for small networks even if the machine is busy."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
