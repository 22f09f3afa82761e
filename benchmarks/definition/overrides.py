"""`RunConfig`: an architecture and its `TrainingOverrides`, the training settings that a row of a study may change.

`benchmarks.definition.config_parser` reads run configs from text; `str` writes them.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from typing import Literal

from arch.errors import InputError
from arch.spec import Architecture, Spec
from benchmarks.definition.distillation_methods import NUMBER_SETTINGS, DistillationMethod, number_settings
from benchmarks.definition.recipe import Recipe

TeacherStandIn = Literal["previous", "uniform"]  # a teacher that is not another network
PREVIOUS: TeacherStandIn = "previous"  # the student itself, one epoch ago
UNIFORM: TeacherStandIn = "uniform"  # equal probabilities for all classes: label smoothing
MAX_EPOCHS_FACTOR = 100


@dataclass(frozen=True)
class Distillation:
    """What a student learns from besides the labels. See `benchmarks.training.distillation`.

    Attributes:
        teacher: The teacher.
        temperature: T of both softmaxes. Like the other numbers, it has its default where the method does not use it.
        alpha: kd: the weight of the distillation loss; 1 - alpha is the weight of the labels. dkd: the weight of the
            target class.
        growing: Whether the weights grow linearly, from 1 / epochs of their values in the first epoch.
        hard: Whether the student learns the teacher's predicted class instead of its probabilities.
        method: kd: distillation by logits; dkd: decoupled distillation; at: attention transfer.
        beta: dkd: the weight of the other classes. at: the weight of the distance between attention maps.
        standardize: Whether the logits of both networks are replaced by their z-scores.
    """

    teacher: "RunConfig | TeacherStandIn"
    temperature: float = NUMBER_SETTINGS["kd"]["T"].default
    alpha: float = NUMBER_SETTINGS["kd"]["alpha"].default
    growing: bool = False
    hard: bool = False
    method: DistillationMethod = "kd"
    beta: float = 0.0
    standardize: bool = False

    def __str__(self) -> str:
        return self.text(self.teacher if isinstance(self.teacher, str) else f"({self.teacher})")

    def text(self, teacher: str) -> str:
        """Return the settings as text, with the given text for the teacher."""
        return "".join(f"@{setting}" for setting in (f"teacher={teacher}", *self.settings()))

    def settings(self) -> list[str]:
        """Return the settings of the loss that differ from the method's defaults, such as "T=2".

        T is always included for equal probabilities of all classes, where `config_parser` has another default.
        """
        defaults = number_settings(self.method, self.standardize)
        numbers = self.numbers()
        explicit = {"T"} if self.teacher == UNIFORM else set()
        changed = [name for name in numbers if numbers[name] != defaults[name].default or name in explicit]
        return [
            *([f"method={self.method}"] if self.method != "kd" else []),
            *(f"{name}={format_number(numbers[name])}" for name in changed),
            *(name for name in ("growing", "hard", "standardize") if getattr(self, name)),
        ]

    def numbers(self) -> dict[str, float]:
        """Return the numbers that the method uses, by their names in a config."""
        values = {"T": self.temperature, "alpha": self.alpha, "beta": self.beta}
        return {name: values[name] for name in number_settings(self.method, self.standardize)}


@dataclass(frozen=True)
class TrainingOverrides:
    """What a run changes besides the architecture. The defaults change nothing.

    Attributes:
        data_fraction: The fraction of each class's training images.
        epochs_factor: The recipe's epochs are multiplied by this factor; 0 uses a teacher's weights without training.
        initial_weights: The digest of the weights that training starts from; "" for random weights. In a plan whose
            weights are not resolved yet, their source.
        frozen_layers: The sorted names of the layers that are not trained.
        equal_updates: Whether to train for as many updates as on all images, and therefore for more epochs on a
            fraction of the images.
        distillation: The teacher and the distillation loss.
        is_drawn: Whether the run's seed draws the fraction of the images; otherwise it consists of the first ones in
            their fixed order.
        initial_run: The run, with the same seed, from whose final weights training starts; None for `initial_weights`.
    """

    data_fraction: Fraction = Fraction(1)
    epochs_factor: Fraction = Fraction(1)
    initial_weights: str = ""
    frozen_layers: tuple[str, ...] = ()
    equal_updates: bool = False
    distillation: Distillation | None = None
    is_drawn: bool = False
    initial_run: "RunConfig | None" = None

    def __str__(self) -> str:
        return self.text_without_teacher(str) + (str(self.distillation) if self.distillation else "")

    def text_without_teacher(self, name_run: "Callable[[RunConfig], str]") -> str:
        """Return the settings as text, except those of the distillation. `name_run` returns the name of a run."""
        initial = f"({name_run(self.initial_run)})" if self.initial_run else self.initial_weights
        text = f"@data={self.data_fraction}" if self.data_fraction != 1 else ""
        text += "@drawn" * self.is_drawn
        text += f"@epochs={self.epochs_factor}" if self.epochs_factor != 1 else ""
        text += "@updates" * self.equal_updates
        text += f"@init={initial}" if initial else ""
        return text + (f"@freeze={':'.join(self.frozen_layers)}" if self.frozen_layers else "")

    @property
    def teacher(self) -> "RunConfig | None":
        """The teacher if it is another network; else None."""
        if self.distillation is None or isinstance(self.distillation.teacher, str):
            return None
        return self.distillation.teacher

    @property
    def is_initialized(self) -> bool:
        """Whether training starts from given weights instead of random ones."""
        return bool(self.initial_weights) or self.initial_run is not None

    @property
    def from_scratch(self) -> "TrainingOverrides":
        """The same overrides without initial weights and frozen layers."""
        return replace(self, initial_weights="", initial_run=None, frozen_layers=())

    @property
    def needs_model_check(self) -> bool:
        """Whether external weights, layer names or the teacher's stages have to be compared with the model."""
        has_untrained_teacher = self.teacher is not None and not self.teacher.is_trained
        matches_stages = self.distillation is not None and self.distillation.method == "at"
        return bool(self.initial_weights or self.frozen_layers) or has_untrained_teacher or matches_stages

    def num_train_images(self, num_images: int, num_classes: int) -> int:
        """Return the number of images to train on, if all classes have the same number of images.

        Args:
            num_images: The number of available training images.
            num_classes: The number of classes.
        """
        if self.data_fraction == 1:
            return num_images
        return num_classes * max(1, round(self.data_fraction * Fraction(num_images, num_classes)))

    def adjust_recipe(self, recipe: Recipe, num_train_images: int = 0, num_images: int = 0) -> Recipe:
        """Return the recipe with this run's number of epochs and its schedule stretched; nothing else changes.

        Args:
            recipe: The benchmark's recipe.
            num_train_images: The number of images to train on. Both numbers matter only if `equal_updates` is set.
            num_images: The number of available training images.

        Raises:
            InputError: If equal updates would take more than `MAX_EPOCHS_FACTOR` times the epochs.
        """
        factor = self.epochs_factor
        if self.equal_updates:
            batches, all_batches = num_train_images // recipe.batch_size, num_images // recipe.batch_size
            factor *= Fraction(max(1, all_batches), max(1, batches))
        if factor > MAX_EPOCHS_FACTOR:
            raise InputError(
                f"@updates: equal updates on {num_train_images} images take {float(factor):g} times the epochs; the "
                f"limit is {MAX_EPOCHS_FACTOR}"
            )
        if factor == 1:
            return recipe
        epochs = max(1, round(recipe.epochs * factor))
        return recipe.with_epochs(epochs, factor)


NO_OVERRIDES = TrainingOverrides()


@dataclass(frozen=True)
class RunConfig:
    """What a run trains: an architecture and its overrides.

    Raises:
        InputError: If training starts from the weights of a run of another architecture.
    """

    spec: Spec
    overrides: TrainingOverrides = NO_OVERRIDES

    def __post_init__(self) -> None:
        initial_run = self.overrides.initial_run
        if initial_run and initial_run.architecture.key() != self.architecture.key():
            raise InputError(
                f"'@init=({initial_run})' is a run of another architecture than {self.spec}: name a run of the same "
                "architecture"
            )

    def __str__(self) -> str:
        return f"{self.spec}{self.overrides}"

    @property
    def architecture(self) -> Architecture:
        """The architecture that the spec describes."""
        return self.spec.architecture

    @cached_property
    def key(self) -> str:
        """The hash of what is trained. See `config_key`."""
        return config_key(self.architecture, self.overrides)

    @property
    def referenced(self) -> "tuple[RunConfig, ...]":
        """The configs that the overrides name: the run that training starts from, and the teacher."""
        return tuple(config for config in (self.overrides.initial_run, self.overrides.teacher) if config)

    @property
    def dependencies(self) -> "tuple[RunConfig, ...]":
        """The configs whose runs, with the same seed, must finish first, because their final weights are needed."""
        return tuple(config for config in self.referenced if config.is_trained)

    @property
    def architectures(self) -> "tuple[Architecture, ...]":
        """The architecture and those of the referenced configs, of the configs that these reference, and so on."""
        return self.architecture, *(other for config in self.referenced for other in config.architectures)

    @property
    def is_trained(self) -> bool:
        """False for a teacher whose weights are used without training."""
        return self.overrides.epochs_factor > 0

    @property
    def dependency_depth(self) -> int:
        """The number of training runs that must finish, one after another, before this one can start."""
        return max((1 + config.dependency_depth for config in self.dependencies), default=0)

    @property
    def nesting_depth(self) -> int:
        """The number of parentheses in the config that are nested in each other."""
        return max((1 + config.nesting_depth for config in self.referenced), default=0)


def config_key(architecture: Architecture, overrides: TrainingOverrides = NO_OVERRIDES) -> str:
    """Return a hash of an architecture and its training overrides, which is the same on every computer.

    Without overrides, it is the key of the architecture.
    """
    if overrides == NO_OVERRIDES:
        return architecture.key()
    text, distillation = overrides.text_without_teacher(lambda config: config.key), overrides.distillation
    if distillation:
        teacher = distillation.teacher
        text += distillation.text(teacher if isinstance(teacher, str) else teacher.key)
    return f"{architecture.key()}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def format_number(number: float) -> str:
    """Write a number as `config_parser.parse_number` expects it: without an exponent, and with up to 6 decimals."""
    return f"{number:.6f}".rstrip("0").removesuffix(".")
