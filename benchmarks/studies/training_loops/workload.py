"""What every training loop trains, and how an epoch is timed."""

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

EpochTimer = Callable[[], float]  # trains one epoch and returns its duration in seconds


@dataclass(frozen=True)
class Workload:
    """A model and the images in main memory that it is trained on.

    Attributes:
        spec: Spec of the model.
        images: uint8, (n, height, width, 3).
        labels: int64, (n,).
        num_classes: Number of classes.
        recipe: Hyperparameters.
        device: Device to train on.
        workers: Processes that a DataLoader may start.
    """

    spec: str
    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    num_classes: int
    recipe: Recipe
    device: torch.device
    workers: int

    @property
    def steps(self) -> int:
        """The number of batches per epoch; an incomplete last batch is dropped."""
        return len(self.labels) // self.recipe.batch_size

    def model(self) -> nn.Module:
        """Return a new model on the device, in channels-last format, with the same weights on each call."""
        torch.manual_seed(0)
        model = build(parse(self.spec).variant(), self.num_classes)
        return model.to(self.device).to(memory_format=torch.channels_last)

    def tensors(self) -> tuple[Tensor, Tensor]:
        """Return images (n, 3, height, width) in channels-last format, and labels, on the device."""
        images = torch.from_numpy(self.images).to(self.device)
        return images.permute(0, 3, 1, 2), torch.from_numpy(self.labels).to(self.device)

    def optimizer(self, model: nn.Module) -> torch.optim.SGD:
        """Return the recipe's optimizer with torch's default implementation."""
        recipe = self.recipe
        return torch.optim.SGD(
            model.parameters(), recipe.lr, recipe.momentum, weight_decay=recipe.weight_decay, nesterov=recipe.nesterov
        )

    def scaler(self) -> torch.amp.GradScaler:
        """Return the gradient scaler, which is enabled for fp16 on a GPU only."""
        return torch.amp.GradScaler(enabled=self.device.type == "cuda" and self.recipe.precision == "fp16")

    def time_with_torch_defaults(self, epoch: Callable[[], object], cudnn_benchmark: bool = False) -> float:
        """Return the seconds of an epoch without deterministic algorithms, which is torch's default.

        Args:
            epoch: Trains one epoch.
            cudnn_benchmark: Whether cuDNN chooses the fastest algorithms by timing them, which is not torch's default.
        """
        benchmark, torch.backends.cudnn.benchmark = torch.backends.cudnn.benchmark, cudnn_benchmark
        deterministic = torch.are_deterministic_algorithms_enabled()
        warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
        torch.use_deterministic_algorithms(False)
        try:
            return self.time(epoch)
        finally:
            torch.backends.cudnn.benchmark = benchmark
            torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)

    def time(self, epoch: Callable[[], object]) -> float:
        """Return the seconds until the device has finished an epoch, with torch's current settings."""
        started = time.perf_counter()
        epoch()
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter() - started
