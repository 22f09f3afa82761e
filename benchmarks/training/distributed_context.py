"""The processes that train one model together, each on its share of every batch. Usually there is only one."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TypeVar

import torch.distributed as dist
from torch import Tensor, nn

T = TypeVar("T")


@dataclass(frozen=True)
class DistributedContext:
    """Rank of this process and number of processes, in torch's default process group.

    With a single process, no method communicates.
    """

    rank: int = 0
    size: int = 1

    def wrap(self, model: nn.Module) -> nn.Module:
        """Return a model whose gradients are averaged over all processes."""
        return nn.parallel.DistributedDataParallel(model) if self.size > 1 else model

    def no_sync(self, wrapped: nn.Module) -> AbstractContextManager[None]:
        """Return a context in which a model that `wrap` returned adds up gradients without averaging them."""
        return wrapped.no_sync() if isinstance(wrapped, nn.parallel.DistributedDataParallel) else nullcontext()

    def shard(self, batch: Tensor, interleaved: bool = False) -> Tensor:
        """Return this process's part of a batch.

        Args:
            batch: The samples of all processes.
            interleaved: Whether neighbors go to different processes, as timm distributes the repetitions of an image.
        """
        if interleaved:
            return batch[self.rank :: self.size]
        return batch.chunk(self.size)[self.rank] if self.size > 1 else batch

    def all_reduce(self, *tensors: Tensor) -> None:
        """Replace each tensor with its sum over all processes, in place."""
        if self.size > 1:
            for tensor in tensors:
                dist.all_reduce(tensor)

    def broadcast_buffers(self, model: nn.Module) -> None:
        """Copy the first process's buffers to all processes, as their next forward pass would."""
        if self.size > 1:
            for buffer in model.buffers():
                dist.broadcast(buffer, 0)

    def compute_once(self, compute: Callable[[], T]) -> T:
        """Call `compute` in the first process only and return its result in all processes."""
        if self.size == 1:
            return compute()
        shared = [compute() if self.rank == 0 else None]
        dist.broadcast_object_list(shared)
        return shared[0]  # type: ignore[return-value]


SINGLE_PROCESS = DistributedContext()
