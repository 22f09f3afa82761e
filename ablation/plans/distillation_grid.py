"""Grids of settings of the distillation loss, from which one is chosen on the validation split.

    plan   = "distill-grid", [ "(", argument, { ",", argument }, ")" ], ":", teacher, ">", student
    argument = method=METHOD | T=VALUES | alpha=VALUES | beta=VALUES | growing | hard | standardize
    VALUES = number, { ":", number }

The rows are the student alone, and the student distilled with each combination of the numbers.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from math import prod
from typing import Self

from ablation.plans.distill import check_networks, group_arguments, parse_pair, read_loss, with_teacher
from ablation.plans.row import Row
from arch.errors import InputError
from benchmarks.definition.config_parser import NUMBER_NAMES, TEACHER_SETTINGS
from benchmarks.definition.overrides import Distillation, RunConfig, format_number

MAX_SETTINGS = 100

# The values of the numbers that are not given, by method. Other numbers have the default of the method.
# kd: Hinton et al. 2015 (arXiv:1503.02531, section 4) try T = 1, 2, 5, 10 with a weight of 0.5; 0.9 is the default.
# dkd: Zhao et al. 2022 (arXiv:2203.08679) tune beta from 1 to 8.
# at: values around the one of the authors' code, 1000.
DEFAULT_VALUES: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "kd": {"T": ("1", "2", "4", "8"), "alpha": ("0.5", "0.9")},
    "dkd": {"beta": ("1", "2", "4", "8")},
    "at": {"beta": ("100", "300", "1000", "3000")},
}


@dataclass(frozen=True)
class DistillationGrid:
    """A teacher, a student, and the distillation losses to choose from.

    Attributes:
        teacher: The teacher.
        student: The student.
        losses: The losses, which have the same method and flags, sorted by their numbers. Their teacher is a
            placeholder.
    """

    teacher: RunConfig
    student: RunConfig
    losses: tuple[Distillation, ...]

    def __str__(self) -> str:
        first, numbers = self.losses[0], [effective_numbers(loss) for loss in self.losses]
        values = {name: dict.fromkeys(setting[name] for setting in numbers) for name in numbers[0]}
        arguments = [
            *([f"method={first.method}"] if first.method != "kd" else []),
            *(f"{name}={':'.join(texts)}" for name, texts in values.items()),
            *(name for name in ("growing", "hard", "standardize") if getattr(first, name)),
        ]
        return f"distill-grid({','.join(arguments)}):{self.teacher}>{self.student}"

    def rows(self) -> list[Row]:
        """Return the student alone, and the student distilled with each loss, which is compared with the former."""
        return [
            Row(str(self.student), self.student),
            *(
                Row(setting_label(loss), with_teacher(self.student, self.teacher, loss), ((0, -1),))
                for loss in self.losses
            ),
        ]

    def with_configs(self, change: Callable[[RunConfig], RunConfig]) -> Self:
        """Return the grid with both networks replaced by `change(config)`."""
        return replace(self, teacher=change(self.teacher), student=change(self.student))


def setting_label(loss: Distillation) -> str:
    """Return the numbers of a loss, such as "T=4, alpha=0.9"."""
    return ", ".join(f"{name}={number}" for name, number in effective_numbers(loss).items())


def effective_numbers(loss: Distillation) -> dict[str, str]:
    """Return the numbers that have an effect, by their names in a config."""
    return {name: format_number(number) for name, number in loss.numbers().items() if name != "T" or not loss.hard}


def parse_grid(text: str, arguments: Sequence[str], baseline: str) -> DistillationGrid:
    """Parse a grid. For the arguments, see `ablation.plans.distill.parse_distillation`.

    Raises:
        InputError: If the text or an argument is invalid.
    """
    return make_grid(*parse_pair(text, "distill-grid", baseline), arguments)


def make_grid(teacher: RunConfig, student: RunConfig, arguments: Sequence[str]) -> DistillationGrid:
    """Return the grid of two networks.

    Args:
        teacher: The teacher.
        student: The student.
        arguments: The arguments in the parentheses of the plan.

    Raises:
        InputError: If an argument is invalid, or the grid has fewer than 2 or more than 100 settings.
    """
    check_networks(teacher, student)
    by_name = group_arguments("distill-grid", arguments, TEACHER_SETTINGS)
    method = by_name.get("method", "method=kd").partition("=")[2]
    axes = {
        name: values for name, values in DEFAULT_VALUES.get(method, {}).items() if "hard" not in by_name or name != "T"
    }
    axes |= {name: tuple(by_name.pop(name).partition("=")[2].split(":")) for name in NUMBER_NAMES if name in by_name}
    if (count := prod(map(len, axes.values()))) > MAX_SETTINGS:
        raise InputError(f"the grid has {count:,} settings; the maximum is {MAX_SETTINGS}: give fewer values")
    settings = [
        [f"{name}={value}" for name, value in zip(axes, values, strict=True)] for values in product(*axes.values())
    ]
    losses = {read_loss([*by_name.values(), *numbers]) for numbers in settings}
    if len(losses) == 1:
        raise InputError(f"the grid has one setting, {setting_label(*losses)}: give several values to choose from")
    return DistillationGrid(
        teacher, student, tuple(sorted(losses, key=lambda loss: (loss.temperature, loss.alpha, loss.beta)))
    )
