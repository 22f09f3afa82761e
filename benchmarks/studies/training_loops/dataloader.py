"""A plain PyTorch loop: torchvision's transforms on one image at a time, in the processes of a DataLoader."""

from operator import itemgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from benchmarks.definition.recipe import per_channel
from benchmarks.studies.training_loops.workload import EpochTimer, Workload
from benchmarks.training.image_transforms import image_transforms
from benchmarks.training.step import autocast


class PilImages(Dataset[Any]):
    """Images in memory, each returned as a PIL image with its label, as by torchvision's CIFAR data sets.

    Args:
        images: uint8, (n, height, width, 3).
        labels: int64, (n,).
        transform: Applied to each PIL image.
    """

    def __init__(self, images: NDArray[np.uint8], labels: NDArray[np.int64], transform: Any = None) -> None:
        self.images = images
        self.labels = labels.tolist()
        self.transform = transform

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        image = Image.fromarray(self.images[index])
        return image if self.transform is None else self.transform(image), self.labels[index]


def dataloader(workload: Workload) -> EpochTimer:
    """Prepare the loop of PyTorch's tutorials, with channels-last format, pinned memory and persistent workers."""
    recipe, model, scaler, device = workload.recipe, workload.model().train(), workload.scaler(), workload.device
    optimizer, loader = workload.optimizer(model), _loader(workload)

    def epoch() -> float:
        loss_sum, correct = 0.0, 0
        for images, labels in loader:
            batch = images.to(device, non_blocking=True)
            targets = labels.to(device, non_blocking=True)
            optimizer.zero_grad()
            with autocast(recipe, device):
                logits = model(batch)
                loss = F.cross_entropy(logits, targets, label_smoothing=recipe.label_smoothing)
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
            loss_sum += loss.item() * len(labels)
            correct += int((logits.argmax(1) == targets).sum())
        return loss_sum

    return lambda: workload.time_with_torch_defaults(epoch)


def _loader(workload: Workload) -> DataLoader[Any]:
    recipe = workload.recipe
    transform = transforms.Compose(
        [
            image_transforms(recipe, workload.images.shape[1], 3),
            itemgetter(0),  # the only version of the image
            transforms.ToTensor(),
            transforms.Normalize(per_channel(recipe.mean, 3), per_channel(recipe.std, 3)),
        ]
    )
    return DataLoader(
        PilImages(workload.images, workload.labels, transform),
        recipe.batch_size,
        shuffle=True,
        drop_last=True,
        num_workers=workload.workers,
        persistent_workers=workload.workers > 0,
        pin_memory=workload.device.type == "cuda",
    )
