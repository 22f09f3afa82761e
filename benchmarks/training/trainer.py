"""The training loop: one epoch, and a full training run under a `Recipe`."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import nn

from benchmarks.definition.recipe import Recipe
from benchmarks.execution.progress import Progress, Report, silent
from benchmarks.training.checkpoint import Checkpoint
from benchmarks.training.evaluation import Evaluation, evaluate
from benchmarks.training.loaded_images import LoadedImages
from benchmarks.training.repeated_augmentation import repeat_images
from benchmarks.training.running_epoch import RunningEpoch
from benchmarks.training.state import EpochMetrics, TrainingState
from benchmarks.training.step import DeviceImages, StepOptions, TrainingStep
from benchmarks.training.teacher_logits import with_teacher_logits
from benchmarks.training.tensor_file import TensorsAndHeader


class TrainingFailed(RuntimeError):
    """The training cannot produce a result. The message gives the reason in one line."""


class Splits(NamedTuple):
    """The images of a training run, on the model's device unless they are transformed one by one."""

    train: DeviceImages | LoadedImages
    evaluation: DeviceImages


@dataclass(frozen=True)
class TrainingOptions(StepOptions):
    """How a training run is executed.

    Attributes:
        checkpoint: Where to resume from and where to save the state. None: nothing is saved.
        report: Called with the progress before each epoch and at the end.
        on_curve: Called with the finished epochs at the same times.
    """

    checkpoint: Checkpoint | None = None
    report: Report = silent
    on_curve: Callable[[Sequence[EpochMetrics]], None] = lambda curve: None


def train(
    model: nn.Module, splits: Splits, recipe: Recipe, seed: int, options: TrainingOptions | None = None
) -> tuple[list[EpochMetrics], Evaluation]:
    """Train a model for all epochs of a recipe.

    The order of images and the augmentation depend only on the seed and the epoch, so a resumed run gives the
    same numbers as an uninterrupted one.

    Args:
        model: The model to train, on the device of both splits. In the end, it has the weights that were evaluated.
        splits: Images to train on and to evaluate on.
        recipe: Hyperparameters.
        seed: Seed of the order of images, the augmentation, drop_path and dropout.
        options: Default: eager, in a single process, without teacher, checkpoints and reports.

    Returns:
        The training curve, and the evaluation after the last epoch.

    Raises:
        InputError: If the images do not fill one batch.
        TrainingFailed: If the loss is not finite, or the checkpoint does not fit.
        TrainingStopped: If the run was asked to stop.
    """
    options = options or TrainingOptions()
    recipe.require_full_batch(len(splits.train))
    steps_per_epoch = len(splits.train) // recipe.batch_size
    model.to(memory_format=torch.channels_last)
    step = TrainingStep(model, recipe, steps_per_epoch, options)
    state = TrainingState(step, seed, len(splits.train))
    checkpoint = options.checkpoint
    evaluation: Evaluation | None = None
    if checkpoint and checkpoint.loaded:
        _resume(state, checkpoint, checkpoint.loaded)
    if len(state.curve) < recipe.epochs and isinstance(splits.train, DeviceImages):
        splits = splits._replace(train=_with_teacher_logits(state, splits.train))
    while len(state.curve) < recipe.epochs:
        _report(state, options)
        evaluation = _train_and_evaluate(state, splits, options)
        if checkpoint and step.context.rank == 0 and (checkpoint.due() or len(state.curve) == recipe.epochs):
            state.save(checkpoint)
    _report(state, options)
    if evaluation is None:  # all epochs were finished before
        evaluation = step.context.compute_once(lambda: evaluate(step.evaluated_model, splits.evaluation, recipe))
    if step.ema is not None:
        model.load_state_dict(step.ema.module.state_dict())
    return state.curve, evaluation


def _resume(state: TrainingState, checkpoint: Checkpoint, loaded: TensorsAndHeader) -> None:
    try:
        state.restore(loaded)
    except (KeyError, TypeError, ValueError) as error:
        raise TrainingFailed(
            f"cannot resume from {checkpoint.folder}: its state was written by a different version; "
            "delete that folder to train from scratch"
        ) from error
    checkpoint.loaded = None  # frees its memory


def _with_teacher_logits(state: TrainingState, images: DeviceImages) -> DeviceImages:
    """Return the images with the teacher's logits if these are fixed. The time counts toward the running epoch."""
    state.epoch.start_timer()
    images = with_teacher_logits(images, state.step)
    state.epoch.stop_timer()
    return images


def _report(state: TrainingState, options: TrainingOptions) -> None:
    note = f"top-1 {state.curve[-1].top1:.2f}" if state.curve else ""
    options.report(Progress("training", len(state.curve), state.step.recipe.epochs, note))
    options.on_curve(state.curve)


def _train_and_evaluate(state: TrainingState, splits: Splits, options: TrainingOptions) -> Evaluation:
    """Finish the running epoch, evaluate the model, and add both to the curve."""
    step, epoch = state.step, len(state.curve) + 1

    def save_if_due() -> None:
        # A checkpoint has no random states of other processes, so a distributed run saves only after whole epochs.
        if options.checkpoint and step.context.size == 1 and options.checkpoint.due():
            state.epoch.stop_timer()
            state.save(options.checkpoint)
            state.epoch.start_timer()

    loss, top1, images_seen = train_epoch(step, splits.train, step.steps_per_epoch, state.epoch, save_if_due)
    started = time.perf_counter()
    evaluation = step.context.compute_once(lambda: evaluate(step.evaluated_model, splits.evaluation, step.recipe))
    if not math.isfinite(loss) or not math.isfinite(evaluation.loss):
        if options.checkpoint and step.context.rank == 0:
            options.checkpoint.delete()  # resuming from this state would fail in the same way
        raise TrainingFailed(f"the loss is {evaluation.loss if math.isfinite(loss) else loss} after epoch {epoch}")
    accuracies, seconds = (evaluation.loss, evaluation.top1, evaluation.top5), time.perf_counter() - started
    state.curve.append(EpochMetrics(epoch, loss, top1, *accuracies, images_seen, state.epoch.seconds, seconds))
    state.begin_epoch()
    return evaluation


def train_epoch(
    step: TrainingStep,
    split: DeviceImages | LoadedImages,
    num_steps: int,
    running: RunningEpoch | None = None,
    after_batch: Callable[[], None] = lambda: None,
) -> tuple[float, float, int]:
    """Train for the rest of one pass over a split.

    Args:
        step: The training step.
        split: Images to train on.
        num_steps: Steps of the whole pass.
        running: The state of the pass. Default: the first batch of the first epoch of seed 0.
        after_batch: Called after each batch.

    Returns:
        Mean loss, top-1 accuracy in percent, and the number of images seen, of the whole pass.
    """
    batch_size = step.recipe.batch_size
    running = running or RunningEpoch(0, 0, len(split), step.generator, step.context)
    running.start()
    step.model.train()
    repeats = step.recipe.aug_repeats
    samples = repeat_images(running.order, repeats)[: num_steps * batch_size].split(batch_size)[running.batches :]
    shards = [step.context.shard(batch, interleaved=repeats > 1) for batch in samples]
    for batch in split.batches(shards, running.transforms_seed):
        iteration = running.epoch * num_steps + running.batches
        loss, correct = step(batch.images, batch.labels, iteration, batch.teacher_logits)
        running.loss_sum += loss
        running.correct += correct
        running.batches += 1
        after_batch()
    step.context.all_reduce(running.loss_sum, running.correct)
    running.stop_timer()
    images_seen = num_steps * batch_size
    return running.loss_sum.item() / images_seen, 100 * running.correct.item() / images_seen, images_seen
