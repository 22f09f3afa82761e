"""In the style of airbench, a fast CIFAR trainer (Jordan 2024, arXiv:2404.00498), with our net and recipe.

Its ideas, not its code: the whole set lies on the device in the precision of the training, an epoch is augmented in one
go and then only sliced, and on a GPU the net is compiled.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.studies.training_loops.workload import EpochTimer, Workload
from benchmarks.training.augment import normalize
from benchmarks.training.step import autocast


def airbench_style(workload: Workload) -> EpochTimer:
    """The data set is normalised and padded once, and is kept as floating-point numbers."""
    recipe, device, scaler = workload.recipe, workload.device, workload.scaler()
    model = workload.net().train()
    optimizer = workload.optimizer(model)
    options: dict[str, Any] = {"deterministic": False}  # which ours asks for
    forward = torch.compile(model, options=options) if device.type == "cuda" else model
    images, labels = workload.tensors()
    kind = torch.float16 if scaler.is_enabled() else torch.float32
    normal = normalize(images, recipe.mean, recipe.std).to(kind)
    black = -recipe.mean / recipe.std
    padded = F.pad(normal, (recipe.crop_padding,) * 4, value=black).contiguous(memory_format=torch.channels_last)

    def epoch() -> None:
        batches = _crop(_mirror(padded, recipe.flip), images.shape[-1])
        order = torch.randperm(len(labels), device=device)
        for chosen in order[: workload.steps * recipe.batch_size].split(recipe.batch_size):
            optimizer.zero_grad(set_to_none=True)
            with autocast(recipe, device):
                loss = F.cross_entropy(forward(batches[chosen]), labels[chosen], label_smoothing=recipe.label_smoothing)
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()

    return lambda: workload.time(epoch)


def _mirror(images: Tensor, probability: float) -> Tensor:
    chosen = torch.rand(len(images), 1, 1, 1, device=images.device) < probability
    return torch.where(chosen, images.flip(-1), images)


def _crop(padded: Tensor, size: int) -> Tensor:
    """Rows first, then columns: all images with the same shift are cut at once."""
    shifts = padded.shape[-1] - size + 1
    top, left = torch.randint(shifts, (2, len(padded)), device=padded.device)
    rows = padded.new_empty(len(padded), padded.shape[1], size, padded.shape[3])
    cut = padded.new_empty(len(padded), padded.shape[1], size, size).contiguous(memory_format=torch.channels_last)
    for shift in range(shifts):
        rows[top == shift] = padded[top == shift, :, shift : shift + size]
    for shift in range(shifts):
        cut[left == shift] = rows[left == shift, :, :, shift : shift + size]
    return cut
