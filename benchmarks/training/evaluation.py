"""Evaluation of a model on a split."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.definition.recipe import Recipe
from benchmarks.training.augment import normalize
from benchmarks.training.step import DeviceImages, autocast

EVAL_BATCH = 1024  # images; affects the speed, and the loss only by rounding
MAX_TRAINING_BATCHES = 4  # on a GPU, an evaluation batch has at most this many training batches


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


def eval_batch_size(recipe: Recipe, device: torch.device) -> int:
    """Return the number of images that are evaluated at once.

    On a GPU, it is limited so that an evaluation fits wherever the recipe's training does, whose batch also keeps the
    activations of all layers. The budget check times the same batch. On a CPU it is constant, as in all records so far.
    """
    if device.type == "cpu":
        return EVAL_BATCH
    return min(EVAL_BATCH, MAX_TRAINING_BATCHES * recipe.batch_size)


@torch.no_grad()
def evaluate(model: nn.Module, split: DeviceImages, recipe: Recipe) -> Evaluation:
    """Evaluate a model on one view of every image, with plain cross-entropy.

    Args:
        model: The model; it is left in evaluation mode.
        split: Images on the model's device.
        recipe: Normalization and precision.
    """
    model.eval()
    batches = split.images.split(eval_batch_size(recipe, split.images.device))
    logits = torch.cat([compute_logits(model, images, recipe) for images in batches])
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


def compute_logits(model: nn.Module, images: Tensor, recipe: Recipe) -> Tensor:
    """Return the logits of a batch in float32.

    Args:
        model: The model, in evaluation mode.
        images: uint8, (n, channels, height, width), on the model's device.
        recipe: Normalization and precision.
    """
    batch = normalize(images, recipe.mean, recipe.std).contiguous(memory_format=torch.channels_last)
    with autocast(recipe, images.device):
        logits: Tensor = model(batch)
    return logits.float()
