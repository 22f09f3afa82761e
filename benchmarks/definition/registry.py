"""The built-in benchmarks, and the loader of benchmarks in TOML files."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from arch.errors import InputError, unknown
from arch.plugins import load_plugins
from arch.spec import parse
from benchmarks.definition.benchmark import Benchmark, Budget, DatasetConfig
from benchmarks.definition.data_sources import check_source
from benchmarks.definition.names import check_path, is_identifier
from benchmarks.definition.recipe import Recipe, per_channel
from benchmarks.definition.toml_file import read_toml
from benchmarks.definition.validation import describe_problems, strict_adapter

# The recipe of a course that trains `wide_cnn` (86.7%) and a deep, narrow residual network (83.9%) on CIFAR-10.
COURSE_RECIPE = Recipe(
    epochs=20,
    batch_size=256,
    lr=0.01,
    momentum=0.9,
    nesterov=False,
    weight_decay=0.0,
    warmup_epochs=0,
    min_lr=0.01,  # equal to `lr`, so that the cosine schedule is constant
    label_smoothing=0.0,
    crop_padding=4,
    flip=0.5,
)

# The recipe of the same course for Tiny ImageNet (43.7%). Its ColorJitter() with default arguments changes nothing.
TINY_IMAGENET_RECIPE = replace(COURSE_RECIPE, epochs=10, weight_decay=5e-4, crop_padding=0, rotation=30.0)

# The recipe of a course that trains ResNet-18 and ResNet-50 on 1/16, 1/2 and all images of CIFAR-10.
ADAM_RECIPE = Recipe(
    epochs=5,
    batch_size=256,
    optimizer="adam",
    lr=1e-3,
    schedule="constant",
    weight_decay=0.0,
    warmup_epochs=0,
    label_smoothing=0.0,
    crop_padding=0,
    flip=0.0,
)

GPU_BUDGET = Budget(device="rtx3090")  # two hours on this GPU, whatever the computer at hand has

BENCHMARKS: dict[str, Benchmark] = {
    benchmark.name: benchmark
    for benchmark in (
        Benchmark("cifar100", DatasetConfig("cifar100", 100), baseline="resnet50", budget=GPU_BUDGET),
        Benchmark(
            "cifar10",
            DatasetConfig("cifar10", 10),
            baseline="wide_cnn",
            recipe=COURSE_RECIPE,
            budget=GPU_BUDGET,
        ),
        Benchmark(
            "cifar10_adam",  # a course on data size: ResNet-18 and ResNet-50 with the stem for large images, as in timm
            DatasetConfig("cifar10", 10),
            baseline="timm/resnet18",
            recipe=ADAM_RECIPE,
            budget=GPU_BUDGET,
        ),
        Benchmark(
            "tinyimagenet",  # 200 classes, 64 pixels; 100,000 training and 10,000 test images (from its val/)
            DatasetConfig("folder", 200, image_size=64),
            baseline="wide_cnn",
            recipe=TINY_IMAGENET_RECIPE,
            budget=GPU_BUDGET,
        ),
        Benchmark(
            "cifar100_small",  # real images that a CPU can train on: 10,000 training images, a few minutes per run
            DatasetConfig("cifar100", 100, train_per_class=100, test_per_class=20),
            baseline="resnet8",
            recipe=Recipe(epochs=15, batch_size=128, lr=0.2, weight_decay=5e-4, warmup_epochs=1, label_smoothing=0.0),
            budget=Budget(max_params=1_000_000, max_hours=0.5),
        ),
        Benchmark(
            "digits",  # 8x8 digits: 200 training images, so few that accuracy differs between steps; 500 test images
            DatasetConfig(
                "digits", 10, image_size=8, in_chans=1, train_per_class=20, test_per_class=50, val_fraction=0.5
            ),
            baseline="resnet8",
            recipe=Recipe(epochs=30, batch_size=20, lr=0.05, warmup_epochs=2, crop_padding=0, flip=0.0),
            budget=Budget(max_params=200_000, max_hours=0.25),
            default_seeds=6,  # with 2 steps, significance needs at least 5 seeds (unpaired test, Holm correction)
            search_minutes=4.0,
        ),
    )
}


def get_benchmark(name: str) -> Benchmark:
    """Return a built-in benchmark by name, or load a benchmark from a .toml file.

    Raises:
        InputError: If the name is unknown, or the file is invalid.
    """
    if name.endswith(".toml"):
        return load_benchmark(Path(name))
    if name not in BENCHMARKS:
        raise unknown("benchmark", name, BENCHMARKS, " (or a .toml file)")
    return BENCHMARKS[name]


def load_benchmark(path: Path) -> Benchmark:
    """Load a benchmark from a TOML file.

    The file contains `name`, `baseline` and [data], and optionally `default_seeds`, `search_minutes`, `plugins` (paths
    relative to the file, whose code runs in this process), and [recipe] and [budget] with the values that differ from
    `cifar100`.

    Raises:
        InputError: If the file cannot be read or is invalid. The message names the invalid key and the valid keys.
    """
    check_path("--benchmark", path)
    try:
        content = read_toml(path)
    except OSError as error:
        raise InputError(f"cannot read benchmark {path}: {error.strerror or error}") from error
    except ValueError as error:  # invalid TOML or UTF-8, or a number with thousands of digits
        raise InputError(f"{path} is not TOML: {error}") from error
    return validate_benchmark(content, path)


def validate_benchmark(content: dict[str, Any], path: Path) -> Benchmark:
    """Return the benchmark that the content of a file defines.

    Args:
        content: The content of a TOML file.
        path: The file, for error messages.

    Raises:
        InputError: If a key or a value is invalid.
    """
    from pydantic import ValidationError

    sections = {"data": DatasetConfig, "recipe": Recipe, "budget": Budget}
    try:
        adapter = strict_adapter(Benchmark, *sections.values())
        benchmark: Benchmark = adapter.validate_json(json.dumps(content, default=str))
    except ValidationError as error:
        raise InputError(f"{path}: {describe_problems(error.errors(), Benchmark, sections, content)}") from error
    try:
        load_plugins(path.parent / plugin for plugin in benchmark.plugins)
        _check_values(benchmark)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    return benchmark


def _check_values(benchmark: Benchmark) -> None:
    """Raise InputError if a value in a file is unusable. Recorded benchmarks, which stay readable, are not checked."""
    if benchmark.name in BENCHMARKS or not is_identifier(benchmark.name):
        raise InputError(
            f"name {benchmark.name[:60]!r} must have up to 40 letters, digits and _, and be neither a built-in "
            "benchmark nor a device on Windows"
        )
    check_source(benchmark.data.source)
    mean, std = (max(per_channel(value, 1)) for value in (benchmark.recipe.mean, benchmark.recipe.std))
    if mean > 1 or std > 1:
        raise InputError(f"recipe: mean ({mean:g}) and std ({std:g}) are for pixels from 0 to 1: divide by 255")
    try:
        parse(benchmark.baseline)
    except InputError as error:
        raise InputError(f"baseline: {error}") from error
