"""Progress within one pass over the training images."""

import time

import torch
from torch import Tensor

from benchmarks.training.distributed_context import DistributedContext
from benchmarks.training.seeds import derive_seed


class RunningEpoch:
    """Progress within one pass over the training images.

    The order of images and all random draws follow from the seed and the epoch, so an epoch adds to a checkpoint only
    after its first batch.

    Args:
        seed: The run's seed.
        epoch: Counted from 0.
        num_images: Size of the training split.
        generator: Source of the draws for the order and the augmentation, on the device of the images. It is seeded
            here, and only one epoch at a time can use it.
        context: Processes that share each batch. All use the same order; each has its own draws for augmentation,
            drop_path and dropout.
    """

    def __init__(
        self, seed: int, epoch: int, num_images: int, generator: torch.Generator, context: DistributedContext
    ) -> None:
        self.epoch = epoch
        self.batches = 0  # batches trained on
        self.seconds = 0.0  # time spent on them
        device = generator.device
        self.loss_sum = torch.zeros((), device=device, dtype=torch.float64)
        self.correct = torch.zeros((), device=device, dtype=torch.int64)
        self.generator = generator.manual_seed(derive_seed(seed, epoch, "images"))
        self.order = torch.randperm(num_images, generator=self.generator, device=device)
        rank = () if context.rank == 0 else (context.rank,)
        if rank:
            self.generator.manual_seed(derive_seed(seed, epoch, "images", *rank))
        self.layers_seed = derive_seed(seed, epoch, "layers", *rank)  # seeds drop_path and dropout
        self.transforms_seed = derive_seed(seed, epoch, "transforms")  # seeds the draws that are made for single images
        self._layers_state: dict[str, Tensor] = {}
        self._started = 0.0

    def start(self) -> None:
        """Set torch's global random states for this epoch, from a checkpoint if there is one, and start the timer."""
        if self._layers_state:
            torch.set_rng_state(self._layers_state["random.layers"])
            if "random.layers_cuda" in self._layers_state:
                torch.cuda.set_rng_state(self._layers_state["random.layers_cuda"], self.loss_sum.device)
        else:
            torch.manual_seed(self.layers_seed)
        self.start_timer()

    def start_timer(self) -> None:
        """Start the training timer."""
        self._started = time.perf_counter()

    def stop_timer(self) -> None:
        """Stop the training timer, after waiting for the device."""
        if self.loss_sum.device.type == "cuda":
            torch.cuda.synchronize(self.loss_sum.device)
        self.seconds += time.perf_counter() - self._started

    def tensors(self) -> dict[str, Tensor]:
        """Return the state that the rest of the epoch depends on; empty before its first batch."""
        if not self.batches:
            return {}
        sums = {"epoch.loss_sum": self.loss_sum, "epoch.correct": self.correct}
        random = {"random.images": self.generator.get_state(), "random.layers": torch.get_rng_state()}
        if self.loss_sum.device.type == "cuda":
            random["random.layers_cuda"] = torch.cuda.get_rng_state(self.loss_sum.device)
        return sums | random

    def restore(self, batches: int, seconds: float, tensors: dict[str, Tensor]) -> None:
        """Continue from a checkpoint.

        Args:
            batches: Batches trained on.
            seconds: Time spent on them.
            tensors: The tensors that the `tensors` method returned.
        """
        self.batches, self.seconds = batches, seconds
        if batches:
            self.loss_sum.copy_(tensors["epoch.loss_sum"])
            self.correct.copy_(tensors["epoch.correct"])
            self.generator.set_state(tensors["random.images"])
            self._layers_state = {name: t for name, t in tensors.items() if name.startswith("random.layers")}
