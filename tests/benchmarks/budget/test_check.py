import json
import re
from collections.abc import Iterator
from dataclasses import replace

import pytest
from timm.layers import set_fused_attn
from torch import nn

from arch.errors import InputError
from arch.net import ResidualNet
from benchmarks.benchmark import Benchmark, Budget
from benchmarks.budget.check import check, check_cost, check_specs, device_name, spec_builder
from benchmarks.budget.verdict import Cost, Throughput, Verdict
from benchmarks.progress import Progress, silent
from benchmarks.training.recipe import Recipe

COUNTS = (80, 50)
SPEED = Throughput(images_per_second=64.0, slowest=60.0, fastest=70.0, eval_images_per_second=100.0, batch_size=32)
SECONDS = 2 * (64 / 64.0 + 50 / 100.0)  # two epochs of two batches of 32, at SPEED
RESNET8 = 77_754  # parameters with one channel and ten classes


@pytest.fixture(autouse=True)
def _fused_attention_as_before() -> Iterator[None]:
    yield
    set_fused_attn(True)


@pytest.fixture(autouse=True)
def timed(monkeypatch: pytest.MonkeyPatch) -> list[nn.Module]:
    """The models that were timed; each is as fast as SPEED."""
    models: list[nn.Module] = []

    def measure(model: nn.Module, recipe: Recipe, num_classes: int, input_shape: tuple[int, int, int]) -> Throughput:
        models.append(model)
        return SPEED

    monkeypatch.setattr("benchmarks.budget.check.measure_throughput", measure)
    return models


def with_budget(benchmark: Benchmark, params: int = 200_000, hours: float = 1.0) -> Benchmark:
    return replace(benchmark, budget=Budget(params, hours))


def judge(benchmark: Benchmark, counts: tuple[int, int] | None = COUNTS) -> Verdict:
    return check("resnet8", spec_builder("resnet8", benchmark), benchmark, "cpu", counts)


def test_a_model_inside_the_budget_passes(tiny: Benchmark, timed: list[nn.Module]) -> None:
    verdict = judge(with_budget(tiny))
    assert verdict.passed
    assert verdict.problems == ()
    assert verdict.throughput == SPEED
    assert verdict.hours == pytest.approx(SECONDS / 3600)
    assert verdict.line() == f"resnet8: 77,754 params, {verdict.cost.macs:,} MACs, 3 s predicted: within budget"
    assert len(timed) == 1


def test_a_model_at_the_limits_passes(tiny: Benchmark) -> None:
    assert judge(with_budget(tiny, RESNET8, SECONDS / 3600)).passed


def test_too_many_parameters_are_named_and_not_timed(tiny: Benchmark, timed: list[nn.Module]) -> None:
    verdict = judge(with_budget(tiny, params=RESNET8 - 1))
    assert not verdict.passed
    assert verdict.problems == ("77,754 parameters > 77,753",)
    assert (verdict.throughput, verdict.hours, timed) == (None, None, [])
    assert verdict.line().endswith("MACs: OVER, 77,754 parameters > 77,753")


def test_too_many_hours_are_named(tiny: Benchmark) -> None:
    verdict = judge(with_budget(tiny, hours=0.0005))
    assert verdict.problems == (f"3 s predicted on {device_name('cpu')} > 2 s",)
    assert not verdict.passed


def test_without_counts_nothing_is_timed(tiny: Benchmark, timed: list[nn.Module]) -> None:
    verdict = judge(with_budget(tiny, hours=1e-9), counts=None)
    assert verdict.passed
    assert (verdict.throughput, verdict.hours, timed) == (None, None, [])
    assert verdict.line().endswith("MACs: within budget")


def test_a_verdict_is_plain_data(tiny: Benchmark) -> None:
    verdict = judge(with_budget(tiny))
    content = json.loads(json.dumps(verdict.to_json()))
    assert content["macs"] == verdict.cost.macs
    assert content["flops"] == 2 * verdict.cost.macs
    assert content["passed"] is True
    assert content["cost"]["params"] == RESNET8
    assert content["throughput"]["batch_size"] == 32


def test_specs_are_judged_in_their_order(tiny: Benchmark, timed: list[nn.Module]) -> None:
    reports: list[Progress] = []
    verdicts = check_specs(reports.append, ["resnet8", "baseline+se"], with_budget(tiny), "cpu", COUNTS)
    assert [verdict.model for verdict in verdicts] == ["resnet8", "baseline+se"]
    assert [verdict.hours for verdict in verdicts] == [pytest.approx(SECONDS / 3600)] * 2
    assert verdicts[0].cost.params == RESNET8 < verdicts[1].cost.params
    assert [(report.done, report.note) for report in reports] == [(0, "resnet8"), (1, "baseline+se")] * 2


def test_one_spec_over_its_parameters_keeps_all_from_being_timed(tiny: Benchmark, timed: list[nn.Module]) -> None:
    verdicts = check_specs(silent, ["resnet8", "resnet8+se"], with_budget(tiny, params=RESNET8), "cpu", COUNTS)
    assert [verdict.passed for verdict in verdicts] == [True, False]
    assert [verdict.hours for verdict in verdicts] == [None, None]
    assert timed == []


WIDTH = re.compile(r"(0\.\d+) times its width would fit here: ([\d,]+) params")


def test_a_spec_over_its_parameters_is_told_a_width_that_fits(tiny: Benchmark) -> None:
    benchmark = with_budget(tiny, params=RESNET8 // 2)
    (verdict,) = check_specs(silent, ["resnet8"], benchmark, "cpu", COUNTS)
    width, params = parsed(verdict.advice)
    (narrow,) = check_specs(silent, [f"resnet8+width={width}"], benchmark, "cpu", COUNTS)
    assert narrow.passed
    assert narrow.cost.params == params
    assert narrow.advice == ""
    assert verdict.line().endswith(f"({verdict.advice})")


def test_the_width_that_fits_is_the_largest(tiny: Benchmark) -> None:
    benchmark = with_budget(tiny, params=RESNET8 // 2)
    (verdict,) = check_specs(silent, ["resnet8"], benchmark, "cpu", COUNTS)
    wider = f"resnet8+width={parsed(verdict.advice)[0] + 0.05:.2f}"
    assert check_cost(wider, spec_builder(wider, benchmark), benchmark, "cpu").cost.params > RESNET8 // 2


def parsed(advice: str) -> tuple[float, int]:
    match = WIDTH.fullmatch(advice)
    assert match is not None
    return float(match[1]), int(match[2].replace(",", ""))


def test_a_spec_over_its_hours_is_told_a_width_with_as_many_macs_less(tiny: Benchmark) -> None:
    (verdict,) = check_specs(silent, ["resnet8"], with_budget(tiny, hours=SECONDS / 3600 / 2), "cpu", COUNTS)
    narrow = spec_builder(f"resnet8+width={parsed(verdict.advice)[0]}", tiny)
    assert check_cost("", narrow, tiny, "cpu").cost.macs < 0.55 * verdict.cost.macs


def test_where_no_width_fits_none_is_named(tiny: Benchmark) -> None:
    (verdict,) = check_specs(silent, ["resnet8"], with_budget(tiny, params=10), "cpu", COUNTS)
    assert verdict.advice == ""
    assert verdict.line().endswith("OVER, 77,754 parameters > 10")


def test_one_spec_over_its_hours_fails_alone(tiny: Benchmark, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = replace(SPEED, images_per_second=0.1)
    speeds = iter([SPEED, slow, slow])  # what is too slow is looked at twice
    monkeypatch.setattr("benchmarks.budget.check.measure_throughput", lambda *_: next(speeds))
    verdicts = check_specs(silent, ["resnet8", "resnet8+se"], with_budget(tiny, hours=0.1), "cpu", COUNTS)
    assert [verdict.passed for verdict in verdicts] == [True, False]


def test_a_model_slow_for_a_moment_is_inside_its_hours(tiny: Benchmark, monkeypatch: pytest.MonkeyPatch) -> None:
    speeds = iter([replace(SPEED, images_per_second=0.1), SPEED])
    monkeypatch.setattr("benchmarks.budget.check.measure_throughput", lambda *_: next(speeds))
    (verdict,) = check_specs(silent, ["resnet8"], with_budget(tiny, hours=0.1), "cpu", COUNTS)
    assert verdict.passed
    assert verdict.throughput == SPEED


def test_a_model_with_another_number_of_classes_is_refused(tiny: Benchmark) -> None:
    with pytest.raises(InputError, match=r"^mine gives \(1, 7\) for one image: tiny has 10 classes$"):
        check("mine", lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 7)), tiny, "cpu", None)


def test_a_model_is_built_anew_for_timing(tiny: Benchmark, timed: list[nn.Module]) -> None:
    built: list[nn.Module] = []

    def builder() -> nn.Module:
        built.append(spec_builder("resnet8", tiny)())
        return built[-1]

    check("mine", builder, with_budget(tiny), "cpu", COUNTS)
    assert timed == built[1:]
    assert len(built) == 2


def test_a_spec_is_built_for_the_benchmarks_images(tiny: Benchmark) -> None:
    model = spec_builder("baseline+se", tiny)()
    assert isinstance(model, ResidualNet)
    assert (model.num_classes, model.in_chans) == (10, 1)


def test_dead_parameters_do_not_break_a_verdict() -> None:
    cost = Cost(10, 10, ("layer.weight",), 5, 6)
    verdict = Verdict("mine", "tiny", Budget(), cost, None, None, "cpu", ())
    assert verdict.passed
    assert json.loads(json.dumps(verdict.to_json()))["cost"]["dead_params"] == ["layer.weight"]
