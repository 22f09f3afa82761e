"""One training step, and the images that it is computed on."""

from dataclasses import dataclass

import torch
from timm.scheduler import CosineLRScheduler
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.definition.recipe import Recipe
from benchmarks.training.augment import crop_and_flip, normalize
from benchmarks.training.compile_mode import CompileMode, compile_model, mark_step_begin, shut_down_compile_workers
from benchmarks.training.distillation import Distiller
from benchmarks.training.distributed_context import SINGLE_PROCESS, DistributedContext


@dataclass(frozen=True)
class DeviceImages:
    """Labeled images on a device.

    Attributes:
        images: uint8, (n, channels, height, width). Indexing is fastest in the channels-last memory format.
        labels: int64, (n,).
    """

    images: Tensor
    labels: Tensor

    def take(self, indices: Tensor) -> "DeviceImages":
        """Return the images and labels at these indices, in the channels-last memory format."""
        pixels = self.images.permute(0, 2, 3, 1).index_select(0, indices)
        return DeviceImages(pixels.permute(0, 3, 1, 2), self.labels[indices])

    def __len__(self) -> int:
        return len(self.labels)


def random_images(
    count: int, input_shape: tuple[int, int, int], num_classes: int, generator: torch.Generator
) -> DeviceImages:
    """Return random images and labels, for measuring speed.

    Args:
        count: Number of images.
        input_shape: (channels, height, width).
        num_classes: Labels are in [0, num_classes).
        generator: Source of the draws; the images are on its device.
    """
    (channels, height, width), device = input_shape, generator.device
    shape = (count, height, width, channels)
    pixels = torch.randint(256, shape, dtype=torch.uint8, device=device, generator=generator)
    labels = torch.randint(num_classes, (count,), device=device, generator=generator)
    return DeviceImages(pixels.permute(0, 3, 1, 2), labels)


@dataclass(frozen=True)
class StepOptions:
    """How training steps are computed.

    Attributes:
        compile_mode: How the model's forward and backward passes are run.
        context: Processes that share each batch.
        distiller: Adds a distillation loss. None: the model is trained on the labels alone.
    """

    compile_mode: CompileMode = "eager"
    context: DistributedContext = SINGLE_PROCESS
    distiller: Distiller | None = None


class TrainingStep:
    """Augmentation, forward pass, backward pass and update for one batch.

    The trainer runs this step, and the budget check times it.

    Args:
        model: The model to train, on its device.
        recipe: Hyperparameters.
        steps_per_epoch: Steps of one epoch, for the learning rate schedule.
        options: Default: eager, in a single process, without a teacher.
    """

    def __init__(
        self, model: nn.Module, recipe: Recipe, steps_per_epoch: int, options: StepOptions | None = None
    ) -> None:
        options = options or StepOptions()
        self.model, self.recipe, self.steps_per_epoch = model, recipe, steps_per_epoch
        self.compile_mode, self.context, self.distiller = options.compile_mode, options.context, options.distiller
        self.forward = compile_model(self.context.wrap(model), self.compile_mode)
        self.compiling = self.compile_mode != "eager"
        self.device = next(model.parameters()).device
        self.optimizer = torch.optim.SGD(
            model.parameters(),
            lr=recipe.lr,
            momentum=recipe.momentum,
            nesterov=recipe.nesterov and recipe.momentum > 0,
            weight_decay=recipe.weight_decay,
            fused=True,  # a single kernel; on a GPU, the host need not wait for the scaler's check for infinities
        )
        if recipe.momentum:  # if the scaler skips the very first step, the fused update leaves momenta uninitialized
            for parameter in model.parameters():
                self.optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
        warmup = recipe.warmup_epochs * steps_per_epoch
        self.schedule = CosineLRScheduler(
            self.optimizer,
            t_initial=recipe.epochs * steps_per_epoch - warmup,
            lr_min=recipe.min_lr,
            warmup_t=warmup,
            warmup_lr_init=recipe.warmup_lr,
            warmup_prefix=True,
            t_in_epochs=False,
        )
        self.scaler = torch.amp.GradScaler(enabled=self.device.type == "cuda" and recipe.precision == "fp16")

    def __call__(
        self, images: Tensor, labels: Tensor, iteration: int, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Train on one batch.

        Args:
            images: uint8, (batch, channels, height, width).
            labels: int64, (batch,).
            iteration: Steps since the start of training.
            generator: Source of the augmentation's random draws.

        Returns:
            The loss summed over the batch and the number of correct predictions, as tensors: reading their values here
            would make the host wait for the device.
        """
        recipe = self.recipe
        mark_step_begin(self.compile_mode)
        self.schedule.step_update(iteration)
        self.optimizer.zero_grad(set_to_none=True)
        batch = normalize(crop_and_flip(images, recipe.crop_padding, recipe.flip, generator), recipe.mean, recipe.std)
        with autocast(recipe, self.device):
            logits = self.forward(batch)
            loss = F.cross_entropy(logits, labels, label_smoothing=recipe.label_smoothing)
            if self.distiller is not None:
                loss = self.distiller.loss(loss, logits, batch, iteration // self.steps_per_epoch)
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.compiling:
            shut_down_compile_workers()
            self.compiling = False
        return loss.detach() * len(labels), (logits.detach().argmax(1) == labels).sum()


def autocast(recipe: Recipe, device: torch.device) -> torch.autocast:
    """Return a context manager for the recipe's mixed precision on a GPU, and for float32 on a CPU."""
    dtype = torch.bfloat16 if recipe.precision == "bf16" else torch.float16
    return torch.autocast(device.type, dtype=dtype, enabled=device.type == "cuda" and recipe.precision != "fp32")
