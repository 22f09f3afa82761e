"""Size-matched controls. The control of a step is the previous row, widened until it costs as much as the step's row.

A part that makes a network larger or slower should improve accuracy more than additional width at the same cost.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from math import inf, isinf

from ablation.plans.alternatives import make_alternative
from ablation.plans.choices import ControlMetric
from ablation.plans.plan import Plan, make_plan
from arch.errors import InputError
from arch.parts import PARTS
from arch.spec import Spec, Step
from benchmarks.definition.benchmark import Benchmark
from benchmarks.definition.overrides import NO_OVERRIDES
from benchmarks.execution.executor import Executor
from benchmarks.execution.progress import Display, Progress, Report

WIDTH = "width"  # the part that widens a network
# Widths to try per step; fewer for hours, because timing a width takes seconds.
MAX_WIDTHS_TRIED: dict[ControlMetric, int] = {"params": 12, "macs": 12, "hours": 5}
MAX_WIDENING_FACTOR = 4.0  # relative to the row before the step
MIN_RELATIVE_COST_CHANGE = 0.02  # a step that changes the cost by no more than this has no control


@dataclass(frozen=True)
class CostMeter:
    """Measures what a spec costs.

    Attributes:
        metric: The cost.
        benchmark: The benchmark to train on.
        device: The device that hours are predicted for.
        image_counts: The number of training and of test images, which hours depend on.
    """

    metric: ControlMetric
    benchmark: Benchmark
    device: str
    image_counts: tuple[int, int]

    def cost(self, spec: Spec) -> float:
        """Return the cost in parameters, MACs or hours. Call it in a worker process, as it imports torch."""
        from benchmarks.budget.builders import spec_builder
        from benchmarks.budget.check import check_specs
        from benchmarks.budget.cost import count_on_meta
        from benchmarks.execution.progress import silent

        if self.metric == "hours":
            [verdict] = check_specs(silent, {str(spec): 1}, self.benchmark, self.device, self.image_counts)
            hours = verdict.hours_at_hand  # those of the table
            return hours.predicted if hours else inf  # a spec with too many parameters is not timed
        counted = count_on_meta(spec_builder(str(spec), self.benchmark), self.benchmark.data.input_shape)
        return float(counted.params if self.metric == "params" else counted.macs or 0)


def with_controls(plan: Plan, meter: CostMeter, executor: Executor, display: Display) -> Plan:
    """Return the plan with an alternative `~width=F` to each step whose cost a width can match.

    Args:
        plan: A path without alternatives and settings.
        meter: Measures the cost that is matched.
        executor: Runs the measurements.
        display: Shows the progress, and which steps have no control.

    Raises:
        InputError: If the plan is not such a path.
    """
    steps = plan.steps
    if steps is None or steps.overrides != NO_OVERRIDES:
        raise InputError(f"--control needs a path without alternatives and settings, such as baseline+se, not {plan}")
    specs = steps.spec.path()
    factors = executor.call("ablation.plans.controls:match_widths", display, list(pairwise(specs)), meter)
    alternatives = []
    for spec, factor in zip(specs[1:], factors, strict=True):
        if factor is None:
            display.say(
                f"{spec.steps[-1]} has no control: it changes {meter.metric} by {MIN_RELATIVE_COST_CHANGE:.0%} or less,"
                " or no width comes close to its cost"
            )
        else:
            alternatives.append(make_alternative(spec, _width_step(factor)))
    return make_plan(replace(steps, alternatives=tuple(alternatives))) if alternatives else plan


def match_widths(report: Report, pairs: Sequence[tuple[Spec, Spec]], meter: CostMeter) -> list[float | None]:
    """Return for each pair (row before, row with the step) the width of the row before that matches the step's cost.

    Args:
        report: Called with progress updates.
        pairs: The specs of the rows.
        meter: Measures the cost.

    Returns:
        The width factors; None for a step that changes the width itself, and where no width matches.
    """
    factors: list[float | None] = []
    for index, (before, after) in enumerate(pairs):
        report(Progress(f"matching {meter.metric}", index, len(pairs), str(after)))
        if after.steps[-1].part == WIDTH:
            factors.append(None)
        else:
            max_tried = MAX_WIDTHS_TRIED[meter.metric]
            factors.append(find_width(before, meter.cost, meter.cost(after), max_tried))
    return factors


def find_width(before: Spec, cost: Callable[[Spec], float], target: float, max_tried: int) -> float | None:
    """Return the width factor at which the cost of `before` is closest to `target`, found by bisection.

    The cost increases with the width, in jumps of 8 channels.

    Args:
        before: The spec to widen.
        cost: Returns the cost of a spec.
        target: The cost to match.
        max_tried: The largest number of widths to try.

    Returns:
        The factor, or None if no width covers at least half of the difference between the cost of `before` and
        `target`.
    """
    width = next((step for step in reversed(before.steps) if step.part == WIDTH), None)
    current = float(width.value or 1) if width and width.sign == "+" else 1.0
    costs = {current: cost(before)}
    if isinf(target) or isinf(costs[current]) or abs(costs[current] / target - 1) <= MIN_RELATIVE_COST_CHANGE:
        return None
    valid = PARTS[WIDTH].value
    assert valid is not None
    narrowest = max(current / MAX_WIDENING_FACTOR, valid.minimum)
    widest = min(current * MAX_WIDENING_FACTOR, valid.maximum)
    low, high = (current, widest) if costs[current] < target else (narrowest, current)
    for _ in range(max_tried):
        middle = round((low + high) / 2, 3)
        if middle in costs:
            break
        try:
            costs[middle] = cost(_widened(before, middle))
        except InputError:  # another part of the row does not allow this width
            costs[middle] = inf
        low, high = (middle, high) if costs[middle] < target else (low, middle)
    best = min(costs, key=lambda factor: (abs(costs[factor] - target), factor))
    is_close = abs(costs[best] - target) <= abs(costs[current] - target) / 2
    return best if is_close and _widened(before, best).architecture != before.architecture else None


def _widened(spec: Spec, factor: float) -> Spec:
    kept = tuple(step for step in spec.steps if step.part != WIDTH)
    return Spec(spec.base, (*kept, _width_step(factor)))


def _width_step(factor: float) -> Step:
    width = PARTS[WIDTH].value
    assert width is not None
    return Step("+", WIDTH, width.parse(f"{factor:g}"))
