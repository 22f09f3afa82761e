"""`Benchmark`: data + recipe + budget + baseline under one name; the built-in ones; the TOML loader.

A number can be compared with another only inside one benchmark, as its id says. Knows no torch.
"""

import hashlib
import json
import tomllib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from annotated_types import Ge, Gt, Le, Lt

from arch.errors import InputError, unknown
from arch.spec import parse
from benchmarks.definition.names import check_path, is_identifier
from benchmarks.definition.recipe import Recipe

if TYPE_CHECKING:
    from pydantic import TypeAdapter

PROTOCOL = 2  # raised whenever a change to the training code changes its numbers

Split = Literal["test", "val"]  # what a model is evaluated on: test for tables, val for whatever selects


@dataclass(frozen=True)
class DatasetConfig:
    """Which images, and how many of them. Where they lie is not part of a benchmark."""

    source: Literal["digits", "cifar10", "cifar100", "folder"]
    num_classes: Annotated[int, Ge(2)]
    image_size: Annotated[int, Ge(4), Le(512)] = 32  # pixels each side; other sizes are resized
    in_chans: Literal[1, 3] = 3
    train_per_class: Annotated[int, Ge(1)] | None = None  # keep this many images of each class; None: all
    test_per_class: Annotated[int, Ge(1)] | None = None
    val_fraction: Annotated[float, Gt(0), Lt(1)] = 0.1  # of each class's training images, held out for selection

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of one image."""
        return self.in_chans, self.image_size, self.image_size


@dataclass(frozen=True)
class Budget:
    """What a model may cost: under both limits, or it is not trained."""

    max_params: Annotated[int, Gt(0)] = 30_000_000
    max_hours: Annotated[float, Gt(0)] = 2.0  # training on one device, evaluation included


@dataclass(frozen=True)
class Benchmark:
    """Everything that makes two numbers comparable."""

    name: str
    data: DatasetConfig
    baseline: str  # a spec: what the word `baseline` stands for
    recipe: Recipe = field(default_factory=Recipe)
    budget: Budget = field(default_factory=Budget)

    def definition(self, fingerprint: str, device: str, split: Split = "test") -> dict[str, Any]:
        """Every field that changes a number, as readable data. Budget and baseline change none.

        fingerprint: hash of the images themselves. device: its type ("cpu", "cuda"), which sets the precision.
        """
        return {
            "protocol": PROTOCOL,
            "data": {**asdict(self.data), "fingerprint": fingerprint},
            "recipe": asdict(self.recipe),
            "device": device,
            "split": split,
        }


def identify(definition: dict[str, Any]) -> str:
    """The benchmark id: a hash of `Benchmark.definition`."""
    return hashlib.sha256(json.dumps(definition, sort_keys=True).encode()).hexdigest()[:12]


# Of the courses that train `wide_cnn` (86.7% on CIFAR-10 in 20 epochs, 43.7% on Tiny ImageNet in 10) and a deep narrow
# residual net (83.9%). They say batch, learning rate and momentum; no schedule, decay, crop or flip, so here are none.
COURSE = Recipe(
    epochs=20,
    batch_size=256,
    lr=0.01,
    momentum=0.9,
    nesterov=False,
    weight_decay=0.0,
    warmup_epochs=0,
    min_lr=0.01,  # the cosine ends where it starts: the learning rate is constant
    label_smoothing=0.0,
    crop_padding=0,
    flip=0.0,
)

BENCHMARKS: dict[str, Benchmark] = {
    benchmark.name: benchmark
    for benchmark in (
        Benchmark("cifar100", DatasetConfig("cifar100", 100), baseline="resnet50"),
        Benchmark(
            "cifar10",
            DatasetConfig("cifar10", 10),
            baseline="wide_cnn",
            recipe=COURSE,
        ),
        Benchmark(
            "tinyimagenet",  # 200 classes at 64 px, 100,000 images to train on; its val/ has the 10,000 to test on
            DatasetConfig("folder", 200, image_size=64),
            baseline="wide_cnn",
            recipe=replace(COURSE, epochs=10),
        ),
        Benchmark(
            "cifar100_small",  # real images at a CPU's pace: 10,000 to train on, a few minutes a run
            DatasetConfig("cifar100", 100, train_per_class=100, test_per_class=20),
            baseline="resnet8",
            recipe=Recipe(epochs=15, batch_size=128, lr=0.2, weight_decay=5e-4, warmup_epochs=1, label_smoothing=0.0),
            budget=Budget(max_params=1_000_000, max_hours=0.5),
        ),
        Benchmark(
            "digits",  # scikit-learn's 8x8 handwritten digits: 1,297 to train on, 500 to test
            DatasetConfig("digits", 10, image_size=8, in_chans=1, test_per_class=50),
            baseline="resnet8",
            recipe=Recipe(epochs=40, batch_size=64, lr=0.1, warmup_epochs=2, crop_padding=1, flip=0.0),
            budget=Budget(max_params=200_000, max_hours=0.25),
        ),
    )
}


def get_benchmark(name: str) -> Benchmark:
    """A built-in benchmark by name, or a user's own from a .toml file. Raises InputError."""
    if name.endswith(".toml"):
        return load_benchmark(Path(name))
    if name not in BENCHMARKS:
        raise unknown("benchmark", name, BENCHMARKS, " (or a .toml file)")
    return BENCHMARKS[name]


def with_world_size(benchmark: Benchmark, world_size: int | None) -> Benchmark:
    """The same on another number of devices, whose numbers are not comparable. Raises InputError."""
    if world_size is None:
        return benchmark
    try:
        return replace(benchmark, recipe=replace(benchmark.recipe, world_size=world_size))
    except ValueError as error:
        raise InputError(f"--world-size {world_size}: {error}") from error


def strict_adapter(whole: type, *sections: type) -> "TypeAdapter[Any]":
    """pydantic's reader of a dataclass and of those in it: no unknown key, no other type, no infinity."""
    from pydantic import ConfigDict, TypeAdapter

    for section in (whole, *sections):
        setattr(section, "__pydantic_config__", ConfigDict(extra="forbid", strict=True, allow_inf_nan=False))  # noqa: B010  # for mypy
    return TypeAdapter(whole)


def load_benchmark(path: Path) -> Benchmark:
    """Reads a benchmark from TOML: `name`, `baseline`, [data], and where they differ from `cifar100`
    [recipe] and [budget]. Raises InputError naming the key that is wrong and those that are valid.
    """
    from pydantic import ValidationError

    check_path("--benchmark", path)
    try:
        content = tomllib.loads(path.read_text())
    except OSError as error:
        raise InputError(f"cannot read benchmark {path}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:  # ValueError: TOML, UTF-8, or a number of thousands of digits
        raise InputError(f"{path} is not TOML: {error}") from error
    try:
        benchmark: Benchmark = strict_adapter(Benchmark, DatasetConfig, Recipe, Budget).validate_json(
            json.dumps(content, default=str)
        )
    except ValidationError as error:
        raise InputError(f"{path}: {_worst_problem(error.errors())}") from error
    if benchmark.name in BENCHMARKS or not is_identifier(benchmark.name):
        shown = repr(benchmark.name[:60])
        raise InputError(f"{path}: name {shown} must be up to 40 letters, digits and _, no built-in's and no device's")
    try:
        parse(benchmark.baseline)
    except InputError as error:
        raise InputError(f"{path}: baseline: {error}") from error
    return benchmark


UNKNOWN_KEY = ("unexpected_keyword_argument", "extra_forbidden")


def _worst_problem(problems: Sequence[Any]) -> str:
    """One line for pydantic's errors: an unknown key before others, which it may explain, with the valid ones."""
    problem = next((problem for problem in problems if problem["type"] in UNKNOWN_KEY), problems[0])
    *sections, key = [str(word) for word in problem["loc"]] or ["file"]
    if problem["type"] in UNKNOWN_KEY:
        holders: dict[str, type] = {"data": DatasetConfig, "recipe": Recipe, "budget": Budget}
        holder: Any = holders.get(sections[0] if sections else "", Benchmark)
        place = f" in [{'.'.join(sections)}]" if sections else ""
        return str(unknown("key", key, [f.name for f in fields(holder)], place))
    return f"{'.'.join([*sections, key])}: {problem['msg'].removeprefix('Value error, ')}"
