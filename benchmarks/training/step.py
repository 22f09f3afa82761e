"""One training step, and the images that it is computed on."""

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace

import torch
from timm.models import model_parameters
from timm.utils import ModelEmaV3, dispatch_clip_grad
from torch import Tensor, nn

from benchmarks.definition.recipe import Recipe
from benchmarks.training.attention_maps import recorded_attention
from benchmarks.training.batch_augmentation import BatchAugmentation, MixedLabels
from benchmarks.training.batch_counts import countable_norms, counting_at_the_end
from benchmarks.training.compile_mode import (
    CompileMode,
    CompileModeFailed,
    compile_model,
    obstacle_to_capture,
    obstacle_to_compilation,
    uses_compiler,
    uses_graph,
)
from benchmarks.training.distillation import Distiller, StudentPass
from benchmarks.training.distributed_context import SINGLE_PROCESS, DistributedContext
from benchmarks.training.graphed_step import GraphedStep, prepare
from benchmarks.training.learning_rates import LearningRates
from benchmarks.training.loss import create_loss
from benchmarks.training.optimizer import create_optimizer
from benchmarks.training.schedule import create_schedule


@dataclass(frozen=True)
class DeviceImages:
    """Labeled images on a device.

    Attributes:
        images: uint8, (n, channels, height, width). Indexing is fastest in the channels-last memory format.
        labels: int64, (n,).
        teacher_logits: The teacher's logits, (n, classes), if they are computed before the training.
    """

    images: Tensor
    labels: Tensor
    teacher_logits: Tensor | None = None

    def take(self, indices: Tensor) -> "DeviceImages":
        """Return the images, labels and logits at these indices, the images in the channels-last memory format."""
        pixels = self.images.permute(0, 2, 3, 1).index_select(0, indices)
        teacher_logits = None if self.teacher_logits is None else self.teacher_logits[indices]
        return DeviceImages(pixels.permute(0, 3, 1, 2), self.labels[indices], teacher_logits)

    def batches(self, samples: Sequence[Tensor], transforms_seed: int) -> Iterator["DeviceImages"]:
        """Yield the images, labels and logits of each batch.

        Args:
            samples: The samples of each batch, on the device. See `repeated_augmentation`.
            transforms_seed: The seed of all draws that are made for single images; here there are none.
        """
        return (self.take(batch % len(self)) for batch in samples)

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
        compile_mode: How the steps are computed.
        context: Processes that share each batch.
        distiller: Adds a distillation loss. None: the model is trained on the labels alone.
    """

    compile_mode: CompileMode = "eager"
    context: DistributedContext = SINGLE_PROCESS
    distiller: Distiller | None = None


class TrainingStep:
    """Augmentation, forward pass, backward pass, update and average of the weights for one batch.

    The trainer runs this step, and the budget check times it.

    Args:
        model: The model to train, on its device.
        recipe: Hyperparameters.
        steps_per_epoch: Steps of one epoch, for the learning rate schedule.
        options: Default: eager, in a single process, without a teacher.

    Attributes:
        generator: Source of the augmentation's random draws, which each epoch seeds.

    Raises:
        CompileModeFailed: If the steps of this training cannot be computed in the compile mode.
    """

    def __init__(
        self, model: nn.Module, recipe: Recipe, steps_per_epoch: int, options: StepOptions | None = None
    ) -> None:
        options = options or StepOptions()
        self.model, self.recipe, self.steps_per_epoch = model, recipe, steps_per_epoch
        self.compile_mode, self.context, self.distiller = options.compile_mode, options.context, options.distiller
        distillation = self.distiller.settings if self.distiller else None
        if uses_graph(self.compile_mode) and (obstacle := obstacle_to_capture(recipe, distillation)):
            raise CompileModeFailed(f"not capturable: {obstacle}")
        if uses_compiler(self.compile_mode) and (obstacle := obstacle_to_compilation(distillation)):
            raise CompileModeFailed(f"not compilable: {obstacle}")
        self.wrapped = self.context.wrap(model)
        self.forward = compile_model(self.wrapped, self.compile_mode)
        self.device = next(model.parameters()).device
        self.generator = torch.Generator(self.device)
        self.optimizer = create_optimizer(model, recipe)
        self.schedule = create_schedule(self.optimizer, recipe, steps_per_epoch)
        self.rates = LearningRates(self.optimizer, self.device)
        self.augment = BatchAugmentation(recipe, self.device)
        self.loss = create_loss(recipe, self.device)
        self.ema = ModelEmaV3(model, recipe.ema_decay, use_warmup=recipe.ema_warmup) if recipe.ema_decay else None
        self.scaler = torch.amp.GradScaler(enabled=self.device.type == "cuda" and recipe.precision == "fp16")
        # The compiler needs the layers as they are, and distributed training sends their counters in the forward pass.
        layers_count = uses_compiler(self.compile_mode) or self.context.size > 1
        self._norms = [] if layers_count else countable_norms(model)
        self._is_prepared = self.compile_mode == "eager"
        self._graphed: GraphedStep | None = None

    @property
    def evaluated_model(self) -> nn.Module:
        """The model to evaluate and to save: the average of the weights if the recipe has one."""
        return self.model if self.ema is None else self.ema.module

    @property
    def images_per_pass(self) -> int:
        """Images of a forward pass in this process, not counting their `aug_splits`."""
        return self.recipe.batch_size // (self.recipe.grad_accum_steps * self.context.size)

    def __call__(
        self, images: Tensor, labels: Tensor, iteration: int, teacher_logits: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Train on one batch.

        Args:
            images: uint8, (batch, channels, height, width), or all `aug_splits` of the batch, one after the other.
            labels: int64, (batch,).
            iteration: Steps since the start of training.
            teacher_logits: The teacher's logits, (batch, classes), if they are known. A CUDA graph does not use them.

        Returns:
            The loss summed over the batch and the number of correct predictions, as tensors: reading their values here
            would make the host wait for the device. A prediction for a mixed image is correct if it is the label with
            the larger weight. Of `aug_splits`, only predictions for the clean images count.

        Raises:
            CompileModeFailed: In the first step, if the compile mode fails or gives other numbers than eager mode.
        """
        if not self._is_prepared:
            self._graphed, self._is_prepared = prepare(self, images, labels, iteration), True
        self.set_learning_rates(iteration)
        if self._graphed:
            results = self._graphed(images, labels, iteration)
        else:
            results = self.compute(images, labels, iteration, teacher_logits)
        if not self.rates.are_capturable:
            self._update()
        if self.ema is not None:
            self.ema.update(self.model, step=iteration + 1)
        return results

    def set_learning_rates(self, iteration: int, factor: float = 1.0) -> None:
        """Set the learning rates of an iteration, multiplied by a factor."""
        updates = iteration if self.recipe.schedule_on_updates else iteration - iteration % self.steps_per_epoch
        self.schedule.step_update(updates)
        self.rates.scale(factor)

    def compute(
        self, images: Tensor, labels: Tensor, iteration: int, teacher_logits: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Compute the gradients of a batch, and the update if a CUDA graph can contain it.

        The arguments and results are those of a call of the step.
        """
        self.optimizer.zero_grad(set_to_none=True)
        batch, mixed = self.augment(images, labels, iteration, self.generator)
        parts, results = self._parts(batch, replace(mixed, teacher_logits=teacher_logits)), []
        with counting_at_the_end(self._norms):
            for number, (part, part_labels) in enumerate(parts, 1):
                with nullcontext() if number == len(parts) else self.context.no_sync(self.wrapped):
                    results.append(self._add_gradients(part, part_labels, len(part) / len(batch), iteration))
        if self.rates.are_capturable:
            self._update()
        losses, correct = zip(*results, strict=True)
        return sum(losses), sum(correct)

    def _parts(self, batch: Tensor, labels: MixedLabels) -> list[tuple[Tensor, MixedLabels]]:
        """Split a batch into the parts whose gradients are accumulated. A smaller batch has fewer parts."""
        if self.recipe.grad_accum_steps == 1:
            return [(batch, labels)]
        size = self.images_per_pass
        by_split = batch.unflatten(0, (self.recipe.aug_splits, -1)).split(size, dim=1)
        return list(zip([part.flatten(0, 1) for part in by_split], labels.split(size), strict=True))

    def _add_gradients(self, batch: Tensor, labels: MixedLabels, share: float, iteration: int) -> tuple[Tensor, Tensor]:
        """Add the gradients of a part of a batch, and return its summed loss and its number of correct predictions.

        Args:
            batch: Normalized images, (aug_splits * images, channels, height, width).
            labels: The labels of the images.
            share: The part's share of the batch.
            iteration: Steps since the start of training.
        """
        with autocast(self.recipe, self.device):
            if self.distiller is not None and self.distiller.uses_attention:
                with recorded_attention(self.model) as attention_maps:
                    logits = self.forward(batch)
            else:
                logits, attention_maps = self.forward(batch), {}
            targets = labels.targets(logits.shape[1], self.recipe.label_smoothing)
            loss = self.loss(logits, self._repeat(targets))
            if self.distiller is not None:
                dominant = self._repeat(labels.dominant)
                student = StudentPass(batch, dominant, logits, attention_maps, labels.teacher_logits)
                loss = self.distiller.loss(loss, student, iteration // self.steps_per_epoch)
        self.scaler.scale(loss if share == 1 else share * loss).backward()
        clean = logits.detach()[: len(labels.labels)]
        return loss.detach() * len(clean), (clean.argmax(1) == labels.dominant).sum()

    def _repeat(self, targets: Tensor) -> Tensor:
        """Return the targets of all `aug_splits` of the images, one after the other."""
        return targets.repeat(self.recipe.aug_splits) if self.recipe.aug_splits > 1 else targets

    def _update(self) -> None:
        """Update the weights with the gradients."""
        recipe = self.recipe
        if recipe.clip_grad:
            self.scaler.unscale_(self.optimizer)
            # As in timm's script, adaptive clipping leaves out the classifier.
            parameters = model_parameters(self.model, exclude_head=recipe.clip_mode == "agc")
            dispatch_clip_grad(parameters, recipe.clip_grad, mode=recipe.clip_mode)
        self.scaler.step(self.optimizer)
        self.scaler.update()


def autocast(recipe: Recipe, device: torch.device) -> torch.autocast:
    """Return a context manager for the recipe's mixed precision on a GPU, and for float32 on a CPU."""
    dtype = torch.bfloat16 if recipe.precision == "bf16" else torch.float16
    return torch.autocast(device.type, dtype=dtype, enabled=device.type == "cuda" and recipe.precision != "fp32")
