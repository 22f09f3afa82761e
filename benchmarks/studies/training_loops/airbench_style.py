"""A loop in the style of airbench, a fast trainer for CIFAR (Jordan 2024, arXiv:2404.00498), for our model and recipe.

It uses airbench's ideas, not its code: the whole data set is on the device in the training precision, a whole epoch
is augmented at once and then sliced into batches, and on a GPU the model is compiled.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.studies.training_loops.workload import EpochTimer, Workload
from benchmarks.training.augment import normalize
from benchmarks.training.step import autocast


def airbench_style(workload: Workload) -> EpochTimer:
    """Prepare the loop. The data set is normalized and padded once and kept as floating-point numbers."""
    recipe, device, scaler = workload.recipe, workload.device, workload.scaler()
    model = workload.model().train()
    optimizer = workload.optimizer(model)
    options: dict[str, Any] = {"deterministic": False}  # our own training sets it to True in this process
    forward = torch.compile(model, options=options) if device.type == "cuda" else model
    images, labels = workload.tensors()
    dtype = torch.float16 if scaler.is_enabled() else torch.float32
    normalized = normalize(images, recipe.mean, recipe.std).to(dtype)
    assert not isinstance(recipe.mean, tuple)
    assert not isinstance(recipe.std, tuple)
    black = -recipe.mean / recipe.std
    padded = F.pad(normalized, (recipe.crop_padding,) * 4, value=black).contiguous(memory_format=torch.channels_last)

    def epoch() -> None:
        augmented = _crop(_flip(padded, recipe.flip), images.shape[-1])
        order = torch.randperm(len(labels), device=device)
        for indices in order[: workload.steps * recipe.batch_size].split(recipe.batch_size):
            optimizer.zero_grad(set_to_none=True)
            with autocast(recipe, device):
                logits = forward(augmented[indices])
                loss = F.cross_entropy(logits, labels[indices], label_smoothing=recipe.label_smoothing)
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()

    return lambda: workload.time_with_torch_defaults(epoch)


def _flip(images: Tensor, probability: float) -> Tensor:
    flipped = torch.rand(len(images), 1, 1, 1, device=images.device) < probability
    return torch.where(flipped, images.flip(-1), images)


def _crop(padded: Tensor, size: int) -> Tensor:
    """Crop rows first, then columns; all images with the same offset are cropped at once."""
    num_offsets = padded.shape[-1] - size + 1
    top, left = torch.randint(num_offsets, (2, len(padded)), device=padded.device)
    rows = padded.new_empty(len(padded), padded.shape[1], size, padded.shape[3])
    crops = padded.new_empty(len(padded), padded.shape[1], size, size).contiguous(memory_format=torch.channels_last)
    for offset in range(num_offsets):
        rows[top == offset] = padded[top == offset, :, offset : offset + size]
    for offset in range(num_offsets):
        crops[left == offset] = rows[left == offset, :, :, offset : offset + size]
    return crops
