"""`Benchmark`: data, recipe, budget and baseline under one name.

Two results are comparable only if they come from the same benchmark, which its id identifies.
"""

import hashlib
import json
import math
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Le, Lt

from arch.errors import InputError
from benchmarks.definition.added_fields import ADDED, definition_of
from benchmarks.definition.recipe import Recipe, per_channel

PROTOCOL = 2  # increase whenever a change to the training code changes results

Share = Annotated[float, Gt(0), Lt(1)]
Split = Literal["test", "val"]  # what a model is evaluated on: "test" for tables, "val" to select models


@dataclass(frozen=True)
class DatasetConfig:
    """Which images a benchmark uses, and how many. The location of the files is not part of a benchmark."""

    source: str  # digits, cifar10, cifar100, folder (see --data), torchvision/NAME, hf (see --data) or hf/NAME
    num_classes: Annotated[int, Ge(2)]  # number of classes
    image_size: Annotated[int, Ge(4), Le(512)] = 32  # pixels per side; images of a different size are resized
    in_chans: Literal[1, 3] = 3  # channels of an image: 1 for gray, 3 for color
    train_per_class: Annotated[int, Ge(1)] | None = None  # keep this many images of each class; None: all
    test_per_class: Annotated[int, Ge(1)] | None = None  # the same for test images
    val_fraction: Share = 0.1  # fraction of the training images held out to select models
    test_fraction: Share | None = field(default=None, metadata=ADDED)  # held out for testing, without a test split
    image_column: str | None = field(default=None, metadata=ADDED)  # of a CSV file or hf; unset: found by name or type
    label_column: str | None = field(default=None, metadata=ADDED)  # the same for the labels

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of an image."""
        return self.in_chans, self.image_size, self.image_size

    def definition(self) -> dict[str, Any]:
        """Return the fields that define a benchmark: all except added ones that have their default (see `ADDED`)."""
        return definition_of(self)


@dataclass(frozen=True)
class Budget:
    """The limits on a model. A model that exceeds one of them is not trained."""

    max_params: Annotated[int, Gt(0)] = 30_000_000  # parameters, whether trained or not
    max_hours: Annotated[float, Gt(0)] = 2.0  # training and evaluation, on one device
    device: str | None = None  # name of the device profile by which hours are judged; unset: the device at hand


@dataclass(frozen=True)
class Benchmark:
    """Everything that two results must share to be comparable.

    Attributes:
        name: The name in tables and on the command line.
        data: The images.
        baseline: The spec that the word `baseline` stands for.
        recipe: The training hyperparameters.
        budget: The limits on a model.
        default_seeds: The number of seeds that `ablate run` uses by default.
        search_minutes: The duration of `search` without `--timeout` and `--trials`; None: no limit.
        plugins: Files with parts, bases, networks or data sources. See `arch.plugins`.
    """

    name: str
    data: DatasetConfig
    baseline: str
    recipe: Recipe = field(default_factory=Recipe)
    budget: Budget = field(default_factory=Budget)
    default_seeds: Annotated[int, Ge(1), Le(1000)] = 3
    search_minutes: Annotated[float, Gt(0)] | None = None
    plugins: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name, value in (("mean", self.recipe.mean), ("std", self.recipe.std)):
            values, channels = per_channel(value, self.data.in_chans), self.data.in_chans
            if len(values) != channels:
                raise ValueError(f"recipe.{name} must be one number, or one per channel ({channels}): {list(values)}")

    def bytes_on_device(self, image_counts: tuple[int, int]) -> int:
        """Return the memory of the images that training keeps on its device, in bytes.

        Args:
            image_counts: Numbers of training and evaluation images. Training images that are transformed one by one
                stay in the processes of a data loader.
        """
        train, evaluation = image_counts
        num_images = evaluation if self.recipe.transforms_images else train + evaluation
        return num_images * math.prod(self.data.input_shape)

    def definition(self, fingerprint: str, device: str, split: Split = "test") -> dict[str, Any]:
        """Return every field that affects results. The baseline, the budget, the plugins and defaults of commands do
        not.

        Args:
            fingerprint: The hash of the images.
            device: The type of the device ("cpu", "cuda"), which determines the precision.
            split: The split that models are evaluated on.
        """
        return {
            "protocol": PROTOCOL,
            "data": {**self.data.definition(), "fingerprint": fingerprint},
            "recipe": self.recipe.definition(),
            "device": device,
            "split": split,
        }


def identify(definition: dict[str, Any]) -> str:
    """Return the benchmark id: a hash of `Benchmark.definition`."""
    return hashlib.sha256(json.dumps(definition, sort_keys=True).encode()).hexdigest()[:12]


def with_world_size(benchmark: Benchmark, world_size: int | None) -> Benchmark:
    """Return the benchmark with a different number of devices; its results are not comparable with the original's.

    Args:
        benchmark: The original benchmark.
        world_size: The number of devices that share each batch; None returns the original.

    Raises:
        InputError: If the devices cannot share a batch equally.
    """
    if world_size is None:
        return benchmark
    try:
        return replace(benchmark, recipe=replace(benchmark.recipe, world_size=world_size))
    except ValueError as error:
        raise InputError(f"--world-size {world_size}: {error}") from error
