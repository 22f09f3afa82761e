"""Evaluation of a model on a split."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.definition.recipe import Recipe
from benchmarks.training.augment import normalize
from benchmarks.training.step import DeviceImages, autocast

EVAL_BATCH = 1024  # images; affects the speed, not the results


@dataclass(frozen=True)
class Evaluation:
    """Metrics of a model on a split.

    Attributes:
        loss: Mean cross-entropy.
        top1: In percent.
        top5: In percent.
        per_class: Top-1 accuracy of each class, in percent.
        predictions: Predicted class of each image.
    """

    loss: float
    top1: float
    top5: float
    per_class: tuple[float, ...]
    predictions: tuple[int, ...]


@torch.no_grad()
def evaluate(model: nn.Module, split: DeviceImages, recipe: Recipe) -> Evaluation:
    """Evaluate a model on one view of every image, with plain cross-entropy.

    Args:
        model: The model; it is left in evaluation mode.
        split: Images on the model's device.
        recipe: Normalization and precision.
    """
    model.eval()
    logits = torch.cat([_logits(model, images, recipe) for images in split.images.split(EVAL_BATCH)])
    predictions = logits.topk(min(5, logits.shape[1])).indices
    matches = predictions == split.labels[:, None]
    correct, num_classes = matches[:, 0], logits.shape[1]
    count = torch.bincount(split.labels, minlength=num_classes)
    per_class = torch.bincount(split.labels[correct], minlength=num_classes).double() / count
    return Evaluation(
        loss=F.cross_entropy(logits, split.labels).item(),
        top1=100 * correct.double().mean().item(),
        top5=100 * matches.any(1).double().mean().item(),
        per_class=tuple(100 * accuracy for accuracy in per_class.tolist()),
        predictions=tuple(predictions[:, 0].tolist()),
    )


def _logits(model: nn.Module, images: Tensor, recipe: Recipe) -> Tensor:
    batch = normalize(images, recipe.mean, recipe.std).contiguous(memory_format=torch.channels_last)
    with autocast(recipe, images.device):
        logits: Tensor = model(batch)
    return logits.float()
