import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from math import inf
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ablation.cli import main
from ablation.plans.choices import ControlMetric
from ablation.plans.controls import MAX_WIDTHS_TRIED, CostMeter, find_width, match_widths, with_controls
from ablation.plans.plan import Plan, parse_plan
from arch.errors import InputError
from arch.models import build
from arch.spec import Spec, parse
from benchmarks.budget import check
from benchmarks.definition.benchmark import Benchmark, Budget
from benchmarks.definition.registry import BENCHMARKS
from benchmarks.execution.progress import Display, silent

DIGITS = BENCHMARKS["digits"]
METER = CostMeter("macs", DIGITS, "cpu", (1, 1))


def width_of(spec: Spec) -> float:
    """Return the width factor of a spec."""
    steps = [step for step in spec.steps if step.part == "width"]
    return float(steps[-1].value or 1) if steps and steps[-1].sign == "+" else 1.0


class Area:
    """A cost function that is proportional to the square of the width, and records the measured widths."""

    def __init__(self, scale: float = 100.0) -> None:
        self.scale = scale
        self.widths: list[float] = []

    def __call__(self, spec: Spec) -> float:
        self.widths.append(width_of(spec))
        return float(self.scale * width_of(spec) ** 2)


def find(before: str, cost: Callable[[Spec], float], target: float, max_tried: int = 12) -> float | None:
    return find_width(parse(before), cost, target, max_tried)


@pytest.mark.parametrize("factor", [0.3, 0.5, 1.5, 2.0, 3.7])
def test_width_with_the_same_cost_is_found(factor: float) -> None:
    cost = Area()
    assert find("resnet20", cost, cost.scale * factor**2) == pytest.approx(factor, abs=0.01)
    assert len(cost.widths) <= 1 + 12


def test_bisection_halves_the_interval() -> None:
    cost = Area()
    find("resnet20", cost, 400.0, 6)
    assert cost.widths[0] == 1.0
    gaps = [abs(b - a) for a, b in pairwise(cost.widths[1:])]
    assert len(cost.widths) == 7
    assert all(after == pytest.approx(before / 2, abs=0.002) for before, after in pairwise(gaps))
    for previous, width in pairwise(cost.widths[1:]):  # a width that is too cheap is followed by a larger one
        assert (width > previous) is (previous < 2)


@pytest.mark.parametrize(("ratio", "found"), [(1.0, False), (1.019, False), (0.981, False), (1.5, True), (0.6, True)])
def test_step_with_nearly_the_same_cost_has_no_control(ratio: float, found: bool) -> None:
    cost = Area()
    assert (find("resnet20", cost, ratio * cost.scale) is not None) is found
    assert found or len(cost.widths) == 1


def test_width_must_cover_half_of_the_difference() -> None:
    assert find("resnet20", lambda spec: 100 if width_of(spec) <= 1 else 500, 150) is None
    assert find("resnet20", lambda spec: 100 if width_of(spec) <= 1.5 else 200, 190) == pytest.approx(1.5, abs=0.3)


def test_width_that_gives_the_same_network_is_no_control() -> None:
    assert find("resnet8", Area(), 104.0) is None  # 16 * 1.02 channels are rounded to 16
    assert find("wrn28_10", Area(), 104.0) == pytest.approx(1.02, abs=0.003)


@pytest.mark.parametrize(("current", "target"), [(inf, 100.0), (100.0, inf)])
def test_row_with_too_many_parameters_has_no_control(current: float, target: float) -> None:
    assert find("resnet20", lambda spec: current, target) is None


def test_widths_with_too_many_parameters_are_not_chosen() -> None:
    width = find("resnet20", lambda spec: 100 * width_of(spec) if width_of(spec) < 1.6 else inf, 180)
    assert width is not None
    assert 1.59 < width < 1.6


@pytest.mark.parametrize(
    ("before", "current"),
    [("resnet20+width=2", 2.0), ("resnet20+width=2+se", 2.0), ("resnet20+width=2-width", 1.0),
     ("resnet20+width=3-width+width=0.5", 0.5)],
)  # fmt: skip
def test_search_starts_at_the_current_width(before: str, current: float) -> None:
    cost = Area()
    assert find(before, cost, cost.scale * (1.5 * current) ** 2) == pytest.approx(1.5 * current, abs=0.02)
    assert cost.widths[0] == current
    assert all(current <= width <= 4 * current for width in cost.widths)


@pytest.mark.parametrize(
    ("before", "target", "limit", "found"),
    [("resnet20+width=12", 1e9, 16.0, False), ("resnet56+width=0.3", 1e-9, 0.1, True)],
)
def test_only_valid_widths_are_tried(before: str, target: float, limit: float, found: bool) -> None:
    cost = Area()
    assert (find(before, cost, target) is not None) is found
    assert min(abs(width - limit) for width in cost.widths) < 0.01
    assert all(0.1 <= width <= 16 for width in cost.widths)


def test_width_that_another_part_rejects_is_skipped() -> None:
    def cost(spec: Spec) -> float:
        if width_of(spec) > 1.6:
            raise InputError("does not fit")
        return 100 * width_of(spec)

    assert find("resnet20", cost, 180) == pytest.approx(1.6, abs=0.01)


def match(pairs: Sequence[tuple[str, str]], meter: CostMeter) -> list[float | None]:
    return match_widths(silent, [(parse(before), parse(after)) for before, after in pairs], meter)


@pytest.mark.slow
@pytest.mark.parametrize("metric", ["params", "macs"])
def test_costs_of_real_networks_are_matched(metric: ControlMetric) -> None:
    meter = replace(METER, metric=metric)

    def cost(spec: str) -> float:
        return meter.cost(parse(spec))

    deeper, attentive = match([("resnet8", "resnet8+depth"), ("resnet8+depth", "resnet8+depth+se")], meter)
    assert deeper is not None
    assert deeper > 1
    plain, wide, target = (cost(spec) for spec in ("resnet8", f"resnet8+width={deeper:g}", "resnet8+depth"))
    assert abs(wide / target - 1) < 0.5 * abs(plain / target - 1)
    if attentive is not None:  # with so few channels, there may be no width that is close enough
        wide, target = cost(f"resnet8+depth+width={attentive:g}"), cost("resnet8+depth+se")
        assert abs(wide / target - 1) <= abs(cost("resnet8+depth") / target - 1)


def test_parameters_are_those_of_the_built_network() -> None:
    net = build(parse("resnet8+se").variant(), 10, 1)
    counted = replace(METER, metric="params").cost(parse("resnet8+se"))
    assert counted == sum(parameter.numel() for parameter in net.parameters())


@pytest.mark.parametrize("step", ["+width=2", "+width=0.5"])
def test_step_that_changes_the_width_has_no_control(step: str) -> None:
    assert match([("resnet8", f"resnet8{step}"), (f"resnet8{step}", f"resnet8{step}-width")], METER) == [None, None]


def test_hours_are_predicted_for_the_device_and_the_images(monkeypatch: pytest.MonkeyPatch) -> None:
    requests: list[tuple[str, str, tuple[int, int]]] = []

    def check_specs(
        report: object, specs: list[str], benchmark: Benchmark, device: str, counts: tuple[int, int]
    ) -> list[Any]:
        [spec] = specs
        requests.append((spec, device, counts))
        width = width_of(parse(spec))
        predicted = 1.0 if spec == "resnet20+se" else 0.25 * width
        return [SimpleNamespace(hours_at_hand=SimpleNamespace(predicted=predicted) if width < 3.9 else None)]

    monkeypatch.setattr(check, "check_specs", check_specs)
    [factor] = match([("resnet20", "resnet20+se")], CostMeter("hours", DIGITS, "cuda:0", (40, 20)))
    assert factor is not None
    assert 3.7 < factor < 3.9
    assert {(device, counts) for _, device, counts in requests} == {("cuda:0", (40, 20))}
    assert len(requests) <= MAX_WIDTHS_TRIED["hours"] + 2


class FixedWidths:
    """An executor that returns the given factors instead of measuring."""

    def __init__(self, *factors: float | None) -> None:
        self.factors = list(factors)
        self.pairs: list[tuple[str, str]] = []

    def call(self, function: str, report: object, pairs: Sequence[tuple[Spec, Spec]], _: object) -> list[float | None]:
        assert function == "ablation.plans.controls:match_widths"
        self.pairs = [(str(before), str(after)) for before, after in pairs]
        return self.factors


class RecordingDisplay(Display):
    """Records messages instead of showing them."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)


def controlled(text: str, executor: FixedWidths, benchmark: Benchmark = DIGITS, display: Display | None = None) -> Plan:
    plan = parse_plan(text, benchmark)
    return with_controls(plan, METER, executor, display or RecordingDisplay())  # type: ignore[arg-type]


def test_each_step_has_a_control() -> None:
    executor = FixedWidths(1.25, 0.75)
    plan = controlled("baseline+se=8+cbam", executor)
    assert str(plan) == "baseline+se=8~width=1.25+cbam~width=0.75"
    assert executor.pairs == [("resnet8", "resnet8+se=8"), ("resnet8+se=8", "resnet8+se=8+cbam")]
    assert [row.spec for row in plan.rows] == [
        "resnet8", "resnet8+se=8", "resnet8+width=1.25", "resnet8+se=8+cbam", "resnet8+se=8+width=0.75"
    ]  # fmt: skip
    assert [row.against for row in plan.rows] == [(), ((0, -1),), ((1, -1),), ((1, -1),), ((3, -1),)]
    assert parse_plan(str(plan), DIGITS).rows == plan.rows


def test_control_replaces_an_earlier_width() -> None:
    plan = controlled("resnet8+width=2+se-se", FixedWidths(None, 2.5, 1.5))
    assert [row.spec for row in plan.rows][2:] == [
        "resnet8+width+se", "resnet8+width=2.5", "resnet8+width+se-se", "resnet8+width=1.5+se"
    ]  # fmt: skip
    assert parse_plan(str(plan), DIGITS).rows == plan.rows


def test_first_row_keeps_the_steps_of_the_baseline() -> None:
    benchmark = Benchmark("own", DIGITS.data, "resnet8+width=2+se", budget=Budget(max_params=10**6))
    plan = controlled("baseline+silu", FixedWidths(2.5), benchmark)
    assert str(plan) == "baseline+silu~width=2.5"
    assert [row.label for row in plan.rows] == ["baseline (resnet8+width+se)", "+silu", "~width=2.5"]
    assert parse_plan(str(plan), benchmark).rows == plan.rows


def test_step_without_control_is_reported() -> None:
    display = RecordingDisplay()
    plan = controlled("resnet8+silu+se", FixedWidths(None, 1.5), display=display)
    assert str(plan) == "resnet8+silu+se~width=1.5"
    [line] = display.lines
    assert line.startswith("+silu has no control: ")


def test_single_row_has_no_control() -> None:
    assert str(controlled("baseline", FixedWidths())) == "baseline"


@pytest.mark.parametrize(
    "text", ["pairs:baseline+se+cbam", "leave-one-out:baseline+se+cbam", "baseline+se~eca", "baseline+se@data=1/2"]
)
def test_only_a_plain_path_can_have_controls(text: str) -> None:
    with pytest.raises(InputError, match=r"^--control needs a path without alternatives and settings"):
        controlled(text, FixedWidths())


@pytest.mark.slow
def test_controls_are_trained(tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--benchmark", str(tiny), "--device", "cpu", "--out", str(tmp_path / "out"), "--json"]
    once = ["--seeds", "1", "--runs-per-device", "1"]
    assert main(["run", "baseline+depth", "--control", "params", *once, *options]) == 0
    content = json.loads(capsys.readouterr().out)
    first, deeper, control = content["rows"]
    assert (deeper["step"], control["step"][:7]) == ("+depth", "~width=")
    assert content["plan"] == f"baseline+depth{control['step']}"
    assert abs(control["params"] - deeper["params"]) < 0.5 * (deeper["params"] - first["params"])
