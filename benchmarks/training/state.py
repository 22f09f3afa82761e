"""All that the rest of a training depends on, as tensors and numbers that a checkpoint keeps."""

import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from benchmarks.training.checkpoint import LoadedState
from benchmarks.training.distributed_context import DistributedContext
from benchmarks.training.seeds import derive_seed

if TYPE_CHECKING:
    from benchmarks.training.step import TrainingStep


@dataclass(frozen=True)
class EpochMetrics:
    """One line of the training curve. Accuracies in percent, over the images seen."""

    epoch: int  # counted from 1
    train_loss: float
    train_top1: float
    loss: float
    top1: float
    top5: float
    images_seen: int
    train_seconds: float
    eval_seconds: float


class RunningEpoch:
    """One pass over the training images, as far as it has come.

    Order and random draws follow from seed and epoch alone, so only the middle of an epoch has more to remember.
    """

    def __init__(self, seed: int, epoch: int, images: int, device: torch.device, context: DistributedContext) -> None:
        self.epoch = epoch  # counted from 0
        self.batches = 0  # done
        self.seconds = 0.0  # that they took
        self.loss_sum = torch.zeros((), device=device, dtype=torch.float64)
        self.right = torch.zeros((), device=device, dtype=torch.int64)
        self.generator = torch.Generator(device).manual_seed(derive_seed(seed, epoch, "images"))
        self.order = torch.randperm(images, generator=self.generator, device=device)
        own = () if context.rank == 0 else (context.rank,)
        if own:
            self.generator.manual_seed(derive_seed(seed, epoch, "images", *own))
        self.layers_seed = derive_seed(seed, epoch, "layers", *own)  # for drop_path and dropout
        self._layers: dict[str, Tensor] = {}
        self._started = 0.0

    def enter(self) -> None:
        """Sets torch's own random states to where this epoch stands, and starts the clock."""
        if self._layers:
            torch.set_rng_state(self._layers["random.layers"])
            if "random.layers_cuda" in self._layers:
                torch.cuda.set_rng_state(self._layers["random.layers_cuda"], self.loss_sum.device)
        else:
            torch.manual_seed(self.layers_seed)
        self.start_clock()

    def start_clock(self) -> None:
        """From now on the time is training's."""
        self._started = time.perf_counter()

    def stop_clock(self) -> None:
        """Until now it was; waits for what the device is still at."""
        if self.loss_sum.device.type == "cuda":
            torch.cuda.synchronize(self.loss_sum.device)
        self.seconds += time.perf_counter() - self._started

    def tensors(self) -> dict[str, Tensor]:
        """What the rest of the epoch depends on, once it has begun."""
        if not self.batches:
            return {}
        sums = {"epoch.loss_sum": self.loss_sum, "epoch.right": self.right}
        random = {"random.images": self.generator.get_state(), "random.layers": torch.get_rng_state()}
        if self.loss_sum.device.type == "cuda":
            random["random.layers_cuda"] = torch.cuda.get_rng_state(self.loss_sum.device)
        return sums | random

    def restore(self, batches: int, seconds: float, tensors: dict[str, Tensor]) -> None:
        """Goes to where `tensors` were taken."""
        self.batches, self.seconds = batches, seconds
        if batches:
            self.loss_sum.copy_(tensors["epoch.loss_sum"])
            self.right.copy_(tensors["epoch.right"])
            self.generator.set_state(tensors["random.images"])
            self._layers = {name: tensor for name, tensor in tensors.items() if name.startswith("random.layers")}


class TrainingState:
    """The net, the optimizer's momenta, the gradient scaler, the curve, the running epoch, and a teacher that changes.

    The schedule follows from the epoch and the batch.
    """

    def __init__(self, step: "TrainingStep", seed: int, images: int) -> None:
        self.step, self.seed, self.images = step, seed, images
        self.curve: list[EpochMetrics] = []
        self.begin_epoch()

    def begin_epoch(self) -> None:
        """The next epoch, from its first batch."""
        if self.step.distiller is not None:
            self.step.distiller.begin_epoch(self.step.model, self.step.context)
        self.epoch = RunningEpoch(self.seed, len(self.curve), self.images, self.step.device, self.step.context)

    def position(self, batches_per_epoch: int) -> int:
        """Batches trained on and evaluations done so far: no two states of a training have the same."""
        return len(self.curve) * (batches_per_epoch + 1) + self.epoch.batches

    def tensors(self) -> dict[str, Tensor]:
        """Everything that is a tensor, by names that say whose it is."""
        weights = {f"model.{name}": tensor for name, tensor in self.step.model.state_dict().items()}
        momenta = {f"momentum.{name}": tensor for name, tensor in self._momenta().items()}
        taught = self.step.distiller.tensors() if self.step.distiller is not None else {}
        return weights | momenta | taught | self.epoch.tensors()

    def numbers(self) -> dict[str, Any]:
        """The rest, as JSON."""
        return {
            "scaler": self.step.scaler.state_dict(),
            "curve": [asdict(line) for line in self.curve],
            "epoch": len(self.curve),
            "batch": self.epoch.batches,
            "seconds": self.epoch.seconds,
        }

    def restore(self, loaded: LoadedState) -> None:
        """Goes to where a checkpoint was made. Raises KeyError, TypeError or ValueError where it is another net's."""
        tensors, header = loaded
        weights = {n.removeprefix("model."): t for n, t in tensors.items() if n.startswith("model.")}
        own = self.step.model.state_dict()
        if {name: tensor.shape for name, tensor in weights.items()} != {n: t.shape for n, t in own.items()}:
            raise ValueError("the weights are another net's")
        self.step.model.load_state_dict(weights)
        for name, momentum in self._momenta().items():  # in place: in the memory format that training gives it
            momentum.copy_(tensors[f"momentum.{name}"])
        self.step.scaler.load_state_dict(header["scaler"])
        self.curve = [EpochMetrics(**line) for line in header["curve"]]
        self.begin_epoch()
        self.epoch.restore(header["batch"], header["seconds"], tensors)
        if self.step.distiller is not None:
            self.step.distiller.restore(tensors)

    def _momenta(self) -> dict[str, Tensor]:
        momenta = {}
        for name, parameter in self.step.model.named_parameters():
            buffer = self.step.optimizer.state[parameter].get("momentum_buffer")
            if buffer is not None:
                momenta[name] = buffer
        return momenta
