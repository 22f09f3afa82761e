import json
from collections.abc import Callable, Sequence
from itertools import pairwise
from math import inf
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ablation.cli import main
from ablation.plans import controls
from ablation.plans.controls import PROBES, match, with_controls
from ablation.plans.plan import read_plan
from ablation.plans.row import ControlMetric
from arch.errors import InputError
from arch.models import build
from arch.spec import parse
from benchmarks.budget import check
from benchmarks.definition.benchmark import BENCHMARKS, Benchmark, Budget
from benchmarks.execution.progress import Display, silent

DIGITS = BENCHMARKS["digits"]
Pairs = Sequence[tuple[str, str]]


def width_of(spec: str) -> float:
    """The factor that stands in a spec."""
    standing = [step for step in parse(spec).steps if step.part == "width"]
    return float(standing[-1].value or 1) if standing and standing[-1].sign == "+" else 1.0


class Area:
    """A cost that rises with the width; remembers what it was asked."""

    def __init__(self, scale: float = 100.0, power: float = 2.0) -> None:
        self.scale, self.power = scale, power
        self.asked: list[float] = []

    def __call__(self, spec: str) -> float:
        self.asked.append(width_of(spec))
        return self.scale * float(width_of(spec) ** self.power)


def nearest(before: str, cost: Callable[[str], float], target: float, probes: int = 12) -> float | None:
    return controls._nearest(parse(before), cost, target, probes)


@pytest.mark.parametrize("factor", [0.3, 0.5, 1.5, 2.0, 3.7])
def test_the_width_that_costs_the_same_is_found(factor: float) -> None:
    cost = Area()
    assert nearest("resnet20", cost, cost.scale * factor**2) == pytest.approx(factor, abs=0.01)
    assert len(cost.asked) <= 1 + 12


def test_each_probe_halves_what_is_left() -> None:
    cost = Area()
    nearest("resnet20", cost, 400.0, 6)
    assert cost.asked[0] == 1.0
    gaps = [abs(b - a) for a, b in pairwise(cost.asked[1:])]
    assert len(cost.asked) == 7
    assert all(after == pytest.approx(before / 2, abs=0.002) for before, after in pairwise(gaps))
    for number, tried in enumerate(cost.asked[2:], 2):  # wider where the last was cheaper, narrower where dearer
        assert (tried > cost.asked[number - 1]) is (cost.asked[number - 1] < 2)


@pytest.mark.parametrize(("share", "found"), [(1.0, False), (1.019, False), (0.981, False), (1.5, True), (0.6, True)])
def test_a_step_that_costs_nearly_the_same_has_no_control(share: float, found: bool) -> None:
    cost = Area()
    assert (nearest("resnet20", cost, share * cost.scale) is not None) is found
    assert found or len(cost.asked) == 1


def test_where_no_width_is_nearer_there_is_no_control() -> None:
    assert nearest("resnet20", lambda spec: 100 if width_of(spec) <= 1 else 500, 150) is None
    assert nearest("resnet20", lambda spec: 100 if width_of(spec) <= 1.5 else 200, 190) == pytest.approx(1.5, abs=0.3)


def test_a_width_that_is_the_same_net_is_no_control() -> None:
    assert nearest("resnet8", Area(), 104.0) is None  # 16 channels times 1.02 are 16
    assert nearest("wrn28_10", Area(), 104.0) == pytest.approx(1.02, abs=0.003)


@pytest.mark.parametrize(("own", "cost"), [(inf, 100.0), (100.0, inf)])
def test_what_is_over_the_limit_of_parameters_has_no_control(own: float, cost: float) -> None:
    assert nearest("resnet20", lambda spec: own, cost) is None


def test_widths_over_the_limit_of_parameters_are_not_chosen() -> None:
    found = nearest("resnet20", lambda spec: 100 * width_of(spec) if width_of(spec) < 1.6 else inf, 180)
    assert found is not None
    assert 1.59 < found < 1.6


@pytest.mark.parametrize(
    ("before", "now"),
    [("resnet20+width=2", 2.0), ("resnet20+width=2+se", 2.0), ("resnet20+width=2-width", 1.0),
     ("resnet20+width=3-width+width=0.5", 0.5)],
)  # fmt: skip
def test_the_width_in_the_row_before_is_where_it_starts(before: str, now: float) -> None:
    cost = Area()
    assert nearest(before, cost, cost.scale * (1.5 * now) ** 2) == pytest.approx(1.5 * now, abs=0.02)
    assert cost.asked[0] == now
    assert all(now <= width <= 4 * now for width in cost.asked)


@pytest.mark.parametrize(
    ("before", "target", "limit", "is_near"),
    [("resnet20+width=12", 1e9, 16.0, False), ("resnet56+width=0.3", 1e-9, 0.1, True)],
)
def test_no_width_is_tried_that_the_part_does_not_take(before: str, target: float, limit: float, is_near: bool) -> None:
    cost = Area()
    assert (nearest(before, cost, target) is not None) is is_near
    assert min(abs(width - limit) for width in cost.asked) < 0.01
    assert all(0.1 <= width <= 16 for width in cost.asked)


def test_a_width_that_the_net_does_not_allow_is_passed_over() -> None:
    def cost(spec: str) -> float:
        if width_of(spec) > 1.6:
            raise InputError("does not fit")
        return 100 * width_of(spec)

    assert nearest("resnet20", cost, 180) == pytest.approx(1.6, abs=0.01)


def counted(spec: str, by: ControlMetric) -> float:
    return controls._measure(by, DIGITS, "cpu", (1, 1))(spec)


@pytest.mark.parametrize("by", ["params", "macs"])
def test_real_nets_are_matched_by_what_they_cost(by: ControlMetric) -> None:
    pairs = [("resnet8", "resnet8+depth"), ("resnet8+depth", "resnet8+depth+se")]
    deeper, attentive = match(silent, pairs, DIGITS, by, "cpu", (1, 1))
    assert deeper is not None
    assert deeper > 1
    plain, wide, target = (counted(spec, by) for spec in ("resnet8", f"resnet8+width={deeper:g}", "resnet8+depth"))
    assert abs(wide / target - 1) < 0.5 * abs(plain / target - 1)
    if attentive is not None:  # of few channels, no width may be so near
        wide, target = counted(f"resnet8+depth+width={attentive:g}", by), counted("resnet8+depth+se", by)
        assert abs(wide / target - 1) <= abs(counted("resnet8+depth", by) / target - 1)


def test_parameters_are_those_of_the_built_net() -> None:
    net = build(parse("resnet8+se").variant(), 10, 1)
    assert counted("resnet8+se", "params") == sum(parameter.numel() for parameter in net.parameters())


@pytest.mark.parametrize("step", ["+width=2", "+width=0.5"])
def test_a_step_that_is_a_width_has_no_control(step: str) -> None:
    assert match(silent, [("resnet8", f"resnet8{step}")], DIGITS, "params", "cpu", (1, 1)) == [None]
    taken_back = [(f"resnet8{step}", f"resnet8{step}-width")]
    assert match(silent, taken_back, DIGITS, "params", "cpu", (1, 1)) == [None]


def test_hours_are_those_predicted_for_the_device_and_the_images(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str, tuple[int, int]]] = []

    def check_specs(
        report: object, specs: list[str], benchmark: Benchmark, device: str, counts: tuple[int, int]
    ) -> list[Any]:
        [spec] = specs
        asked.append((spec, device, counts))
        predicted = 1.0 if spec == "resnet20+se" else 0.25 * width_of(spec)
        return [SimpleNamespace(hours=SimpleNamespace(predicted=predicted) if width_of(spec) < 3.9 else None)]

    monkeypatch.setattr(check, "check_specs", check_specs)
    [factor] = match(silent, [("resnet20", "resnet20+se")], DIGITS, "hours", "cuda:0", (40, 20))
    assert factor is not None
    assert 3.7 < factor < 3.9
    assert {(device, counts) for _, device, counts in asked} == {("cuda:0", (40, 20))}
    assert len(asked) <= PROBES["hours"] + 2


class Answers:
    """An executor that has measured already."""

    def __init__(self, *factors: float | None) -> None:
        self.factors = list(factors)
        self.pairs: list[tuple[str, str]] = []

    def call(self, function: str, report: object, pairs: Pairs, *_: object) -> list[float | None]:
        assert function == "ablation.plans.controls:match"
        self.pairs = list(pairs)
        return self.factors


class Quiet(Display):
    """Remembers what it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []

    def say(self, line: str) -> None:
        self.said.append(line)


def planned(text: str, executor: Answers, benchmark: Benchmark = DIGITS, display: Display | None = None) -> str:
    return with_controls(text, benchmark, "macs", "cpu", (1, 1), executor, display or Quiet())  # type: ignore[arg-type]


def test_each_control_stands_beside_its_step() -> None:
    executor = Answers(1.25, 0.75)
    plan = planned("baseline+se=8+cbam", executor)
    assert plan == "baseline+se=8~width=1.25+cbam~width=0.75"
    assert executor.pairs == [("resnet8", "resnet8+se=8"), ("resnet8+se=8", "resnet8+se=8+cbam")]
    rows = read_plan(plan, DIGITS)
    assert [row.spec for row in rows] == [
        "resnet8", "resnet8+se=8", "resnet8+width=1.25", "resnet8+se=8+cbam", "resnet8+se=8+width=0.75"
    ]  # fmt: skip
    assert [row.against for row in rows] == [(), ((0, -1),), ((1, -1),), ((1, -1),), ((3, -1),)]


def test_the_control_of_a_row_that_has_a_width_takes_its_place() -> None:
    rows = read_plan(planned("resnet8+width=2+se-se", Answers(None, 2.5, 1.5)), DIGITS)
    assert [row.spec for row in rows][2:] == [
        "resnet8+width+se", "resnet8+width=2.5", "resnet8+width+se-se", "resnet8+width=1.5+se"
    ]  # fmt: skip


def test_the_first_row_keeps_the_steps_of_the_baseline() -> None:
    benchmark = Benchmark("own", DIGITS.data, "resnet8+width=2+se", budget=Budget(max_params=10**6))
    plan = planned("baseline+silu", Answers(2.5), benchmark)
    assert plan == "baseline+silu~width=2.5"
    assert [row.label for row in read_plan(plan, benchmark)] == ["baseline (resnet8+width+se)", "+silu", "~width=2.5"]


def test_a_step_without_control_is_told_and_left_as_it_is() -> None:
    display = Quiet()
    assert planned("resnet8+silu+se", Answers(None, 1.5), display=display) == "resnet8+silu+se~width=1.5"
    assert display.said == ["+silu has no control: its macs are within 2% of those before, or no width is near"]


def test_one_row_has_no_control() -> None:
    assert planned("baseline", Answers()) == "baseline"


@pytest.mark.parametrize(
    "text", ["pairs:baseline+se+cbam", "leave-one-out:baseline+se+cbam", "baseline+se~eca", "baseline+se@data=1/2"]
)
def test_only_a_plain_path_has_controls(text: str) -> None:
    with pytest.raises(InputError, match=r"^--control stands beside the steps of a path"):
        planned(text, Answers())


@pytest.mark.slow
def test_controls_are_trained_beside_their_steps(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ["--benchmark", str(tiny), "--device", "cpu", "--out", str(tmp_path / "out"), "--json"]
    once = ["--seeds", "1", "--runs-per-device", "1"]
    assert main(["run", "baseline+depth", "--control", "params", *once, *where]) == 0
    content = json.loads(capsys.readouterr().out)
    first, deeper, control = content["rows"]
    assert (deeper["step"], control["step"][:7]) == ("+depth", "~width=")
    assert content["plan"] == f"baseline+depth{control['step']}"
    assert abs(control["params"] - deeper["params"]) < 0.5 * (deeper["params"] - first["params"])
