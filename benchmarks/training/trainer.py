"""Training under a `Recipe`: one step, one epoch, one evaluation, and the loop over them."""

import hashlib
import math
import time
from dataclasses import asdict, dataclass

import torch
from timm.scheduler import CosineLRScheduler
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.progress import Progress, Report, silent
from benchmarks.training.augment import crop_and_flip, normalize
from benchmarks.training.checkpoint import Checkpoint
from benchmarks.training.execution import Execution, end_compiling, executable, next_step
from benchmarks.training.recipe import Recipe

EVAL_BATCH = 1024  # images; has no effect on any number


class TrainingFailed(RuntimeError):
    """A training that cannot end in a result, with its reason in one line."""


@dataclass(frozen=True)
class LabelledImages:
    """A split on the device: uint8 images (n, channels, height, width) and int64 labels (n,).

    Images in the channels-last memory format are fetched fastest.
    """

    images: Tensor
    labels: Tensor

    def take(self, chosen: Tensor) -> "LabelledImages":
        """The images at these places."""
        pixels = self.images.permute(0, 2, 3, 1).index_select(0, chosen)
        return LabelledImages(pixels.permute(0, 3, 1, 2), self.labels[chosen])

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Evaluation:
    """Loss, accuracies in percent, and the accuracy within each class."""

    loss: float
    top1: float
    top5: float
    per_class: tuple[float, ...]


@dataclass(frozen=True)
class Epoch:
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


def random_images(
    count: int, input_shape: tuple[int, int, int], num_classes: int, generator: torch.Generator
) -> LabelledImages:
    """Noise to be timed on, on the generator's device.

    input_shape: (channels, height, width).
    """
    (channels, height, width), device = input_shape, generator.device
    shape = (count, height, width, channels)
    pixels = torch.randint(256, shape, dtype=torch.uint8, device=device, generator=generator)
    labels = torch.randint(num_classes, (count,), device=device, generator=generator)
    return LabelledImages(pixels.permute(0, 3, 1, 2), labels)


def derive_seed(seed: int, *words: object) -> int:
    """A seed for one purpose, a pure function of its arguments, so that a resumed run draws what it would have."""
    digest = hashlib.sha256("/".join(map(str, (seed, *words))).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


class TrainingStep:
    """Augmentation, forward, backward and update of one batch: what the trainer runs and the budget check times."""

    def __init__(self, model: nn.Module, recipe: Recipe, steps_per_epoch: int, execution: Execution = "eager") -> None:
        self.model = model
        self.execution = execution
        self.forward = executable(model, execution)
        self.compiling = execution != "eager"
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
        next_step(self.execution)
        self.schedule.step_update(iteration)
        self.optimizer.zero_grad(set_to_none=True)
        batch = normalize(crop_and_flip(images, recipe.crop_padding, recipe.flip, generator), recipe.mean, recipe.std)
        with autocast(recipe, self.device):
            logits = self.forward(batch)
            loss = F.cross_entropy(logits, labels, label_smoothing=recipe.label_smoothing)
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


@torch.no_grad()
def evaluate(model: nn.Module, split: LabelledImages, recipe: Recipe) -> Evaluation:
    """One view of every image, plain cross-entropy. Leaves the model in evaluation mode."""
    model.eval()
    logits = torch.cat([_logits(model, images, recipe) for images in split.images.split(EVAL_BATCH)])
    top = logits.topk(min(5, logits.shape[1])).indices == split.labels[:, None]
    right, classes = top[:, 0], logits.shape[1]
    count = torch.bincount(split.labels, minlength=classes)
    per_class = torch.bincount(split.labels[right], minlength=classes).double() / count
    return Evaluation(
        loss=F.cross_entropy(logits, split.labels).item(),
        top1=100 * right.double().mean().item(),
        top5=100 * top.any(1).double().mean().item(),
        per_class=tuple(100 * accuracy for accuracy in per_class.tolist()),
    )


def _logits(model: nn.Module, images: Tensor, recipe: Recipe) -> Tensor:
    batch = normalize(images, recipe.mean, recipe.std).contiguous(memory_format=torch.channels_last)
    with autocast(recipe, images.device):
        logits: Tensor = model(batch)
    return logits.float()


def make_deterministic() -> None:
    """Same seed, same device: same numbers. The process must have set CUBLAS_WORKSPACE_CONFIG for a GPU."""
    torch.backends.cudnn.benchmark = False
    torch.use_deterministic_algorithms(True, warn_only=True)
    # otherwise all new memory is written to first, for the sake of programs that read what they never wrote
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # a property of a module


def train(
    model: nn.Module,
    train_split: LabelledImages,
    eval_split: LabelledImages,
    recipe: Recipe,
    seed: int,
    checkpoint: Checkpoint | None = None,
    report: Report = silent,
    execution: Execution = "eager",
) -> tuple[list[Epoch], Evaluation]:
    """Trains to the last epoch and returns the curve and the final epoch's evaluation.

    model: on the device of both splits. checkpoint: where to go on from and to save to.
    Order and augmentation are pure functions of seed and epoch: a resumed training ends in the same numbers.
    Raises TrainingFailed when the loss is no longer finite or the images do not fill one batch.
    """
    steps_per_epoch = len(train_split) // recipe.batch_size
    if steps_per_epoch == 0:
        raise TrainingFailed(f"{len(train_split)} training images do not fill one batch of {recipe.batch_size}")
    model.to(memory_format=torch.channels_last)
    step = TrainingStep(model, recipe, steps_per_epoch, execution)
    state = checkpoint.load(model, step.optimizer, step.scaler) if checkpoint else None
    curve = [Epoch(**epoch) for epoch in state["curve"]] if state else []
    evaluation = evaluate(model, eval_split, recipe) if len(curve) == recipe.epochs else None
    for epoch in range(len(curve), recipe.epochs):
        report(Progress("training", epoch, recipe.epochs, f"top-1 {curve[-1].top1:.2f}" if curve else ""))
        started = time.perf_counter()
        loss, top1, seen = train_epoch(step, train_split, steps_per_epoch, seed, epoch)
        trained = time.perf_counter()
        evaluation = evaluate(model, eval_split, recipe)
        evaluated = time.perf_counter()
        if not math.isfinite(loss) or not math.isfinite(evaluation.loss):
            wrong = evaluation.loss if math.isfinite(loss) else loss
            raise TrainingFailed(f"the loss is {wrong} after epoch {epoch + 1}")
        accuracies = evaluation.loss, evaluation.top1, evaluation.top5
        curve.append(Epoch(epoch + 1, loss, top1, *accuracies, seen, trained - started, evaluated - trained))
        if checkpoint and (checkpoint.due() or epoch + 1 == recipe.epochs):
            checkpoint.save(model, step.optimizer, step.scaler, {"curve": [asdict(line) for line in curve]})
    report(Progress("training", recipe.epochs, recipe.epochs, f"top-1 {curve[-1].top1:.2f}"))
    assert evaluation is not None  # a recipe has at least one epoch
    return curve, evaluation


def train_epoch(
    step: TrainingStep, split: LabelledImages, steps: int, seed: int, epoch: int
) -> tuple[float, float, int]:
    """One pass over the split. Returns the mean loss, the accuracy in percent, and the images seen."""
    batch_size, device = step.recipe.batch_size, step.device
    torch.manual_seed(derive_seed(seed, epoch, "layers"))  # for drop_path and dropout
    generator = torch.Generator(device).manual_seed(derive_seed(seed, epoch, "images"))
    order = torch.randperm(len(split), generator=generator, device=device)
    step.model.train()
    loss_sum = torch.zeros((), device=device, dtype=torch.float64)
    right = torch.zeros((), device=device, dtype=torch.int64)
    for number, chosen in enumerate(order[: steps * batch_size].split(batch_size)):
        batch = split.take(chosen)
        loss, correct = step(batch.images, batch.labels, epoch * steps + number, generator)
        loss_sum += loss
        right += correct
    seen = steps * batch_size
    return loss_sum.item() / seen, 100 * right.item() / seen, seen
