"""`CheckRequest`: the input of a budget check, as plain data."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from arch.errors import InputError
from benchmarks.budget.profile import DeviceProfile
from benchmarks.definition.benchmark import Benchmark
from benchmarks.execution.progress import Report

HoursMode = Literal["measured", "predicted", "optional"]

MIN_CLASSES = 2
MIN_IMAGE_SIZE, MAX_IMAGE_SIZE = 4, 512  # pixels


@dataclass(frozen=True)
class FileOptions:
    """How the model of a Python file is built, as far as the user has decided it. The rest is found by trying.

    Attributes:
        classes: Number of classes, instead of the benchmark's.
        image_size: Pixels per side, instead of the benchmark's.
        output: Index or name of the logits in an output of several values; "" takes the first that fits.
        arguments: Arguments of the class or factory, each as "KEY=VALUE".

    Raises:
        InputError: If there are fewer than two classes, or the image size is out of range.
    """

    classes: int | None = None
    image_size: int | None = None
    output: str = ""
    arguments: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.classes is not None and self.classes < MIN_CLASSES:
            raise InputError(f"the number of classes must be at least {MIN_CLASSES}, not {self.classes}")
        if self.image_size is not None and not MIN_IMAGE_SIZE <= self.image_size <= MAX_IMAGE_SIZE:
            sizes = f"from {MIN_IMAGE_SIZE} to {MAX_IMAGE_SIZE} pixels"
            raise InputError(f"the image size must be {sizes}, not {self.image_size}")

    def adjust(self, benchmark: Benchmark) -> Benchmark:
        """Return the benchmark with the number of classes and the image size of these options."""
        data = benchmark.data
        size, classes = self.image_size or data.image_size, self.classes or data.num_classes
        return replace(benchmark, data=replace(data, image_size=size, num_classes=classes))

    def describe(self, benchmark: Benchmark) -> tuple[str, ...]:
        """Return how the images of these options differ from those of the benchmark, as phrases."""
        data, name = benchmark.data, benchmark.name
        classes = f"{self.classes} classes (--classes) instead of the {data.num_classes} of {name}"
        size = f"images of {self.image_size} px (--image-size) instead of the {data.image_size} px of {name}"
        return (*((classes,) if self.classes else ()), *((size,) if self.image_size else ()))


NO_FILE_OPTIONS = FileOptions()


def count_for_hours(
    benchmark: Benchmark, mode: HoursMode, root: Path | None, download: bool, report: Report
) -> tuple[int, int] | None:
    """Count the images for the hours of a check.

    Args:
        benchmark: The benchmark, whose budget may name a device.
        mode: Optional hours need the device of the budget, and images that are known or in `root`.
        root: The place of the images, if the user has given one.
        download: Whether to download missing images.
        report: Called with progress updates.

    Returns:
        The numbers of training and evaluation images; None if there will be no hours.

    Raises:
        InputError: If the images are missing or invalid.
    """
    from benchmarks.datasets.prepare import count_images

    if mode == "optional" and benchmark.budget.device is None:
        return None
    try:
        return count_images(benchmark.data, root, download, report)
    except InputError:
        if mode != "optional" or root is not None:
            raise
        return None


@dataclass(frozen=True)
class CheckRequest:
    """A model, and the benchmark and device that it is checked for.

    Attributes:
        model: The MODEL argument of the command, or any description of the model; the verdict repeats it.
        benchmark: Images, recipe and budget.
        device: "cpu", "cuda", "cuda:1"...
        image_counts: Numbers of training and evaluation images. None skips throughput and hours.
        profile: Profile of the device that the budget names, which the sandbox of a model file cannot read.
        hours: "measured" times the model here, and also predicts its hours on the device of the budget. "predicted"
            only predicts them. "optional" does so, too, but if they cannot be predicted, a note gives the reason.
        file_options: How the model of a Python file is built.
        weights: A weights file whose tensors must match those of the model; "" if there is none.
        layers: Whether to list the layers of the model.
        inference_batch: Images per batch to measure inference with, besides single images. 0 skips inference.

    Raises:
        InputError: If the training images do not fill one batch of the recipe.
    """

    model: str
    benchmark: Benchmark
    device: str
    image_counts: tuple[int, int] | None = None
    profile: DeviceProfile | None = None
    hours: HoursMode = "measured"
    file_options: FileOptions = NO_FILE_OPTIONS
    weights: str = ""
    layers: bool = False
    inference_batch: int = 0

    def __post_init__(self) -> None:
        if self.image_counts is not None:
            self.benchmark.recipe.require_full_batch(self.image_counts[0])
