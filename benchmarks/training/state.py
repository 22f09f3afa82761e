"""The state of a training run: everything that its remaining steps depend on, as tensors and numbers."""

from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor, nn

from benchmarks.training.checkpoint import Checkpoint
from benchmarks.training.optimizer_state import NO_NUMBERS, OptimizerState
from benchmarks.training.running_epoch import RunningEpoch
from benchmarks.training.step import TrainingStep
from benchmarks.training.tensor_file import TensorsAndHeader


@dataclass(frozen=True)
class EpochMetrics:
    """One epoch of the training curve.

    Attributes:
        epoch: Counted from 1.
        train_loss: Mean over the images seen.
        train_top1: In percent, over the images seen.
        loss: Mean over the evaluation split.
        top1: In percent, over the evaluation split.
        top5: In percent, over the evaluation split.
        images_seen: Training images.
        train_seconds: Duration of the epoch, excluding saving.
        eval_seconds: Duration of the evaluation.
    """

    epoch: int
    train_loss: float
    train_top1: float
    loss: float
    top1: float
    top5: float
    images_seen: int
    train_seconds: float
    eval_seconds: float


class TrainingState:
    """Model, average of its weights, optimizer, gradient scaler, curve, running epoch, and the teacher if it changes.

    The learning rate is not part of it, because it follows from the epoch and the batch.

    Args:
        step: The training step, which holds the model and the optimizer.
        seed: The run's seed.
        num_images: Size of the training split.
    """

    def __init__(self, step: TrainingStep, seed: int, num_images: int) -> None:
        self.step, self.seed, self.num_images = step, seed, num_images
        self.optimizer = OptimizerState(step.optimizer, step.model)
        self.curve: list[EpochMetrics] = []
        self.begin_epoch()

    def begin_epoch(self) -> None:
        """Go to the first batch of the next epoch."""
        step = self.step
        if step.distiller is not None:
            step.distiller.begin_epoch(step.model, step.context)
        self.epoch = RunningEpoch(self.seed, len(self.curve), self.num_images, step.generator, step.context)

    @property
    def position(self) -> int:
        """Number of batches and evaluations done so far, which is unique to each state of a training run."""
        return len(self.curve) * (self.step.steps_per_epoch + 1) + self.epoch.batches

    def save(self, checkpoint: Checkpoint) -> None:
        """Save a checkpoint. Raises TrainingStopped if the run was asked to stop."""
        checkpoint.save(self.position, self.tensors(), self.numbers())

    def tensors(self) -> dict[str, Tensor]:
        """Return the state that consists of tensors, with names that start with the part they belong to."""
        weights = {f"model.{name}": tensor for name, tensor in self.step.model.state_dict().items()}
        average = {f"ema.{name}": tensor for name, tensor in self._average().items()}
        teacher = self.step.distiller.tensors() if self.step.distiller is not None else {}
        return weights | average | self.optimizer.tensors() | teacher | self.epoch.tensors()

    def numbers(self) -> dict[str, Any]:
        """Return the part of the state that does not consist of tensors, as JSON-serializable values."""
        return {
            "optimizer": self.optimizer.numbers(),
            "scaler": self.step.scaler.state_dict(),
            "curve": [asdict(metrics) for metrics in self.curve],
            "epoch": len(self.curve),
            "batch": self.epoch.batches,
            "seconds": self.epoch.seconds,
        }

    def restore(self, loaded: TensorsAndHeader) -> None:
        """Continue from a checkpoint.

        Args:
            loaded: Tensors and header of the checkpoint.

        Raises:
            KeyError, TypeError, ValueError: If the checkpoint belongs to a different model or version of this code.
        """
        tensors, header = loaded
        _load(self.step.model, tensors, "model.")
        if self.step.ema is not None:
            _load(self.step.ema.module, tensors, "ema.")
        self.optimizer.restore(tensors, header.get("optimizer", NO_NUMBERS))
        self.step.scaler.load_state_dict(header["scaler"])
        self.curve = [EpochMetrics(**metrics) for metrics in header["curve"]]
        self.begin_epoch()
        self.epoch.restore(header["batch"], header["seconds"], tensors)
        if self.step.distiller is not None:
            self.step.distiller.restore(tensors)

    def _average(self) -> dict[str, Tensor]:
        return self.step.ema.module.state_dict() if self.step.ema is not None else {}


def _load(model: nn.Module, tensors: dict[str, Tensor], prefix: str) -> None:
    """Load the tensors whose names start with `prefix` into a model."""
    weights = {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}
    expected = model.state_dict()
    if {name: tensor.shape for name, tensor in weights.items()} != {n: t.shape for n, t in expected.items()}:
        raise ValueError("the checkpoint contains the weights of a different model")
    model.load_state_dict(weights)
