"""Training images that loader processes transform one by one, while the device trains on the previous batches."""

import os
import sys
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from benchmarks.datasets.arrays import ImageArrays, Pixels
from benchmarks.definition.recipe import Recipe
from benchmarks.training.global_generators import global_generators_restored
from benchmarks.training.image_transforms import ImageTransforms, image_transforms, transform_image
from benchmarks.training.seeds import derive_seed
from benchmarks.training.step import DeviceImages

MAX_LOADER_PROCESSES = 16

Draws = tuple[int, list[int]]  # the seed of the epoch's transforms, and the samples of a batch


class LoadedImages:
    """Labeled images that are transformed one by one in loader processes.

    All random draws of a sample follow from the seed of the epoch and the sample, so the number of processes does not
    affect the results. The processes start with the first batch and serve all epochs.

    Args:
        arrays: The images and labels. The processes share the images.
        recipe: The augmentation.
        device: The device that trains.
        num_processes: The number of loader processes; 0 transforms the images in this process. Default: one less than
            the number of available cores.
    """

    def __init__(
        self, arrays: ImageArrays, recipe: Recipe, device: torch.device, num_processes: int | None = None
    ) -> None:
        self.labels = torch.from_numpy(arrays.labels).to(device)
        self._queue = _BatchQueue()
        workers = default_loader_processes() if num_processes is None else num_processes
        _, size, _, channels = arrays.images.shape
        self._loader: DataLoader[Tensor] = DataLoader(
            _TransformedBatches(arrays.images, image_transforms(recipe, size, channels)),
            batch_size=None,  # the data set returns whole batches
            sampler=self._queue,
            num_workers=workers,
            persistent_workers=workers > 0,
            # Forked processes belong to the process group of the run, which is killed as a whole.
            multiprocessing_context="fork" if workers and sys.platform == "linux" else None,
            pin_memory=device.type == "cuda",
            generator=torch.Generator(),  # by default, the loader draws from the generator that the layers use
        )

    def __len__(self) -> int:
        return len(self.labels)

    def batches(self, samples: Sequence[Tensor], transforms_seed: int) -> Iterator[DeviceImages]:
        """Yield the transformed images and the labels of each batch. See `DeviceImages.batches`.

        With `aug_splits`, there are more images than labels: the clean images, followed by each augmented version.
        """
        self._queue.batches = [(transforms_seed, batch.tolist()) for batch in samples]
        for batch, images in zip(samples, self._loader, strict=True):
            on_device = images.to(self.labels.device, non_blocking=True)
            yield DeviceImages(on_device.permute(0, 3, 1, 2), self.labels[batch % len(self)])


def with_loader(images: DeviceImages, recipe: Recipe, trainings: int = 1) -> DeviceImages | LoadedImages:
    """Return images as training reads them: through loader processes if the recipe transforms single images.

    Args:
        images: Images on a device, for measuring speed.
        recipe: The augmentation.
        trainings: See `default_loader_processes`.
    """
    if not recipe.transforms_images:
        return images
    pixels, labels = images.images.permute(0, 2, 3, 1).cpu().numpy(), images.labels.cpu().numpy()
    processes = default_loader_processes(trainings)
    return LoadedImages(ImageArrays(pixels, labels), recipe, images.labels.device, processes)


class _BatchQueue(Sampler[Draws]):
    """The batches that the loader reads next. A sampler is iterated in the training process, so it can change."""

    def __init__(self) -> None:
        self.batches: list[Draws] = []

    def __iter__(self) -> Iterator[Draws]:
        return iter(self.batches)


class _TransformedBatches(Dataset[Tensor]):
    """Returns the transformed images of a batch: uint8, (aug_splits * batch, height, width, channels)."""

    def __init__(self, images: Pixels, transforms: ImageTransforms) -> None:
        self.images = images.view(np.ndarray)  # indexing a memory-mapped array directly is slower
        self.transforms = transforms

    def __getitem__(self, draws: Draws) -> Tensor:
        seed, samples = draws
        batch = np.empty((self.transforms.splits, len(samples), *self.images.shape[1:]), np.uint8)
        with global_generators_restored():
            for position, sample in enumerate(samples):
                image = self.images[sample % len(self.images)]
                versions = transform_image(image, self.transforms, derive_seed(seed, sample))
                for split, version in zip(batch, versions, strict=True):
                    split[position] = version
        return torch.from_numpy(batch).flatten(0, 1)


def default_loader_processes(trainings: int = 1) -> int:
    """Return the number of loader processes of one of several concurrent trainings on this computer."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(MAX_LOADER_PROCESSES, (cores - 1) // trainings))
