"""Size-matched controls: beside a step, the row before it, widened until it costs as much.

A part that makes a net larger or slower should beat what the same cost buys in plain width.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from math import inf, isinf

from ablation.plans.plan import ALTERNATIVE
from ablation.plans.row import ControlMetric
from arch.errors import InputError
from arch.parts import PARTS
from arch.spec import Spec, Step, parse
from benchmarks.definition.benchmark import Benchmark
from benchmarks.execution.local import Executor
from benchmarks.execution.progress import Display, Progress, Report

BASELINE = "baseline"  # the word
PART = "width"
PROBES = {"params": 12, "macs": 12, "hours": 5}  # widths that are looked at; hours are timed, which takes seconds each
WIDEST = 4.0  # times the row before
NEAR = 0.02  # a step whose cost is so near that of the row before has no control


def with_controls(
    text: str,
    benchmark: Benchmark,
    by: ControlMetric,
    device: str,
    counts: tuple[int, int],
    executor: Executor,
    display: Display,
) -> str:
    """The plan with an alternative `~width=F` behind each step that a width can match in `by`.

    counts: training and test images, for the hours. Raises InputError where the plan is no path or has alternatives.
    """
    if ":" in text or "@" in text or ALTERNATIVE.search(text):
        raise InputError(
            f"--control stands beside the steps of a path, and {text!r} is not one, or has its own or settings"
        )
    specs = parse(text, benchmark.baseline).path()
    pairs = [(str(before), str(after)) for before, after in pairwise(specs)]
    factors = executor.call("ablation.plans.controls:match", display, pairs, benchmark, by, device, counts)
    plan = BASELINE if text.startswith(BASELINE) else str(specs[0])  # written out, its own steps would be rows
    for after, factor in zip(specs[1:], factors, strict=True):
        plan += str(after.steps[-1])
        if factor is None:
            display.say(
                f"{after.steps[-1]} has no control: its {by} are within {NEAR:.0%} of those before, or no width is near"
            )
        else:
            plan += f"~{PART}={factor:g}"
    return plan


def match(
    report: Report,
    pairs: Sequence[tuple[str, str]],
    benchmark: Benchmark,
    by: ControlMetric,
    device: str,
    counts: tuple[int, int],
) -> list[float | None]:
    """For each (row before, row with the step): the width of the row before that costs as much; None for none."""
    found = []
    for number, (before, after) in enumerate(pairs):
        report(Progress(f"matching {by}", number, len(pairs), after))
        step, cost = parse(after).steps[-1], _measure(by, benchmark, device, counts)
        is_control = step.part == PART  # a step that is a width itself
        found.append(None if is_control else _nearest(parse(before), cost, cost(after), PROBES[by]))
    return found


def _measure(by: ControlMetric, benchmark: Benchmark, device: str, counts: tuple[int, int]) -> Callable[[str], float]:
    """What a spec costs, in a child."""
    from benchmarks.budget.check import check_specs, spec_builder
    from benchmarks.budget.cost import count_on_meta
    from benchmarks.execution.progress import silent

    def cost(spec: str) -> float:
        if by == "hours":
            [verdict] = check_specs(silent, [spec], benchmark, device, counts)
            return verdict.hours.predicted if verdict.hours else inf  # over the parameters' limit, and not timed
        counted = count_on_meta(spec_builder(spec, benchmark), benchmark.data.input_shape)
        return float(counted.params if by == "params" else counted.macs or 0)

    return cost


def _nearest(before: Spec, cost: Callable[[str], float], target: float, probes: int) -> float | None:
    """Bisection over the width; costs rise with it, in jumps of 8 channels.

    None where no width comes more than half of the way from the row before to the target.
    """
    own = next((step for step in reversed(before.steps) if step.part == PART), None)
    now = float(own.value or 1) if own and own.sign == "+" else 1.0
    costs = {now: cost(str(before))}
    if isinf(target) or isinf(costs[now]) or abs(costs[now] / target - 1) <= NEAR:
        return None
    takes = PARTS[PART].value
    assert takes is not None
    widest, narrowest = min(now * WIDEST, takes.maximum), max(now / WIDEST, takes.minimum)
    low, high = (now, widest) if costs[now] < target else (narrowest, now)
    for _ in range(probes):
        middle = round((low + high) / 2, 3)
        if middle in costs:
            break
        try:
            costs[middle] = cost(str(_widened(before, middle)))
        except InputError:  # a width that another part of the row does not allow
            costs[middle] = inf
        low, high = (middle, high) if costs[middle] < target else (low, middle)
    best = min(costs, key=lambda factor: (abs(costs[factor] - target), factor))
    is_near = abs(costs[best] - target) <= abs(costs[now] - target) / 2
    return best if is_near and _widened(before, best).variant() != before.variant() else None


def _widened(spec: Spec, factor: float) -> Spec:
    kept = tuple(step for step in spec.steps if step.part != PART)
    takes = PARTS[PART].value
    assert takes is not None
    return Spec(spec.base, (*kept, Step("+", PART, takes.read(f"{factor:g}"))))
