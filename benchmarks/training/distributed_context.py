"""The processes that train one net together, each on its part of every batch; mostly a context of one."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import torch.distributed as dist
from torch import Tensor, nn

T = TypeVar("T")


@dataclass(frozen=True)
class DistributedContext:
    """This process's place among those that share each batch. The process group is the default one of torch."""

    rank: int = 0
    size: int = 1

    def wrap(self, model: nn.Module) -> nn.Module:
        """The model with its gradients averaged over all processes, where there are several."""
        return nn.parallel.DistributedDataParallel(model) if self.size > 1 else model

    def part(self, batch: Tensor) -> Tensor:
        """This process's part of a batch."""
        return batch.chunk(self.size)[self.rank] if self.size > 1 else batch

    def add_up(self, *sums: Tensor) -> None:
        """Makes each tensor the sum of all processes' own, in place."""
        if self.size > 1:
            for tensor in sums:
                dist.all_reduce(tensor)

    def align(self, model: nn.Module) -> None:
        """Gives all processes the first one's statistics, as their next forward would."""
        if self.size > 1:
            for statistic in model.buffers():
                dist.broadcast(statistic, 0)

    def once(self, compute: Callable[[], T]) -> T:
        """What the first process computes, for all of them."""
        if self.size == 1:
            return compute()
        shared = [compute() if self.rank == 0 else None]
        dist.broadcast_object_list(shared)
        return shared[0]  # type: ignore[return-value]


SINGLE_PROCESS = DistributedContext()
