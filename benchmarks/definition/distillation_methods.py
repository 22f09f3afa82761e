"""The methods of knowledge distillation, and the names, defaults and ranges of their numbers.

Each method has the defaults of its paper's experiments on CIFAR-100. `benchmarks.training.distillation_losses` contains
the equations.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

DistillationMethod = Literal["kd", "dkd", "at"]

STANDARDIZED_TEMPERATURE = 2.0  # the default of T for standardized logits (Sun et al. 2024, arXiv:2403.01427)


@dataclass(frozen=True)
class NumberSetting:
    """The default of a number and the range of its valid values."""

    default: float
    minimum: float
    maximum: float


_TEMPERATURE = NumberSetting(4.0, 0.1, 100)

# method -> its numbers, by their names in a config
NUMBER_SETTINGS: Mapping[DistillationMethod, Mapping[str, NumberSetting]] = {
    "kd": {"T": _TEMPERATURE, "alpha": NumberSetting(0.9, 0.000001, 1)},
    "dkd": {"T": _TEMPERATURE, "alpha": NumberSetting(1.0, 0, 1000), "beta": NumberSetting(8.0, 0, 1000)},
    "at": {"beta": NumberSetting(1000.0, 0.000001, 100_000)},
}

METHOD_TITLES: Mapping[DistillationMethod, str] = {"kd": "KD", "dkd": "DKD", "at": "attention transfer"}


def number_settings(method: DistillationMethod, standardize: bool) -> Mapping[str, NumberSetting]:
    """Return the numbers of a method, by their names in a config.

    Args:
        method: The method.
        standardize: Whether logits are standardized, for which the default of T is another one.
    """
    settings = NUMBER_SETTINGS[method]
    if not standardize:
        return settings
    return {**settings, "T": replace(settings["T"], default=STANDARDIZED_TEMPERATURE)}
