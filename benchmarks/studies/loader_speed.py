"""Time our loader path and timm's own loader with the same augmentation, in turn, and print ratios as Markdown.

    python -m benchmarks.studies.loader_speed --data DIR [--pixels 32 160] [--workers 2] > FILE.md

`--data` is a folder of CIFAR-100, as for `ablate run`. timm's loader is created as by its `train.py` on a CPU: with the
prefetcher, which normalizes and erases in the training process, and with mixing in the loader processes. Both loaders
read images from memory. "loading" is an epoch of batches that are ready for the model; "training" also trains a model
on each, in timm's case with the loop of `train.py`.
"""

import argparse
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import psutil
import torch
from numpy.typing import NDArray
from PIL import Image
from timm.data import AugMixDataset, create_loader
from timm.data.mixup import FastCollateMixup
from timm.loss import JsdCrossEntropy, LabelSmoothingCrossEntropy, SoftTargetCrossEntropy
from torch import nn

from benchmarks.datasets.arrays import ImageArrays
from benchmarks.datasets.prepare import prepare_dataset
from benchmarks.definition.recipe import Recipe
from benchmarks.definition.registry import BENCHMARKS
from benchmarks.definition.versions import versions
from benchmarks.execution.device import device_name
from benchmarks.execution.environment import restart_with_worker_environment
from benchmarks.studies.training_loops.dataloader import PilImages
from benchmarks.studies.training_loops.workload import Workload
from benchmarks.training.loaded_images import LoadedImages
from benchmarks.training.repeated_augmentation import repeat_images
from benchmarks.training.running_epoch import RunningEpoch
from benchmarks.training.step import TrainingStep
from benchmarks.training.trainer import train_epoch

Loop = Callable[[Workload], Callable[[], None]]  # prepares a function that runs an epoch

CPU = torch.device("cpu")
PLAIN = Recipe(
    warmup_epochs=0, crop_padding=0, resized_crop_scale=(0.08, 1.0), mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)
)
RECIPES: Mapping[str, Recipe] = {
    "crop, flip, color jitter": replace(PLAIN, color_jitter=(0.4, 0.4, 0.4, 0.0)),
    "RandAugment, mixup, cutmix (A3)": replace(PLAIN, auto_augment="rand-m6-mstd0.5-inc1", mixup=0.1, cutmix=1.0),
    "RandAugment, mixup, cutmix, erasing (DeiT)": replace(
        PLAIN, auto_augment="rand-m9-mstd0.5-inc1", mixup=0.8, cutmix=1.0, erasing=0.25, erasing_mode="pixel"
    ),
    "AutoAugment": replace(PLAIN, auto_augment="original"),
    "AugMix in 3 splits, Jsd": replace(PLAIN, auto_augment="augmix-m3-w3", aug_splits=3, loss="jsd"),
}


def timm_loader(workload: Workload) -> Any:
    """Create the loader of timm's script."""
    recipe = workload.recipe
    dataset: Any = PilImages(workload.images, workload.labels)
    if recipe.aug_splits > 1:
        dataset = AugMixDataset(dataset, recipe.aug_splits)
    mixing = partial(FastCollateMixup, recipe.mixup, recipe.cutmix, None, recipe.mixup_prob, recipe.mixup_switch_prob)
    return create_loader(
        dataset,
        input_size=(3, *workload.images.shape[1:3]),
        batch_size=recipe.batch_size,
        is_training=True,
        re_prob=recipe.erasing,
        re_mode=recipe.erasing_mode,
        scale=recipe.resized_crop_scale,
        color_jitter=recipe.color_jitter if any(recipe.color_jitter) else None,  # type: ignore[arg-type]  # None: off
        auto_augment=recipe.auto_augment or None,
        num_aug_splits=recipe.aug_splits if recipe.aug_splits > 1 else 0,
        interpolation=recipe.interpolation,
        mean=(0.5,) * 3,
        std=(0.5,) * 3,
        num_workers=workload.workers,
        collate_fn=mixing(label_smoothing=recipe.label_smoothing, num_classes=100) if recipe.mixes else None,
        device=CPU,
    )


def timm_loading(workload: Workload) -> Callable[[], None]:
    """Prepare an epoch of timm's loader."""
    loader = timm_loader(workload)

    def epoch() -> None:
        for _ in loader:
            pass

    return epoch


def timm_training(workload: Workload) -> Callable[[], None]:
    """Prepare an epoch of the training loop of timm's script."""
    loader, model = timm_loader(workload), workload.model().train()
    recipe, optimizer = workload.recipe, workload.optimizer(model)
    losses: dict[str, nn.Module] = {
        "jsd": JsdCrossEntropy(recipe.aug_splits),
        "cross_entropy": SoftTargetCrossEntropy(),
    }
    loss_function = losses[recipe.loss] if recipe.mixes or recipe.loss == "jsd" else LabelSmoothingCrossEntropy()

    def epoch() -> None:
        for images, targets in loader:
            batch = images.contiguous(memory_format=torch.channels_last)
            loss = loss_function(model(batch), targets)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()

    return epoch


def our_images(workload: Workload) -> LoadedImages:
    """Create our loader."""
    arrays = ImageArrays(workload.images, workload.labels)
    return LoadedImages(arrays, workload.recipe, CPU, workload.workers)


def our_loading(workload: Workload) -> Callable[[], None]:
    """Prepare an epoch of our loader, with the augmentation of whole batches and the targets."""
    images, recipe = our_images(workload), workload.recipe
    step = TrainingStep(workload.model(), recipe, workload.steps)
    epochs = iter(range(10**6))

    def epoch() -> None:
        running = RunningEpoch(0, next(epochs), len(images), step.generator, step.context)
        samples = repeat_images(running.order, recipe.aug_repeats).split(recipe.batch_size)[: workload.steps]
        for number, batch in enumerate(images.batches(samples, running.transforms_seed)):
            _, labels = step.augment(batch.images, batch.labels, number, running.generator)
            labels.targets(workload.num_classes, recipe.label_smoothing)

    return epoch


def our_training(workload: Workload) -> Callable[[], None]:
    """Prepare an epoch of our training loop."""
    images, step = our_images(workload), TrainingStep(workload.model(), workload.recipe, workload.steps)
    epochs = iter(range(10**6))

    def epoch() -> None:
        running = RunningEpoch(0, next(epochs), len(images), step.generator, step.context)
        train_epoch(step, images, workload.steps, running)

    return epoch


Times = dict[str, list[float]]  # seconds of each epoch, by the name of the loop


def time_in_turn(workload: Workload, loops: Mapping[str, Loop], repeats: int) -> tuple[Times, Times]:
    """Return the seconds and the CPU seconds of each loop's epochs, which alternate, after one warm-up epoch each."""
    epochs = {name: loop(workload) for name, loop in loops.items()}
    for epoch in epochs.values():
        epoch()
    seconds: Times = {name: [] for name in epochs}
    cpu_seconds: Times = {name: [] for name in epochs}
    for turn in range(repeats):
        for name in list(epochs)[:: -1 if turn % 2 else 1]:  # neither loop is always the first one
            started = cpu_time()
            seconds[name].append(workload.time_with_torch_defaults(epochs[name]))
            cpu_seconds[name].append(cpu_time() - started)
    return seconds, cpu_seconds


def cpu_time() -> float:
    """Return the CPU seconds of this process and its loader processes, which other programs hardly affect."""
    this = psutil.Process()
    return sum(sum(process.cpu_times()[:2]) for process in (this, *this.children()))


def median_ratio(times: Times) -> float:
    """Return the median over all turns of our time, divided by timm's."""
    return median(own / other for own, other in zip(times["ours"], times["timm"], strict=True))


def rows(workload: Workload, name: str, repeats: int) -> Iterator[str]:
    """Yield the lines of the table for one recipe."""
    kinds: dict[str, dict[str, Loop]] = {
        "loading": {"ours": our_loading, "timm": timm_loading},
        "training": {"ours": our_training, "timm": timm_training},
    }
    images = workload.steps * workload.recipe.batch_size
    for kind, loops in kinds.items():
        seconds, cpu_seconds = time_in_turn(workload, loops, repeats)
        speeds = " | ".join(f"{images / median(seconds[loop]):,.0f}" for loop in loops)
        ratios = f"{median_ratio(seconds):.3f} | {median_ratio(cpu_seconds):.3f}"
        yield f"| {name} | {workload.images.shape[1]} | {workload.workers} | {kind} | {speeds} | {ratios} |"


def resized(images: NDArray[np.uint8], pixels: int) -> NDArray[np.uint8]:
    """Return images of another size."""
    return np.stack([np.asarray(Image.fromarray(image).resize((pixels, pixels))) for image in images])


def main() -> None:
    """Print a table of all recipes."""
    restart_with_worker_environment()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder of CIFAR-100, as for `ablate run`")
    parser.add_argument("--images", type=int, default=2048, help="images per epoch of 32 pixels, fewer if larger")
    parser.add_argument("--pixels", type=int, nargs="+", default=[32], help="sizes of the images")
    parser.add_argument("--workers", type=int, nargs="+", default=[os.cpu_count() or 1], help="loader processes")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--spec", default="resnet8+width=0.25", help="the model of the training loops")
    options = parser.parse_args()
    data = BENCHMARKS["cifar100"].data
    train, _ = prepare_dataset(data, options.data).load(data, "test")
    chosen = torch.randperm(len(train), generator=torch.Generator().manual_seed(0))
    packages = ", ".join(f"{name} {number}" for name, number in versions().items())
    print(f"{device_name('cpu')}; {packages}; n = {options.repeats}, batch size {options.batch_size}\n")
    print("| augmentation | pixels | workers | measured | ours, img/s | timm, img/s | ours / timm | CPU, ours / timm |")
    print("|:--|--:|--:|:--|--:|--:|--:|--:|")
    for pixels in options.pixels:
        count = max(4 * options.batch_size, options.images * 32 // pixels)
        subset = train.take(chosen[:count].numpy())
        images = resized(subset.images, pixels)
        for workers in options.workers:
            for name, recipe in RECIPES.items():
                changed = replace(recipe, batch_size=options.batch_size)
                workload = Workload(options.spec, images, subset.labels, data.num_classes, changed, CPU, workers)
                for line in rows(workload, name, options.repeats):
                    print(line, flush=True)


if __name__ == "__main__":
    main()
