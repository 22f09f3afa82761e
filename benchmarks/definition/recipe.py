"""The training recipe: the hyperparameters that no row of a table can change."""

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge, Gt, Le, Lt

from arch.errors import InputError


@dataclass(frozen=True)
class Recipe:
    """The training hyperparameters. The defaults are those of the `cifar100` benchmark.

    Training uses mixed precision on a GPU and float32 on a CPU.
    """

    epochs: Annotated[int, Ge(1), Le(10_000)] = 200  # passes over the training images
    batch_size: Annotated[int, Ge(2), Le(65_536)] = 256  # images; an incomplete last batch is dropped, as in timm
    lr: Annotated[float, Gt(0)] = 0.5  # peak learning rate of SGD, for the whole batch
    momentum: Annotated[float, Ge(0), Lt(1)] = 0.9  # momentum of SGD
    nesterov: bool = True  # use Nesterov momentum
    weight_decay: Annotated[float, Ge(0)] = 1e-4  # applied to all parameters, including norms and biases
    warmup_epochs: Annotated[int, Ge(0)] = 5  # linear, per iteration, from warmup_lr to lr
    warmup_lr: Annotated[float, Ge(0)] = 1e-4  # learning rate at the start of the warm-up
    min_lr: Annotated[float, Ge(0)] = 5e-5  # learning rate at the end of the cosine schedule
    label_smoothing: Annotated[float, Ge(0), Lt(1)] = 0.1  # training only; evaluation uses plain cross-entropy
    crop_padding: Annotated[int, Ge(0), Le(256)] = 4  # black pixels on each side before the random crop
    flip: Annotated[float, Ge(0)] = 0.5  # probability of a horizontal flip
    mean: Annotated[float, Ge(0)] = 0.5  # subtracted from pixels in [0, 1], in every channel
    std: Annotated[float, Gt(0)] = 0.5  # pixels are divided by it after subtracting the mean
    precision: str = "fp16"  # on a GPU: "fp16" with a gradient scaler, "bf16" or "fp32"
    world_size: Annotated[int, Ge(1), Le(64)] = 1  # devices that share each batch; the batch size stays the same

    def __post_init__(self) -> None:
        if self.precision not in ("fp16", "bf16", "fp32"):
            raise ValueError("precision must be fp16, bf16 or fp32")
        if self.warmup_epochs >= self.epochs:
            raise ValueError(f"warmup_epochs ({self.warmup_epochs}) must be fewer than epochs ({self.epochs})")
        if self.batch_size % self.world_size:
            raise ValueError(f"batch_size ({self.batch_size}) must be a multiple of world_size ({self.world_size})")
        if self.flip > 1:
            raise ValueError("flip is a probability and must be at most 1")

    def require_full_batch(self, num_images: int, label: str = "") -> None:
        """Check that there are enough training images for one batch, because an incomplete batch is dropped.

        Args:
            num_images: The number of training images.
            label: What trains on the images, such as a row of a table; the message starts with it.

        Raises:
            InputError: If the images do not fill one batch.
        """
        if num_images < self.batch_size:
            prefix = f"{label}: " if label else ""
            raise InputError(f"{prefix}{num_images} training images do not fill one batch of {self.batch_size}")
