"""Plans that consist of a base and steps: path, leave-one-out, pairs and reordered.

    plan = [ kind, ":" ], spec with alternatives, { "@", setting }
    kind = path | leave-one-out | pairs | reordered

A step is compared with the row before it. Only a path has alternatives: see `ablation.plans.alternatives`. The settings
apply to every row.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Self

from ablation.plans.alternatives import Alternative, parse_alternatives, without_alternatives
from ablation.plans.row import Row
from arch.errors import InputError
from arch.spec import Spec, Step, parse
from benchmarks.definition.config_parser import read_overrides, split_settings
from benchmarks.definition.overrides import NO_OVERRIDES, RunConfig, TrainingOverrides

BASELINE = "baseline"  # the word that stands for the benchmark's baseline


@dataclass(frozen=True)
class StepPlan:
    """A base, the steps added to it, and the kind of plan, which decides which rows test them.

    Attributes:
        kind: A key of `STEP_KINDS`.
        base: The name of the base, or `baseline`.
        spec: The base and all steps.
        is_baseline: Whether the first row is the benchmark's baseline.
        alternatives: The alternatives to steps of a path.
        overrides: The training overrides of every row.
    """

    kind: str
    base: str
    spec: Spec
    is_baseline: bool
    alternatives: tuple[Alternative, ...] = ()
    overrides: TrainingOverrides = NO_OVERRIDES

    def __str__(self) -> str:
        prefix = "" if self.kind == "path" else f"{self.kind}:"
        steps = ""
        for number, step in enumerate(self.spec.steps, 1):
            steps += str(step) if number > self.spec.start else ""  # the word `baseline` includes the first steps
            steps += "".join(alternative.text for alternative in self.alternatives_at(number))
        return f"{prefix}{self.base}{steps}{self.overrides}"

    def rows(self) -> list[Row]:
        """Return the rows. Raises InputError if a step changes nothing or the steps do not suit the kind of plan."""
        rows = STEP_KINDS[self.kind](self)
        return [replace(row, config=replace(row.config, overrides=self.overrides)) for row in rows]

    def with_configs(self, change: Callable[[RunConfig], RunConfig]) -> Self:
        """Return the plan with the overrides that `change` gives the config of its last step."""
        return replace(self, overrides=change(RunConfig(self.spec, self.overrides)).overrides)

    def alternatives_at(self, position: int) -> Iterator[Alternative]:
        """Yield the alternatives to the step at this position."""
        return (alternative for alternative in self.alternatives if alternative.position == position)

    def first_row(self) -> Row:
        """Return the row of the base architecture."""
        first = self.spec.path()[0]
        return Row(f"baseline ({first})" if self.is_baseline else str(first), RunConfig(first))

    def additions(self) -> tuple[tuple[Step, ...], tuple[Step, ...]]:
        """Return (the steps of the baseline, the added steps).

        Raises:
            InputError: If fewer than two steps are added, or one of them is removed again.
        """
        start = self.spec.start
        steps = tuple(step for step in self.spec.steps[start:] if step.sign == "+")
        if len(steps) < 2 or len(steps) < len(self.spec.steps) - start:
            raise InputError(f"{str(self)!r} needs two steps or more, all of them additions: baseline+se+cbam")
        return self.spec.steps[:start], steps


def parse_steps(kind: str, text: str, baseline: str) -> StepPlan:
    """Parse the spec, alternatives and settings of a plan.

    Args:
        kind: A key of `STEP_KINDS`.
        text: The plan without its kind.
        baseline: The spec that the word `baseline` stands for.

    Raises:
        InputError: If the text is invalid.
    """
    body, settings = split_settings(text)
    spec = parse(without_alternatives(body), baseline)
    return StepPlan(
        kind=kind,
        base=BASELINE if body.startswith(BASELINE) else spec.base,
        spec=spec,
        is_baseline=spec.path()[0].architecture == parse(baseline).architecture,
        alternatives=parse_alternatives(body, baseline),
        overrides=read_overrides(settings, baseline, allow_sources=True),
    )


def path(plan: StepPlan) -> list[Row]:
    """Return the rows of a sequential ablation: the base, then one per step and alternative."""
    rows, last = [plan.first_row()], 0
    for spec in plan.spec.path()[1:]:
        rows.append(_step_row(rows, last, str(spec.steps[-1]), spec))
        before, last = last, len(rows) - 1
        for alternative in plan.alternatives_at(len(spec.steps)):
            row = _step_row(rows, before, alternative.text, alternative.spec)
            rows.append(replace(row, against=((last, -1),), kind="alternative"))
    return rows


def leave_one_out(plan: StepPlan) -> list[Row]:
    """Return the row with all steps, then one without each of the steps."""
    start, steps = plan.additions()
    rows = [Row(str(plan.spec), RunConfig(plan.spec))]
    for step in steps:
        kept = tuple(other for other in steps if other != step)
        row = _step_row(rows, 0, f"-{str(step)[1:]}", Spec(plan.spec.base, start + kept))
        rows.append(replace(row, kind="without"))
    return rows


def pairs(plan: StepPlan) -> list[Row]:
    """Return the base, one row per step, and one per pair of steps.

    The change of a pair is its interaction: the change beyond the sum of the changes of both steps.
    """
    start, steps = plan.additions()
    rows = [plan.first_row()]
    for step in steps:
        rows.append(_step_row(rows, 0, str(step), Spec(plan.spec.base, (*start, step))))
    for (i, one), (j, other) in combinations(enumerate(steps, 1), 2):
        spec = Spec(plan.spec.base, (*start, one, other))
        if any(spec.architecture == rows[alone].config.architecture for alone in (i, j)):
            raise InputError(f"{one} and {other} have no interaction: one replaces the other")
        rows.append(Row(f"{one}{other}", RunConfig(spec), ((i, -1), (j, -1), (0, 1))))
    return rows


def reordered(plan: StepPlan) -> list[Row]:
    """Return the path, then the path from the same base with the steps in reverse order."""
    start, steps = plan.additions()
    rows, last = path(plan), 0
    for count in range(1, len(steps) + 1):
        taken = steps[::-1][:count]
        before, last = last, len(rows)
        rows.append(_step_row(rows, before, f"{taken[-1]} (reordered)", Spec(plan.spec.base, start + taken)))
    return rows


STEP_KINDS: dict[str, Callable[[StepPlan], list[Row]]] = {
    "path": path,
    "leave-one-out": leave_one_out,
    "pairs": pairs,
    "reordered": reordered,
}


def _step_row(rows: list[Row], before: int, label: str, spec: Spec) -> Row:
    """Return the row of `spec`. It is compared with the row at index `before` and must differ from it."""
    if spec.architecture == rows[before].config.architecture:
        raise InputError(
            f"{label!r} changes nothing: {spec} is the same architecture as {rows[before].spec}; remove it from "
            "the plan"
        )
    return Row(label, RunConfig(spec), ((before, -1),))
