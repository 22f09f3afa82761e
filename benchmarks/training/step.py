"""One batch of training, and the images it is taken from."""

from dataclasses import dataclass

import torch
from timm.scheduler import CosineLRScheduler
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.definition.recipe import Recipe
from benchmarks.training.augment import crop_and_flip, normalize
from benchmarks.training.compile_mode import CompileMode, compile_model, end_compiling, next_step
from benchmarks.training.distillation import Distiller
from benchmarks.training.distributed_context import SINGLE_PROCESS, DistributedContext


@dataclass(frozen=True)
class DeviceImages:
    """A split on the device: uint8 images (n, channels, height, width) and int64 labels (n,).

    Images in the channels-last memory format are fetched fastest.
    """

    images: Tensor
    labels: Tensor

    def take(self, chosen: Tensor) -> "DeviceImages":
        """The images at these places."""
        pixels = self.images.permute(0, 2, 3, 1).index_select(0, chosen)
        return DeviceImages(pixels.permute(0, 3, 1, 2), self.labels[chosen])

    def __len__(self) -> int:
        return len(self.labels)


def random_images(
    count: int, input_shape: tuple[int, int, int], num_classes: int, generator: torch.Generator
) -> DeviceImages:
    """Noise to be timed on, on the generator's device.

    input_shape: (channels, height, width).
    """
    (channels, height, width), device = input_shape, generator.device
    shape = (count, height, width, channels)
    pixels = torch.randint(256, shape, dtype=torch.uint8, device=device, generator=generator)
    labels = torch.randint(num_classes, (count,), device=device, generator=generator)
    return DeviceImages(pixels.permute(0, 3, 1, 2), labels)


class TrainingStep:
    """Augmentation, forward, backward and update of one batch: what the trainer runs and the budget check times."""

    def __init__(
        self,
        model: nn.Module,
        recipe: Recipe,
        steps_per_epoch: int,
        compile_mode: CompileMode = "eager",
        context: DistributedContext = SINGLE_PROCESS,
        distiller: Distiller | None = None,
    ) -> None:
        self.model = model
        self.distiller, self.steps_per_epoch = distiller, steps_per_epoch
        self.compile_mode = compile_mode
        self.context = context
        self.forward = compile_model(context.wrap(model), compile_mode)
        self.compiling = compile_mode != "eager"
        self.recipe = recipe
        self.device = next(model.parameters()).device
        self.optimizer = torch.optim.SGD(
            model.parameters(),
            lr=recipe.lr,
            momentum=recipe.momentum,
            nesterov=recipe.nesterov and recipe.momentum > 0,
            weight_decay=recipe.weight_decay,
            fused=True,  # one kernel, and on a GPU no wait for the scaler's verdict
        )
        if recipe.momentum:  # the fused update leaves it unwritten where the scaler skips the very first step
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
        """Trains on one batch of uint8 images; `iteration` counts from 0 over the whole training.

        Returns the summed loss and the number of right answers as tensors: reading them would stall the device.
        """
        recipe = self.recipe
        next_step(self.compile_mode)
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
            end_compiling()
            self.compiling = False
        return loss.detach() * len(labels), (logits.detach().argmax(1) == labels).sum()


def autocast(recipe: Recipe, device: torch.device) -> torch.autocast:
    """Mixed precision as the recipe says on a GPU; none on a CPU."""
    dtype = torch.bfloat16 if recipe.precision == "bf16" else torch.float16
    return torch.autocast(device.type, dtype=dtype, enabled=device.type == "cuda" and recipe.precision != "fp32")
