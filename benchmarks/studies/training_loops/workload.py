"""What every peer trains, and how an epoch of it is timed."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from arch.models import build
from arch.spec import parse
from benchmarks.definition.recipe import Recipe

EpochTimer = Callable[[], float]  # trains one epoch and returns how many seconds it took


@dataclass(frozen=True)
class Workload:
    """A net, and images in the computer's memory: uint8 (n, height, width, 3) with int64 labels (n,)."""

    spec: str
    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    num_classes: int
    recipe: Recipe
    device: torch.device
    workers: int  # processes that a DataLoader may start

    @property
    def steps(self) -> int:
        """Batches of an epoch; an incomplete last one is dropped."""
        return len(self.labels) // self.recipe.batch_size

    def net(self) -> nn.Module:
        """The net on the device, channels last, with the same weights each time."""
        torch.manual_seed(0)
        model = build(parse(self.spec).variant(), self.num_classes)
        return model.to(self.device).to(memory_format=torch.channels_last)

    def tensors(self) -> tuple[Tensor, Tensor]:
        """Images (n, 3, height, width), channels last, and labels, on the device."""
        images = torch.from_numpy(self.images).to(self.device)
        return images.permute(0, 3, 1, 2), torch.from_numpy(self.labels).to(self.device)

    def optimizer(self, model: nn.Module) -> torch.optim.SGD:
        """The recipe's, as anybody would write it."""
        recipe = self.recipe
        return torch.optim.SGD(
            model.parameters(), recipe.lr, recipe.momentum, weight_decay=recipe.weight_decay, nesterov=recipe.nesterov
        )

    def scaler(self) -> torch.amp.GradScaler:
        """For mixed precision in fp16; does nothing elsewhere."""
        return torch.amp.GradScaler(enabled=self.device.type == "cuda" and self.recipe.precision == "fp16")

    def time(self, epoch: Callable[[], object]) -> float:
        """Seconds until the device has done all of it, with torch's own defaults, which need not be deterministic."""
        before = torch.are_deterministic_algorithms_enabled()
        torch.use_deterministic_algorithms(False)
        try:
            return self.time_ours(epoch)
        finally:
            torch.use_deterministic_algorithms(before, warn_only=True)

    def time_ours(self, epoch: Callable[[], object]) -> float:
        """Seconds until the device has done all of it, with the settings that are."""
        started = time.perf_counter()
        epoch()
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter() - started
