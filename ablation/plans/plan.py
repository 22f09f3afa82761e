"""`Plan`: the rows of an ablation, parsed once from text.

plan = spec, or any plan of `ablation.plans.steps`: path:, leave-one-out:, pairs:, reordered:
     | "compare:" ...      see `ablation.plans.comparison`
     | "distill:" ...      see `ablation.plans.distill`
     | "distill-grid(" ... see `ablation.plans.distillation_grid`
     | "datasize(" ...     see `ablation.plans.datasize`
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, Self

from ablation.plans.comparison import parse_comparison
from ablation.plans.datasize import parse_datasize
from ablation.plans.distill import parse_distillation
from ablation.plans.distillation_grid import parse_grid
from ablation.plans.row import Row
from ablation.plans.steps import STEP_KINDS, StepPlan, parse_steps
from arch.errors import InputError, unknown
from benchmarks.definition.benchmark import Benchmark
from benchmarks.definition.overrides import RunConfig

MAX_PLAN_CHARACTERS = 10_000
PLAN = re.compile(r"(?P<kind>[A-Za-z_-]*)(?:\((?P<arguments>[^()]*)\))?:(?P<body>.*)", re.DOTALL)
KINDS_WITH_ARGUMENTS = ("distill", "distill-grid", "datasize")
KINDS = (*STEP_KINDS, "compare", *KINDS_WITH_ARGUMENTS)
ALTERNATIVE_SIGN = re.compile(r"~(?!/)")  # "~/" begins a path in the home directory


class PlanDefinition(Protocol):
    """A parsed plan of one of the kinds. `str` returns its canonical text, which is parsed into an equal definition."""

    def rows(self) -> list[Row]:
        """Return the rows. Raises InputError if they are invalid, for example if a step changes nothing."""
        ...

    def with_configs(self, change: Callable[[RunConfig], RunConfig]) -> Self:
        """Return the definition with every config replaced by `change(config)`."""
        ...


@dataclass(frozen=True)
class Plan:
    """The rows that an ablation trains, and the text that defines them.

    Attributes:
        definition: The parsed text.
        rows: The rows of the table.
        text: The plan as the user typed it or as it was recorded, or the canonical text of the definition.
    """

    definition: PlanDefinition
    rows: tuple[Row, ...]
    text: str

    def __str__(self) -> str:
        return self.text

    @property
    def steps(self) -> StepPlan | None:
        """The steps of a path without alternatives; None for any other plan."""
        if not isinstance(self.definition, StepPlan) or self.definition.kind != "path":
            return None
        return None if self.definition.alternatives else self.definition

    def last_row_only(self) -> "Plan":
        """Return the plan with only its last row, which is compared with nothing."""
        return replace(self, rows=(replace(self.rows[-1], against=()),))


def make_plan(definition: PlanDefinition, text: str = "") -> Plan:
    """Return the plan of a definition.

    Args:
        definition: The definition.
        text: Text that is parsed into this definition; by default its canonical text.

    Raises:
        InputError: If the definition has no valid rows.
    """
    return Plan(definition, tuple(definition.rows()), text or str(definition))


def parse_plan(text: str, benchmark: Benchmark) -> Plan:
    """Parse a plan.

    Args:
        text: The plan. Initial weights may be named by their source: see `ablation.plans.pretrained`.
        benchmark: The benchmark whose baseline the word `baseline` stands for.

    Raises:
        InputError: If the text is not a valid plan, or one of its steps changes nothing.
    """
    if len(text) > MAX_PLAN_CHARACTERS:
        raise InputError(f"the plan has {len(text):,} characters; the maximum is {MAX_PLAN_CHARACTERS:,}")
    match = PLAN.fullmatch(text)
    kind, body, arguments_text = (match["kind"], match["body"], match["arguments"]) if match else ("path", text, None)
    if kind not in KINDS:
        raise unknown("kind of plan", kind, KINDS, f" in {text!r}")
    if kind != "path" and ALTERNATIVE_SIGN.search(body):
        raise InputError(f"{text!r} contains '~': only a path has alternatives, {kind} does not")
    if arguments_text is not None and kind not in KINDS_WITH_ARGUMENTS:
        raise InputError(f"{text!r} has parentheses after {kind!r}, which takes no arguments")
    arguments = [word.strip() for word in (arguments_text or "").split(",") if word.strip()]
    return make_plan(_parse_definition(kind, body, arguments, benchmark.baseline), text)


def _parse_definition(kind: str, body: str, arguments: Sequence[str], baseline: str) -> PlanDefinition:
    if kind == "compare":
        return parse_comparison(body, baseline)
    if kind == "distill":
        return parse_distillation(body, arguments, baseline)
    if kind == "distill-grid":
        return parse_grid(body, arguments, baseline)
    if kind == "datasize":
        return parse_datasize(body, arguments, baseline)
    return parse_steps(kind, body, baseline)
