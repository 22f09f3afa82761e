"""The teacher's logits of all training images, computed once if the recipe changes no image."""

from dataclasses import replace

import torch
from torch import Tensor

from benchmarks.training.compile_mode import uses_graph
from benchmarks.training.step import DeviceImages, TrainingStep, autocast


def reuses_teacher_logits(step: TrainingStep) -> bool:
    """Return whether a training may compute the teacher's logits once, instead of in each epoch.

    It may if the teacher is a network that does not change, and the recipe has no augmentation. CUDA graphs contain the
    teacher's forward pass.
    """
    has_fixed_logits = step.distiller is not None and step.distiller.has_fixed_logits
    return has_fixed_logits and not step.recipe.augments and not uses_graph(step.compile_mode)


def with_teacher_logits(split: DeviceImages, step: TrainingStep) -> DeviceImages:
    """Return the training images with the teacher's logits, or unchanged if each step has to compute them.

    The results of the training are the same in every bit. Rounding may depend on the size of a batch, so the batches
    have the size of those in training; the last one is filled with other images. One more batch of distant images has
    to give equal logits, so a teacher whose outputs depend on the other images of a batch is not affected.

    Args:
        split: The training images.
        step: The training step with the teacher.
    """
    if not reuses_teacher_logits(step):
        return split
    count = len(split)
    size = min(step.images_per_pass, count)  # only the budget check has fewer images than a batch
    indices = torch.arange(count + -count % size, device=step.device) % count
    logits = torch.cat([_compute_logits(split.take(batch), step) for batch in indices.split(size)])[:count]
    distant = count - 1 - torch.arange(size, device=step.device) * (count // size)
    is_equal = torch.equal(_compute_logits(split.take(distant), step), logits[distant])
    return replace(split, teacher_logits=logits) if is_equal else split


def _compute_logits(batch: DeviceImages, step: TrainingStep) -> Tensor:
    assert step.distiller is not None
    assert step.distiller.teacher is not None
    images, _ = step.augment(batch.images, batch.labels, 0, torch.Generator(step.device))  # only normalizes them
    with torch.no_grad(), autocast(step.recipe, step.device):
        logits: Tensor = step.distiller.teacher(images)
    return logits
