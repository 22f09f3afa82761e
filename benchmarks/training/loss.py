"""Losses of a recipe: functions of logits and targets."""

from collections.abc import Callable

import torch
from timm.data.mixup import one_hot
from timm.loss import BinaryCrossEntropy, JsdCrossEntropy, SoftTargetCrossEntropy
from torch import Tensor
from torch.nn import functional as F

from benchmarks.definition.recipe import Recipe

Loss = Callable[[Tensor, Tensor], Tensor]


def create_loss(recipe: Recipe, device: torch.device) -> Loss:
    """Return the loss of a recipe: a function of logits and targets that computes the mean over the batch.

    The logits are (batch, classes). The targets are either class indices, int64 (batch,), or probabilities of the
    classes, float (batch, classes). Only indices are smoothed: as in timm, what mixes labels also smooths them. With
    `aug_splits`, the batch consists of the clean images, followed by their augmented versions in the same order.

    Args:
        recipe: The loss and its options.
        device: The device of the logits.
    """
    smoothing = recipe.label_smoothing
    if recipe.loss == "bce":
        bce = BinaryCrossEntropy(
            smoothing,
            target_threshold=recipe.bce_target_threshold,
            sum_classes=recipe.bce_sum,
            pos_weight=recipe.bce_pos_weight,
        ).to(device)
        return lambda logits, targets: bce(logits.float(), targets)
    if recipe.loss == "soft_target":
        soft_target = SoftTargetCrossEntropy()
        return lambda logits, targets: soft_target(logits.float(), _smoothed_one_hot(targets, logits, smoothing))
    if recipe.loss == "jsd":
        jsd = JsdCrossEntropy(recipe.aug_splits, smoothing=smoothing)
        return lambda logits, targets: jsd(logits.float(), targets)

    def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(logits, targets, label_smoothing=0.0 if targets.is_floating_point() else smoothing)

    return cross_entropy


def _smoothed_one_hot(targets: Tensor, logits: Tensor, smoothing: float) -> Tensor:
    """Convert class indices to probabilities, with the same result as label smoothing in the cross-entropy."""
    if targets.is_floating_point():
        return targets
    num_classes = logits.shape[1]
    off = smoothing / num_classes
    smoothed: Tensor = one_hot(targets, num_classes, on_value=1 - smoothing + off, off_value=off)
    return smoothed
