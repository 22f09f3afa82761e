"""Distillation studies: a teacher and a student, compared with training alone and with controls.

    plan     = "distill", [ "(", argument, { ",", argument }, ")" ], ":", teacher, ">", student
    argument = method=METHOD | T=TEMPERATURE | alpha=WEIGHT | beta=WEIGHT | growing | hard | standardize
             | smooth=SHARE | compare-methods | progressive | no-controls

The arguments of the first line set the distillation loss; see `benchmarks.definition.config_parser`.

Known pairs on CIFAR-100 with T = 4 and alpha = 0.9 (Tian et al. 2020, arXiv:1910.10699): resnet56 to resnet20 improves
top-1 from 69.06 to 70.66, wrn40-2 to wrn16-2 from 73.26 to 74.92. Distillation from student to teacher, and from a
network to itself: Yuan et al. 2020, arXiv:1909.11723.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Self

from ablation.plans.row import Row
from arch.errors import InputError, unknown
from benchmarks.definition.config_parser import (
    TEACHER_SETTINGS,
    parse_number,
    read_overrides,
    read_run_config,
    split_outside_parentheses,
)
from benchmarks.definition.overrides import (
    MAX_EPOCHS_FACTOR,
    PREVIOUS,
    UNIFORM,
    Distillation,
    RunConfig,
    TeacherStandIn,
    format_number,
)

DEFAULT_SMOOTHING = 0.1  # label smoothing of the control, in addition to the recipe's
# alpha in the last epoch of progressive self-distillation (Kim et al. 2021, arXiv:2006.12000)
SELF_DISTILLATION_ALPHA = 0.8
MAX_EPOCHS_DENOMINATOR = 9_999_999  # larger denominators cannot be parsed again
FLAGS = ("compare-methods", "progressive", "no-controls")
ARGUMENTS = (*TEACHER_SETTINGS, "smooth", *FLAGS)
METHOD_SETTINGS = {"kd": "method=kd", "standardize": "standardize", "dkd": "method=dkd", "at": "method=at"}


@dataclass(frozen=True)
class DistillationSettings:
    """The settings of a distillation study.

    Attributes:
        loss: The distillation loss of the distilled rows; its teacher is a placeholder.
        smoothing: The label smoothing of the control.
        progressive: Whether there is a row in which the student learns from itself one epoch ago.
        controls: Whether there are controls: a student with label smoothing, and a student trained for longer.
        compare_methods: Whether there are rows in which the student learns by each of the other methods, with their
            default numbers.
    """

    loss: Distillation = Distillation(PREVIOUS)  # noqa: RUF009  # Distillation is frozen
    smoothing: float = DEFAULT_SMOOTHING
    progressive: bool = False
    controls: bool = True
    compare_methods: bool = False

    def arguments(self) -> list[str]:
        """Return the arguments in the parentheses of the plan: the settings that differ from the defaults."""
        return [
            *self.loss.settings(),
            *([f"smooth={format_number(self.smoothing)}"] if self.smoothing != DEFAULT_SMOOTHING else []),
            *(["compare-methods"] if self.compare_methods else []),
            *(["progressive"] if self.progressive else []),
            *([] if self.controls else ["no-controls"]),
        ]


@dataclass(frozen=True)
class DistillationStudy:
    """A teacher, a student and the settings of their distillation."""

    teacher: RunConfig
    student: RunConfig
    settings: DistillationSettings = DistillationSettings()

    def __str__(self) -> str:
        arguments = self.settings.arguments()
        parentheses = f"({','.join(arguments)})" if arguments else ""
        return f"distill{parentheses}:{self.teacher}>{self.student}"

    def rows(self) -> list[Row]:
        """Return the rows: both networks alone, the distilled student, controls, and distillation in other directions.

        A distilled network is compared with the same network trained alone, a control with the distilled student.

        Raises:
            InputError: If the control with the epochs of both networks would need too many epochs.
        """
        teacher, student, loss = self.teacher, self.student, self.settings.loss
        alone = teacher if teacher.is_trained else RunConfig(teacher.spec)
        distilled = with_teacher(student, teacher, loss)
        is_self_distillation = alone.key == student.key
        rows = [Row(str(student), student)]
        if not is_self_distillation:
            rows.append(Row(str(alone), alone))
        rows.append(Row(f"{self._teacher_label(alone)} → {student}", distilled, ((0, -1),)))
        if self.settings.controls:
            rows += self._controls(alone, distilled_row=len(rows) - 1)
        if self.settings.compare_methods:
            rows += self._other_methods(alone)
        rows.append(
            Row(
                f"{self._teacher_label(alone)} → {student} → {student}",
                with_teacher(student, distilled, loss),
                ((0, -1),),
            )
        )
        if not is_self_distillation:
            rows.append(Row(f"{student} → {alone}", with_teacher(alone, student, loss), ((1, -1),)))
        if self.settings.progressive:
            self_distillation = Distillation(PREVIOUS, 1.0, SELF_DISTILLATION_ALPHA, growing=True)
            rows.append(Row(f"{student} → itself", with_teacher(student, PREVIOUS, self_distillation), ((0, -1),)))
        return rows

    def with_configs(self, change: Callable[[RunConfig], RunConfig]) -> Self:
        """Return the study with both configs replaced by `change(config)`."""
        return replace(self, teacher=change(self.teacher), student=change(self.student))

    def _teacher_label(self, alone: RunConfig) -> str:
        if self.teacher.is_trained:
            return str(alone)
        return f"{alone} of {self.teacher.overrides.initial_weights}"

    def _other_methods(self, alone: RunConfig) -> list[Row]:
        """Return the student with the teacher and each of the other methods, with their default numbers."""
        own = self.settings.loss
        losses = {name: read_loss([setting]) for name, setting in METHOD_SETTINGS.items()}
        return [
            Row(
                f"{self._teacher_label(alone)} → {self.student} ({name})",
                with_teacher(self.student, self.teacher, loss),
                ((0, -1),),
            )
            for name, loss in losses.items()
            if (loss.method, loss.standardize, loss.hard) != (own.method, own.standardize, own.hard)
        ]

    def _controls(self, alone: RunConfig, distilled_row: int) -> list[Row]:
        """Return the controls that a teacher has to beat: label smoothing, and the epochs that both networks need."""
        student, smoothing = self.student, self.settings.smoothing
        epochs = (student.overrides.epochs_factor + alone.overrides.epochs_factor).limit_denominator(
            MAX_EPOCHS_DENOMINATOR
        )
        if epochs > MAX_EPOCHS_FACTOR:
            raise InputError(
                f"the control with the epochs of teacher and student together needs {epochs} times the recipe's "
                f"epochs; the maximum is {MAX_EPOCHS_FACTOR}: use a smaller @epochs"
            )
        smoothed = with_teacher(student, UNIFORM, Distillation(UNIFORM, 1.0, smoothing))
        longer = RunConfig(student.spec, replace(student.overrides, epochs_factor=epochs))
        against = ((distilled_row, -1),)
        return [
            Row(f"~smooth={format_number(smoothing)}", smoothed, against, kind="alternative"),
            Row(f"~epochs={epochs}", longer, against, kind="alternative"),
        ]


def with_teacher(config: RunConfig, teacher: RunConfig | TeacherStandIn, loss: Distillation) -> RunConfig:
    """Return the config of a network that also learns from a teacher."""
    return RunConfig(config.spec, replace(config.overrides, distillation=replace(loss, teacher=teacher)))


def parse_distillation(text: str, arguments: Sequence[str], baseline: str) -> DistillationStudy:
    """Parse a distillation study.

    Args:
        text: The teacher and the student, separated by `>`.
        arguments: The arguments in parentheses.
        baseline: The spec that the word `baseline` stands for.

    Raises:
        InputError: If the text or an argument is invalid.
    """
    return make_study(*parse_pair(text, "distill", baseline), parse_settings(arguments))


def parse_pair(text: str, kind: str, baseline: str) -> tuple[RunConfig, RunConfig]:
    """Parse the teacher and the student of a plan of this kind. Raises InputError if the text is invalid."""
    words = split_outside_parentheses(text, ">")
    if len(words) != 2:
        raise InputError(f"{f'{kind}:{text}'!r} is not {kind}:TEACHER>STUDENT (quote it: > is special to the shell)")
    teacher, student = (parse_network(word.strip(), baseline) for word in words)
    return teacher, student


def parse_network(text: str, baseline: str) -> RunConfig:
    """Parse one of the two networks. Both are parsed like a teacher, whose weights may be used without training."""
    return read_run_config(text, baseline, depth=1, allow_sources=True)


def make_study(teacher: RunConfig, student: RunConfig, settings: DistillationSettings) -> DistillationStudy:
    """Return the study. Raises InputError if the networks are invalid: see `check_networks`."""
    check_networks(teacher, student)
    return DistillationStudy(teacher, student, settings)


def check_networks(teacher: RunConfig, student: RunConfig) -> None:
    """Raise InputError if one of the networks has a teacher or the student is not trained."""
    for config in (teacher, student):
        if config.overrides.distillation:
            raise InputError(f"{str(config)!r} already has a teacher: a distillation study trains both networks alone")
    if not student.is_trained:
        raise InputError(f"the student {str(student)!r} is not trained: remove @epochs=0")


def parse_settings(arguments: Sequence[str]) -> DistillationSettings:
    """Parse the arguments in the parentheses of the plan. Raises InputError if one is invalid."""
    by_name = group_arguments("distill", arguments, ARGUMENTS)
    flags = {name: by_name.pop(name) for name in FLAGS if name in by_name}
    for name, argument in flags.items():
        if argument != name:
            raise InputError(f"{argument!r}: distill takes {name!r} without a value")
    if "smooth" in by_name and "no-controls" in flags:
        raise InputError("'smooth' sets the label smoothing of a control, which 'no-controls' leaves out: remove one")
    smoothing = by_name.pop("smooth", f"smooth={format_number(DEFAULT_SMOOTHING)}").partition("=")[2]
    return DistillationSettings(
        read_loss(list(by_name.values())),
        parse_number("smooth", smoothing, 0.001, 0.999),
        progressive="progressive" in flags,
        controls="no-controls" not in flags,
        compare_methods="compare-methods" in flags,
    )


def group_arguments(kind: str, arguments: Sequence[str], names: Sequence[str]) -> dict[str, str]:
    """Return the arguments of a plan of this kind by name. Raises InputError if one is unknown or given twice."""
    by_name: dict[str, str] = {}
    for argument in arguments:
        name = argument.partition("=")[0]
        if name not in names:
            raise unknown("argument", name, names, f" of {kind}")
        if name in by_name:
            raise InputError(f"{kind}({','.join(arguments)}) sets {name!r} twice: remove one of them")
        by_name[name] = argument
    return by_name


def read_loss(settings: Sequence[str]) -> Distillation:
    """Read a distillation loss whose teacher is a placeholder. Raises InputError if a setting is invalid."""
    loss = read_overrides([f"teacher={PREVIOUS}", *settings]).distillation
    assert loss is not None
    return loss
