"""Training under a `Recipe`: one epoch, one evaluation, and the loop over them."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.definition.recipe import Recipe
from benchmarks.execution.progress import Progress, Report, silent
from benchmarks.training.augment import normalize
from benchmarks.training.checkpoint import Checkpoint
from benchmarks.training.compile_mode import CompileMode
from benchmarks.training.distillation import Distiller
from benchmarks.training.distributed_context import SINGLE_PROCESS, DistributedContext
from benchmarks.training.state import EpochMetrics, RunningEpoch, TrainingState
from benchmarks.training.step import DeviceImages, TrainingStep, autocast

EVAL_BATCH = 1024  # images; has no effect on any number


class TrainingFailed(RuntimeError):
    """A training that cannot end in a result, with its reason in one line."""


@dataclass(frozen=True)
class Evaluation:
    """Loss, accuracies in percent, the accuracy within each class, and the class each image was taken for."""

    loss: float
    top1: float
    top5: float
    per_class: tuple[float, ...]
    predictions: tuple[int, ...]


@torch.no_grad()
def evaluate(model: nn.Module, split: DeviceImages, recipe: Recipe) -> Evaluation:
    """One view of every image, plain cross-entropy. Leaves the model in evaluation mode."""
    model.eval()
    logits = torch.cat([_logits(model, images, recipe) for images in split.images.split(EVAL_BATCH)])
    best = logits.topk(min(5, logits.shape[1])).indices
    top = best == split.labels[:, None]
    right, classes = top[:, 0], logits.shape[1]
    count = torch.bincount(split.labels, minlength=classes)
    per_class = torch.bincount(split.labels[right], minlength=classes).double() / count
    return Evaluation(
        loss=F.cross_entropy(logits, split.labels).item(),
        top1=100 * right.double().mean().item(),
        top5=100 * top.any(1).double().mean().item(),
        per_class=tuple(100 * accuracy for accuracy in per_class.tolist()),
        predictions=tuple(best[:, 0].tolist()),
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
    train_split: DeviceImages,
    eval_split: DeviceImages,
    recipe: Recipe,
    seed: int,
    checkpoint: Checkpoint | None = None,
    report: Report = silent,
    compile_mode: CompileMode = "eager",
    context: DistributedContext = SINGLE_PROCESS,
    distiller: Distiller | None = None,
) -> tuple[list[EpochMetrics], Evaluation]:
    """Trains to the last epoch and returns the curve and the final epoch's evaluation.

    model: on the device of both splits. checkpoint: where to go on from and to save to. distiller: beside the labels.
    Order and augmentation are pure functions of seed and epoch: a resumed training ends in the same numbers.
    Raises TrainingFailed when the loss is no longer finite or the images do not fill one batch, and Stopped.
    """
    steps_per_epoch = len(train_split) // recipe.batch_size
    if steps_per_epoch == 0:
        raise TrainingFailed(f"{len(train_split)} training images do not fill one batch of {recipe.batch_size}")
    model.to(memory_format=torch.channels_last)
    step = TrainingStep(model, recipe, steps_per_epoch, compile_mode, context, distiller)
    state = TrainingState(step, seed, len(train_split))
    if checkpoint and checkpoint.loaded:
        try:
            state.restore(checkpoint.loaded)
        except (KeyError, TypeError, ValueError) as error:
            problem = (
                f"{checkpoint.folder} was written by another version, whose state does not fit: delete that folder"
            )
            raise TrainingFailed(problem) from error
        checkpoint.loaded = None  # its memory is needed
    evaluation = None

    def keep_if_due() -> None:
        if checkpoint and context.size == 1 and checkpoint.due():
            state.epoch.stop_clock()
            checkpoint.save(state.position(steps_per_epoch), state.tensors(), state.numbers())
            state.epoch.start_clock()

    while len(state.curve) < recipe.epochs:
        done = len(state.curve)
        report(Progress("training", done, recipe.epochs, f"top-1 {state.curve[-1].top1:.2f}" if done else ""))
        loss, top1, seen = train_epoch(step, train_split, steps_per_epoch, state.epoch, keep_if_due)
        started = time.perf_counter()
        evaluation = context.once(lambda: evaluate(model, eval_split, recipe))
        if not math.isfinite(loss) or not math.isfinite(evaluation.loss):
            wrong = evaluation.loss if math.isfinite(loss) else loss
            if checkpoint and context.rank == 0:
                checkpoint.forget()  # from such a state no other end can be reached
            raise TrainingFailed(f"the loss is {wrong} after epoch {done + 1}")
        accuracies, seconds = (evaluation.loss, evaluation.top1, evaluation.top5), time.perf_counter() - started
        state.curve.append(EpochMetrics(done + 1, loss, top1, *accuracies, seen, state.epoch.seconds, seconds))
        state.begin_epoch()
        if checkpoint and context.rank == 0 and (checkpoint.due() or done + 1 == recipe.epochs):
            checkpoint.save(state.position(steps_per_epoch), state.tensors(), state.numbers())
    report(Progress("training", recipe.epochs, recipe.epochs, f"top-1 {state.curve[-1].top1:.2f}"))
    return state.curve, evaluation or context.once(lambda: evaluate(model, eval_split, recipe))


def train_epoch(
    step: TrainingStep,
    split: DeviceImages,
    steps: int,
    running: RunningEpoch | None = None,
    after_batch: Callable[[], None] = lambda: None,
) -> tuple[float, float, int]:
    """What remains of one pass over the split. Returns the mean loss, the accuracy in percent, and the images seen.

    running: the pass as far as it has come; None: the whole first one of seed 0.
    """
    batch_size = step.recipe.batch_size
    running = running or RunningEpoch(0, 0, len(split), step.device, step.context)
    running.enter()
    step.model.train()
    for chosen in running.order[: steps * batch_size].split(batch_size)[running.batches :]:
        batch = split.take(step.context.part(chosen))
        iteration = running.epoch * steps + running.batches
        loss, correct = step(batch.images, batch.labels, iteration, running.generator)
        running.loss_sum += loss
        running.right += correct
        running.batches += 1
        after_batch()
    step.context.add_up(running.loss_sum, running.right)
    running.stop_clock()
    seen = steps * batch_size
    return running.loss_sum.item() / seen, 100 * running.right.item() / seen, seen
