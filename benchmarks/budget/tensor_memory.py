"""The peak memory of tensors while a model runs, which does not depend on what the process did before."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


def peak_tensor_memory(model: nn.Module, work: Callable[[], object], device: torch.device) -> int:
    """Return the bytes of the weights plus those of all other tensors at the peak of `work`, such as activations.

    On a GPU, this is what torch's allocator counts, which includes the workspaces of operators; on a CPU, tensors that
    are used only within one operator are not counted.

    Args:
        model: The model, on the device. Its parameters and buffers count as weights.
        work: Runs the model; it creates all other tensors.
        device: The device.
    """
    weights: int = sum(tensor.nbytes for tensor in (*model.parameters(), *model.buffers()))
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        work()
        torch.cuda.synchronize(device)
        peak = int(torch.cuda.max_memory_allocated(device))
        return weights + peak - before
    tensors = _LiveTensors()
    with tensors:
        work()
    return weights + tensors.peak


class _LiveTensors(TorchDispatchMode):
    """Counts the bytes of the tensors that operators have returned and that still exist."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.peak = 0
        self._known: dict[int, tuple[StorageWeakRef, int]] = {}

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        given = {storage._cdata for storage in _storages((args, kwargs))}
        self._known = {key: entry for key, entry in self._known.items() if not entry[0].expired()}
        for storage in _storages(result):
            if storage._cdata not in given:  # not a view, and not changed in place
                self._known[storage._cdata] = StorageWeakRef(storage), storage.nbytes()
        self.peak = max(self.peak, sum(size for _, size in self._known.values()))
        return result


def _storages(values: Any) -> list[torch.UntypedStorage]:
    leaves = [leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor)]
    return [leaf.untyped_storage() for leaf in leaves if leaf.layout == torch.strided]  # a sparse tensor has several
