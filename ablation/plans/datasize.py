"""Data-size studies: configs trained on increasingly large subsets of the training images.

    plan   = "datasize(", fraction, { ",", fraction }, { ",", option }, ")", ":", config, { ",", config }
    option = "updates" | "drawn" | "carried"

    datasize(1/16, 1/2, 1):resnet8,resnet20            the same number of epochs on every subset
    datasize(1/16, 1/2, 1, updates):resnet8,resnet20   the same number of updates: more epochs with fewer images
    datasize(1/16, 1/2, 1, drawn):resnet8              each seed draws its own subsets
    datasize(1/16, 1/2, 1, carried):resnet8            also continue from the weights of the next smaller subset

A subset consists of the first images of each class in their fixed order, or of those that the seed of the run draws
from each class. A smaller subset is contained in every larger one with the same seed, on every computer. Each config is
trained on each subset separately, from its own initial weights. With `carried`, a second series per config trains one
model on one subset after another, a mistake of some published studies, whose effect the comparison measures.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Self, get_args

from ablation.plans.choices import EqualQuantity, InitialWeights, Subsets
from ablation.plans.comparison import parse_configs
from ablation.plans.row import Row
from arch.errors import InputError, unknown
from benchmarks.definition.config_parser import MAX_NESTING_DEPTH, read_overrides, split_outside_parentheses
from benchmarks.definition.overrides import RunConfig

EQUAL_QUANTITIES: tuple[EqualQuantity, ...] = get_args(EqualQuantity)
SUBSETS: tuple[Subsets, ...] = get_args(Subsets)
CARRIED = "carried"
INITIAL_WEIGHTS: tuple[InitialWeights, ...] = get_args(InitialWeights)


@dataclass(frozen=True)
class DatasizeStudy:
    """Configs and the fractions of the training images that each of them is trained on.

    Attributes:
        configs: The configs, none of which may set a fraction itself.
        fractions: In ascending order.
        equal: What is the same on all fractions.
        subsets: Which images a fraction consists of.
        is_carried: Whether each config has a second series, which continues from the weights of the next smaller
            fraction.
    """

    configs: tuple[RunConfig, ...]
    fractions: tuple[Fraction, ...]
    equal: EqualQuantity = "epochs"
    subsets: Subsets = "fixed"
    is_carried: bool = False

    def __str__(self) -> str:
        options = {"updates": self.equal == "updates", "drawn": self.subsets == "drawn", CARRIED: self.is_carried}
        arguments = [*map(str, self.fractions), *(name for name, is_set in options.items() if is_set)]
        return f"datasize({','.join(arguments)}):{','.join(map(str, self.configs))}"

    def rows(self) -> list[Row]:
        """Return one row per config and fraction, then one per config and fraction that is carried over.

        A config is compared with the first config on the same fraction. A config with initial weights is compared with
        the same config from scratch, if there is one. A config that is carried over is compared with the same config
        trained separately. On the smallest fraction both are the same, so there is only one row.

        Raises:
            InputError: If there are no configs or fractions, two configs are the same, a config sets a fraction, or
                there are too few or too many fractions to carry weights over.
        """
        if not self.configs or not self.fractions:
            raise InputError(f"{str(self)!r} needs at least one fraction and one config: datasize(1/16,1/2,1):resnet8")
        if len({config.key for config in self.configs}) < len(self.configs):
            raise InputError(f"two configs of {str(self)!r} are the same: remove one of them")
        rows = [
            Row(
                f"{config} {_name(fraction)}",
                self._with_fraction(config, fraction),
                self._against(index, column),
                series=str(config),
            )
            for index, config in enumerate(self.configs)
            for column, fraction in enumerate(self.fractions)
        ]
        return [*rows, *(row for index in range(len(self.configs)) for row in self._carried_rows(index))]

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
        # The same holds for the images.
        return replace(
            config,
            overrides=replace(
                overrides,
                data_fraction=fraction,
                equal_updates=self.equal == "updates" and fraction < 1,
                is_drawn=self.subsets == "drawn" and fraction < 1,
            ),
        )

    def _carried_rows(self, index: int) -> list[Row]:
        """Return the rows of a config that continues from the weights of the next smaller fraction."""
        if not self.is_carried:
            return []
        if len(self.fractions) < 2:
            raise InputError(f"{str(self)!r} carries weights over, which needs at least two fractions")
        config, rows = self.configs[index], list[Row]()
        carried = self._with_fraction(config, self.fractions[0])
        for column, fraction in enumerate(self.fractions[1:], 1):
            larger = self._with_fraction(config, fraction)
            carried = replace(larger, overrides=replace(larger.overrides, initial_weights="", initial_run=carried))
            series, reference = f"{config} carried over", index * len(self.fractions) + column
            rows.append(Row(f"{series} {_name(fraction)}", carried, ((reference, -1),), "carried", series))
        if carried.nesting_depth > MAX_NESTING_DEPTH:
            raise InputError(
                f"{str(self)!r} carries weights over {carried.nesting_depth} times, and the limit is "
                f"{MAX_NESTING_DEPTH}: use fewer fractions"
            )
        return rows

    def _against(self, index: int, column: int) -> tuple[tuple[int, int], ...]:
        """Return the reference of a config trained on a fraction of the images: see `Row.against`."""
        if index == 0:
            return ()
        config = self.configs[index]
        scratch = replace(config, overrides=config.overrides.from_scratch)
        keys = [other.key for other in self.configs]
        reference = keys.index(scratch.key) if config.overrides.is_initialized and scratch.key in keys else 0
        return ((reference * len(self.fractions) + column, -1),)


def parse_datasize(text: str, arguments: Sequence[str], baseline: str) -> DatasizeStudy:
    """Parse a data-size study.

    Args:
        text: The configs, separated by commas.
        arguments: The arguments in parentheses: fractions, at most one quantity that is kept equal, at most one kind
            of subsets, and `carried`.
        baseline: The spec that the word `baseline` stands for.

    Raises:
        InputError: If a config or an argument is invalid.
    """
    equal = [word for word in EQUAL_QUANTITIES if word in arguments]
    subsets = [word for word in SUBSETS if word in arguments]
    for words in (equal, subsets):
        if len(words) > 1:
            raise InputError(f"datasize({','.join(arguments)}) has both {' and '.join(words)}: choose one of them")
    options = (*EQUAL_QUANTITIES, *SUBSETS, CARRIED)
    return DatasizeStudy(
        configs=parse_configs(split_outside_parentheses(text, ","), baseline),
        fractions=parse_fractions([word for word in arguments if word not in options]),
        equal=equal[0] if equal else "epochs",
        subsets=subsets[0] if subsets else "fixed",
        is_carried=CARRIED in arguments,
    )


def _name(fraction: Fraction) -> str:
    return "all" if fraction == 1 else str(fraction)


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
    if "imagenet" in initial and (named := [config for config in configs if config.overrides.is_initialized]):
        raise InputError(f"{str(named[0])!r} already names initial weights: remove @init or --init imagenet")
    pretrained = [replace(c, overrides=replace(c.overrides, initial_weights=source)) for c in configs]
    by_word: dict[str, Sequence[RunConfig]] = {"scratch": configs, "imagenet": pretrained}
    return tuple(by_word[word][index] for index in range(len(configs)) for word in dict.fromkeys(initial))
