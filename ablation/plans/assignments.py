"""Assignments: studies of courses with the results that they expect, as TOML files in `ablation/assignments/`."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, get_args

from annotated_types import Ge, Le, MinLen

from ablation.plans.choices import AssignmentScale, MarkKind, MarkMetric
from ablation.plans.plan import Plan, make_plan, parse_plan
from ablation.plans.row import Row
from arch.errors import InputError, unknown
from benchmarks.definition.benchmark import Benchmark
from benchmarks.definition.config_parser import HUB
from benchmarks.definition.names import check_path
from benchmarks.definition.overrides import RunConfig
from benchmarks.definition.registry import get_benchmark, validate_benchmark
from benchmarks.definition.toml_file import read_toml
from benchmarks.definition.validation import describe_problems, strict_adapter

FOLDER = Path(__file__).parents[1] / "assignments"

Text = Annotated[str, MinLen(1)]


@dataclass(frozen=True)
class Mark:
    """A result that an assignment expects.

    Attributes:
        row: The label or the spec of the row.
        value: The accuracy in percent, or the difference from `minus` in points.
        kind: reference: a published result of the same study; goal: at least this value is required; other protocol:
            a published result that is not comparable.
        source: Where the value comes from.
        metric: The accuracy.
        minus: The row whose accuracy is subtracted from that of `row`; "" subtracts nothing.
    """

    row: Text
    value: Annotated[float, Ge(-100), Le(100)]
    kind: MarkKind
    source: Text
    metric: MarkMetric = "top1"
    minus: str = ""


@dataclass(frozen=True)
class StudyDefinition:
    """The study of an assignment at one scale.

    Attributes:
        plan: The plan, in which `@init=hub` stands for the pretrained weights that the user chooses.
        benchmark: The name of a built-in benchmark, the path of a benchmark file relative to the assignment file, or
            the content of a benchmark file.
        seeds: The number of seeds of each row.
        cost: The multiply-adds, images and epochs, and the hours that they take.
        reduction: What this scale reduces; "" for the study at full size.
        marks: The expected results.
    """

    plan: Text
    benchmark: str | dict[str, Any]
    seeds: Annotated[int, Ge(1), Le(1000)]
    cost: Text
    reduction: str = ""
    marks: tuple[Mark, ...] = ()


@dataclass(frozen=True)
class Assignment:
    """The content of an assignment file.

    Attributes:
        title: The title of its page.
        description: What the study asks.
        full: The study at full size.
        cpu: A reduction for a computer without a GPU; None: there is only the original.
    """

    title: Text
    description: Text
    full: StudyDefinition
    cpu: StudyDefinition | None = None


@dataclass(frozen=True)
class AssignedStudy:
    """The study of an assignment at one scale, with the file that defines it.

    Attributes:
        assignment: The assignment.
        scale: The scale. An assignment without a reduction has only the scale "full".
        path: The file.
    """

    assignment: Assignment
    scale: AssignmentScale
    path: Path

    @property
    def name(self) -> str:
        """The name of the assignment."""
        return self.path.stem

    @property
    def definition(self) -> StudyDefinition:
        """The study at this scale."""
        reduced = self.assignment.cpu if self.scale == "cpu" else None
        return reduced or self.assignment.full

    @property
    def plugin_paths(self) -> list[Path]:
        """The plugins of the benchmark, whose paths are relative to the file that defines it."""
        benchmark = self.definition.benchmark
        file = self.path.parent / benchmark if isinstance(benchmark, str) else self.path
        return [file.parent / plugin for plugin in self.benchmark.plugins]

    @cached_property
    def benchmark(self) -> Benchmark:
        """The benchmark. Raises InputError if it is invalid."""
        benchmark = self.definition.benchmark
        if not isinstance(benchmark, str):
            return validate_benchmark(benchmark, self.path)
        return get_benchmark(str(self.path.parent / benchmark) if benchmark.endswith(".toml") else benchmark)

    def plan(self, pretrained: str = HUB) -> Plan:
        """Return the plan.

        Args:
            pretrained: The source of the weights that `@init=hub` stands for: a file, `hub` or `hub:TAG`.

        Raises:
            InputError: If the plan is invalid, or `pretrained` names a source although nothing is pretrained.
        """
        plan = parse_plan(self.definition.plan, self.benchmark)
        if pretrained == HUB:
            return plan
        if not any(row.overrides.initial_weights == HUB for row in plan.rows):
            raise InputError(f"--pretrained {pretrained}: {self.name} has no pretrained weights; remove the option")

        def with_source(config: RunConfig) -> RunConfig:
            is_pretrained = config.overrides.initial_weights == HUB
            overrides = replace(config.overrides, initial_weights=pretrained)
            return replace(config, overrides=overrides) if is_pretrained else config

        return make_plan(plan.definition.with_configs(with_source))

    def mark_rows(self) -> list[tuple[Mark, int, int | None]]:
        """Return the marks, each with the index of its row and that of the row that is subtracted.

        Raises:
            InputError: If a mark names no row of the plan, or expects an accuracy below 1%.
        """
        rows = self.plan().rows
        for mark in self.definition.marks:
            if not mark.minus and mark.value < 1:  # a fraction instead of a percentage, or a difference
                raise InputError(
                    f"{self.path}: the value of {mark.row!r} must be from 1 to 100 percent, or needs `minus`"
                )
        return [
            (mark, self._index(mark.row, rows), self._index(mark.minus, rows) if mark.minus else None)
            for mark in self.definition.marks
        ]

    def _index(self, name: str, rows: Sequence[Row]) -> int:
        for index, row in enumerate(rows):
            if name in (row.label, row.spec):
                return index
        raise unknown("row", name, [row.spec for row in rows], f" in a mark of {self.path}")


def assignment_names() -> list[str]:
    """Return the names of the built-in assignments."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def all_studies() -> list[AssignedStudy]:
    """Return the studies of the built-in assignments: one for each assignment and scale."""
    studies = (load_study(name, scale) for name in assignment_names() for scale in get_args(AssignmentScale))
    return list({(study.name, study.scale): study for study in studies}.values())


def load_study(name: str, scale: AssignmentScale) -> AssignedStudy:
    """Return a study of a built-in assignment, or of an assignment in a .toml file.

    Args:
        name: The name of the assignment, or the path of its file.
        scale: The scale; "cpu" is "full" for an assignment without a reduction.

    Raises:
        InputError: If the name is unknown, or the file cannot be read or is invalid.
    """
    if name.endswith(".toml"):
        path = check_path("NAME", Path(name))
    elif name in assignment_names():
        path = FOLDER / f"{name}.toml"
    else:
        raise unknown("assignment", name, assignment_names(), " (or a .toml file)")
    assignment = load_assignment(path)
    return AssignedStudy(assignment, scale if assignment.cpu else "full", path)


def load_assignment(path: Path) -> Assignment:
    """Load an assignment from a file. Raises InputError if it cannot be read or is invalid."""
    from pydantic import ValidationError

    try:
        content = read_toml(path)
    except OSError as error:
        raise InputError(f"cannot read assignment {path}: {error.strerror or error}") from error
    except ValueError as error:  # invalid TOML or UTF-8, or a number with thousands of digits
        raise InputError(f"{path} is not TOML: {error}") from error
    sections = {"full": StudyDefinition, "cpu": StudyDefinition, "marks": Mark}
    try:
        adapter = strict_adapter(Assignment, StudyDefinition, Mark)
        assignment: Assignment = adapter.validate_json(json.dumps(content, default=str))
    except ValidationError as error:
        raise InputError(f"{path}: {describe_problems(error.errors(), Assignment, sections, content)}") from error
    return assignment
