"""Data-size studies: configs trained on increasingly large subsets of the training images.

    plan = "datasize(", fraction, { ",", fraction }, [ ",", "updates" ], ")", ":", config, { ",", config }

    datasize(1/16, 1/2, 1):resnet8,resnet20            the same number of epochs on every subset
    datasize(1/16, 1/2, 1, updates):resnet8,resnet20   the same number of updates: more epochs with fewer images

A subset consists of the first images of each class in their fixed order, so a smaller subset is contained in every
larger one, on every computer. Each config is trained on each subset separately, from its own initial weights.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Self, get_args

from ablation.plans.choices import EqualQuantity, InitialWeights
from ablation.plans.comparison import parse_configs
from ablation.plans.row import Row
from arch.errors import InputError, unknown
from benchmarks.definition.config_parser import read_overrides, split_outside_parentheses
from benchmarks.definition.overrides import RunConfig

EQUAL_QUANTITIES: tuple[EqualQuantity, ...] = get_args(EqualQuantity)
INITIAL_WEIGHTS: tuple[InitialWeights, ...] = get_args(InitialWeights)


@dataclass(frozen=True)
class DatasizeStudy:
    """Configs and the fractions of the training images that each of them is trained on.

    Attributes:
        configs: The configs, none of which may set a fraction itself.
        fractions: In ascending order.
        equal: What is the same on all fractions.
    """

    configs: tuple[RunConfig, ...]
    fractions: tuple[Fraction, ...]
    equal: EqualQuantity = "epochs"

    def __str__(self) -> str:
        arguments = [*map(str, self.fractions), *(["updates"] if self.equal == "updates" else [])]
        return f"datasize({','.join(arguments)}):{','.join(map(str, self.configs))}"

    def rows(self) -> list[Row]:
        """Return one row per config and fraction.

        A config is compared with the first config on the same fraction. A config with initial weights is compared with
        the same config from scratch, if there is one.

        Raises:
            InputError: If there are no configs or fractions, two configs are the same, or a config sets a fraction.
        """
        if not self.configs or not self.fractions:
            raise InputError(f"{str(self)!r} needs at least one fraction and one config: datasize(1/16,1/2,1):resnet8")
        if len({config.key for config in self.configs}) < len(self.configs):
            raise InputError(f"two configs of {str(self)!r} are the same: remove one of them")
        return [
            Row(
                f"{config} {fraction}",
                self._with_fraction(config, fraction),
                self._against(index, column),
                series=str(config),
            )
            for index, config in enumerate(self.configs)
            for column, fraction in enumerate(self.fractions)
        ]

    def with_configs(self, change: Callable[[RunConfig], RunConfig]) -> Self:
        """Return the study with every config replaced by `change(config)`."""
        return replace(self, configs=tuple(map(change, self.configs)))

    def _with_fraction(self, config: RunConfig, fraction: Fraction) -> RunConfig:
        overrides = config.overrides
        if overrides.data_fraction != 1:
            raise InputError(
                f"{config}: remove @data, the fractions of a data-size study are listed in its parentheses"
            )
        # On all images the updates are equal anyway, so the run is the same as in any other study.
        equal_updates = self.equal == "updates" and fraction < 1
        return RunConfig(config.spec, replace(overrides, data_fraction=fraction, equal_updates=equal_updates))

    def _against(self, index: int, column: int) -> tuple[tuple[int, int], ...]:
        """Return the reference of a config trained on a fraction of the images: see `Row.against`."""
        if index == 0:
            return ()
        config = self.configs[index]
        scratch = RunConfig(config.spec, replace(config.overrides, initial_weights="", frozen_layers=()))
        keys = [other.key for other in self.configs]
        reference = keys.index(scratch.key) if config.overrides.initial_weights and scratch.key in keys else 0
        return ((reference * len(self.fractions) + column, -1),)


def parse_datasize(text: str, arguments: Sequence[str], baseline: str) -> DatasizeStudy:
    """Parse a data-size study.

    Args:
        text: The configs, separated by commas.
        arguments: The arguments in parentheses: fractions and at most one quantity that is kept equal.
        baseline: The spec that the word `baseline` stands for.

    Raises:
        InputError: If a config or an argument is invalid.
    """
    equal = [word for word in arguments if word in EQUAL_QUANTITIES]
    if len(equal) > 1:
        raise InputError(f"datasize({','.join(arguments)}) keeps {' and '.join(equal)} equal: choose one of them")
    fractions = parse_fractions([word for word in arguments if word not in EQUAL_QUANTITIES])
    configs = parse_configs(split_outside_parentheses(text, ","), baseline)
    return DatasizeStudy(configs, fractions, equal[0] if equal else "epochs")


def parse_fractions(words: Sequence[str]) -> tuple[Fraction, ...]:
    """Parse fractions of the training images, and sort them. Raises InputError if one is invalid."""
    return tuple(sorted({read_overrides([f"data={word}"]).data_fraction for word in words}))


def with_initial_weights(configs: Sequence[RunConfig], initial: Sequence[str], source: str) -> tuple[RunConfig, ...]:
    """Return each config with each of the initial weights.

    Args:
        configs: The configs, which must not name initial weights themselves.
        initial: Elements of `INITIAL_WEIGHTS`. Repeated ones count once.
        source: The source of the weights that `imagenet` stands for: a file, `hub` or `hub:TAG`.

    Raises:
        InputError: If one of `initial` is unknown, or a config names its weights itself.
    """
    if invalid := [word for word in initial if word not in INITIAL_WEIGHTS]:
        raise unknown("--init", invalid[0], INITIAL_WEIGHTS)
    if "imagenet" in initial and (named := [config for config in configs if config.overrides.initial_weights]):
        raise InputError(f"{str(named[0])!r} already names initial weights: remove @init or --init imagenet")
    pretrained = [replace(c, overrides=replace(c.overrides, initial_weights=source)) for c in configs]
    by_word: dict[str, Sequence[RunConfig]] = {"scratch": configs, "imagenet": pretrained}
    return tuple(by_word[word][index] for index in range(len(configs)) for word in dict.fromkeys(initial))
