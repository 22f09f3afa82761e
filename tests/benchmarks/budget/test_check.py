import re
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from timm.layers import Attention
from torch import nn

from arch.errors import InputError
from arch.spec import parse
from benchmarks.budget.builders import Builder, spec_builder
from benchmarks.budget.check import check, check_recipe, check_specs
from benchmarks.budget.counting import check_cost
from benchmarks.budget.request import CheckRequest
from benchmarks.budget.timing import TimedTraining
from benchmarks.budget.verdict import Speed, Throughput, Verdict
from benchmarks.definition.benchmark import Benchmark, Budget
from benchmarks.execution.progress import Progress, silent
from benchmarks.training.compile_mode import CompileMode

pytestmark = pytest.mark.slow

IMAGE_COUNTS = (80, 50)
RESNET8_PARAMS = 77_754  # with one channel and ten classes
ROWS = ["resnet8", "baseline+se"]
ADVICE = re.compile(r"\+width=(0\.\d+) would fit the budget \(([\d,]+) params\)")


def with_budget(benchmark: Benchmark, max_params: int = 200_000, max_hours: float = 1.0) -> Benchmark:
    return replace(benchmark, budget=Budget(max_params, max_hours))


def check_rows(benchmark: Benchmark, specs: list[str] = ROWS) -> list[Verdict]:
    return check_specs(silent, dict.fromkeys(specs, 1), benchmark, "cpu", IMAGE_COUNTS)


def macs(verdict: Verdict) -> int:
    assert verdict.cost.macs is not None
    return verdict.cost.macs


def low_hours(throughput: Throughput, benchmark: Benchmark) -> float:
    low = throughput.hours(benchmark.recipe, *IMAGE_COUNTS).low
    assert low is not None
    return low


def parse_advice(advice: str) -> tuple[float, int]:
    match = ADVICE.fullmatch(advice)
    assert match is not None
    return float(match[1]), int(match[2].replace(",", ""))


@pytest.mark.parametrize("layers", [False, True])
def test_attention_is_fused_in_the_timed_model_only(
    layers: bool, tiny: Benchmark, timed_models: list[nn.Module]
) -> None:
    built: list[bool] = []

    def builder() -> nn.Module:
        attention = Attention(8, num_heads=2)
        built.append(attention.fused_attn)
        return nn.Sequential(nn.Flatten(2), nn.Linear(64, 8), attention, nn.Flatten(), nn.Linear(8, 10))

    check(CheckRequest("mine", tiny, "cpu", (80, 50), layers=layers), builder)
    assert len(timed_models) == 1
    assert (built[-1], any(built[:-1])) == (True, False)


def test_progress_of_a_check(tiny: Benchmark, linear: Builder, timed_models: list[nn.Module]) -> None:
    reports: list[Progress] = []
    check(CheckRequest("mine", tiny, "cpu", IMAGE_COUNTS), linear, reports.append)
    assert [(report.done, report.total, report.note) for report in reports] == [(0, 2, "mine"), (1, 2, "mine")]


def test_invalid_optimizer_is_an_input_error(tiny: Benchmark, linear: Builder, timed_models: list[nn.Module]) -> None:
    benchmark = replace(tiny, recipe=replace(tiny.recipe, optimizer="admw"))
    with pytest.raises(InputError, match=r"'admw'.*'adamw'"):
        check(CheckRequest("mine", benchmark, "cpu", IMAGE_COUNTS), linear)
    with pytest.raises(InputError, match=r"'admw'.*'adamw'"):
        check_rows(benchmark)
    with pytest.raises(InputError, match=r"'admw'.*'adamw'"):
        check_recipe(silent, benchmark.recipe)
    assert timed_models == []


def test_model_is_rebuilt_for_timing(tiny: Benchmark, linear: Builder, timed_models: list[nn.Module]) -> None:
    models: list[nn.Module] = []

    def builder() -> nn.Module:
        models.append(linear())
        return models[-1]

    verdict = check(CheckRequest("mine", with_budget(tiny), "cpu", IMAGE_COUNTS), builder)
    assert verdict.hours is not None
    assert [next(model.parameters()).device.type for model in models] == ["meta", "cpu"]
    assert timed_models == models[1:]


@pytest.mark.parametrize(
    ("num_classes", "max_params", "image_counts"),
    [(10, 649, IMAGE_COUNTS), (10, 650, None), (7, 650, IMAGE_COUNTS)],
    ids=["too many parameters", "no images", "wrong output"],
)
def test_model_is_not_timed(
    num_classes: int,
    max_params: int,
    image_counts: tuple[int, int] | None,
    tiny: Benchmark,
    linear: Callable[..., nn.Module],
    timed_models: list[nn.Module],
) -> None:
    request = CheckRequest("mine", with_budget(tiny, max_params, 1e-9), "cpu", image_counts)
    verdict = check(request, lambda: linear(num_classes))
    assert (verdict.throughput, verdict.hours, timed_models) == (None, None, [])


def test_specs_are_checked_in_order(tiny: Benchmark, throughput: Throughput, timed_models: list[nn.Module]) -> None:
    reports: list[Progress] = []
    verdicts = check_specs(reports.append, dict.fromkeys(ROWS, 1), with_budget(tiny), "cpu", IMAGE_COUNTS)
    assert [verdict.model for verdict in verdicts] == ROWS
    assert [verdict.hours for verdict in verdicts] == [throughput.hours(tiny.recipe, *IMAGE_COUNTS)] * 2
    assert verdicts[0].cost.params == RESNET8_PARAMS < verdicts[1].cost.params
    assert [(report.done, report.note) for report in reports] == [(0, "resnet8"), (1, "baseline+se")] * 2


def test_no_spec_is_timed_if_one_has_too_many_parameters(tiny: Benchmark, timed_models: list[nn.Module]) -> None:
    verdicts = check_rows(with_budget(tiny, RESNET8_PARAMS))
    assert [verdict.passed for verdict in verdicts] == [True, False]
    assert [verdict.hours for verdict in verdicts] == [None, None]
    assert timed_models == []


def test_one_spec_may_exceed_the_hours(
    tiny: Benchmark, throughput: Throughput, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = replace(throughput, training=Speed(0.1, 0.1, 0.1))
    speeds = iter([throughput, slow, slow])  # a slow model is measured twice
    monkeypatch.setattr("benchmarks.budget.timing.measure_throughput", lambda *_: next(speeds))
    assert [verdict.passed for verdict in check_rows(with_budget(tiny, max_hours=0.1))] == [True, False]


def test_advice_on_parameters_is_the_largest_width_that_fits(tiny: Benchmark, timed_models: list[nn.Module]) -> None:
    benchmark = with_budget(tiny, RESNET8_PARAMS // 2)
    (verdict,) = check_rows(benchmark, ["resnet8"])
    width, params = parse_advice(verdict.advice)
    assert verdict.line().endswith(f"({verdict.advice})")
    (narrow,) = check_rows(benchmark, [f"resnet8+width={width}"])
    assert (narrow.passed, narrow.cost.params, narrow.advice) == (True, params, "")
    wider = spec_builder(f"resnet8+width={width + 0.05:.2f}", benchmark)
    assert check_cost("wider", wider, benchmark, "cpu").cost.params > RESNET8_PARAMS // 2


def test_advice_on_hours_is_a_width_with_proportionally_fewer_macs(
    tiny: Benchmark, throughput: Throughput, timed_models: list[nn.Module]
) -> None:
    hours = throughput.hours(tiny.recipe, *IMAGE_COUNTS).predicted
    (verdict,) = check_rows(with_budget(tiny, max_hours=hours / 2), ["resnet8"])
    narrow = spec_builder(f"resnet8+width={parse_advice(verdict.advice)[0]}", tiny)
    assert macs(check_cost("narrow", narrow, tiny, "cpu")) < 0.55 * macs(verdict)


def test_no_advice_if_no_width_fits(tiny: Benchmark) -> None:
    (verdict,) = check_rows(with_budget(tiny, 10), ["resnet8"])
    assert verdict.advice == ""
    assert verdict.line().endswith("OVER: 77,754 parameters > 10")


# Cached measurements and compilation:


def forbid(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def call(*_: object) -> None:
        pytest.fail(f"{name} was called")

    monkeypatch.setattr(f"benchmarks.budget.{name}", call)


def test_cached_measurement_is_reused(
    tiny: Benchmark, throughput: Throughput, timed_models: list[nn.Module], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = check_rows(with_budget(tiny))
    assert len(timed_models) == 2
    for name in ("timing.measure_throughput", "check.check_cost"):
        forbid(name, monkeypatch)
    assert check_rows(with_budget(tiny)) == first
    assert check_rows(with_budget(tiny), ROWS[::-1]) == first[::-1]
    assert all(verdict.throughput == throughput for verdict in first)
    over = check_rows(with_budget(tiny, RESNET8_PARAMS))  # the parameter and MAC counts are also reused
    assert [verdict.passed for verdict in over] == [True, False]
    assert [verdict.hours for verdict in over] == [None, None]


def test_only_a_new_row_is_measured(tiny: Benchmark, timed_models: list[nn.Module]) -> None:
    check_rows(with_budget(tiny), ["resnet8"])
    check_rows(with_budget(tiny))
    first, second = (sum(p.numel() for p in model.parameters()) for model in timed_models)
    assert first == RESNET8_PARAMS < second


def test_other_recipe_is_measured_again(tiny: Benchmark, timed_models: list[nn.Module]) -> None:
    check_rows(with_budget(tiny), ["resnet8"])
    check_rows(replace(with_budget(tiny), recipe=replace(tiny.recipe, batch_size=16)), ["resnet8"])
    assert len(timed_models) == 2


def test_cached_measurement_is_compared_with_the_current_budget(tiny: Benchmark, timed_models: list[nn.Module]) -> None:
    check_rows(with_budget(tiny), ["resnet8"])
    (verdict,) = check_rows(with_budget(tiny, RESNET8_PARAMS - 1), ["resnet8"])
    assert verdict.problems == ("77,754 parameters > 77,753",)
    assert len(timed_models) == 1


def test_slow_measurement_is_not_reused(
    tiny: Benchmark, throughput: Throughput, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = replace(throughput, training=Speed(0.1, 0.1, 0.1))
    speeds = iter([slow, slow, throughput])  # a slow model is measured twice
    monkeypatch.setattr("benchmarks.budget.timing.measure_throughput", lambda *_: next(speeds))
    benchmark = with_budget(tiny, max_hours=0.1)
    assert [check_rows(benchmark, ["resnet8"])[0].passed for _ in range(3)] == [False, True, True]
    assert next(speeds, None) is None


def set_compiled(monkeypatch: pytest.MonkeyPatch, eager: Throughput, compiled: Throughput | None) -> list[str]:
    """Set the throughput of both modes, treat every model as worth compiling, and return the list of measured modes."""
    modes: list[str] = []

    def measure(training: TimedTraining, compile_mode: CompileMode = "eager") -> Throughput:
        modes.append(compile_mode)
        outcome = eager if compile_mode == "eager" else compiled
        assert outcome is not None
        return replace(outcome, compile_mode=compile_mode)

    monkeypatch.setattr(TimedTraining, "measure", measure)
    monkeypatch.setattr("benchmarks.budget.timing.MIN_HOURS_TO_COMPILE", 0.0)
    return modes


def test_compiled_measurement_is_cached(
    tiny: Benchmark, throughput: Throughput, monkeypatch: pytest.MonkeyPatch
) -> None:
    fast = replace(throughput, training=Speed(640.0, 640.0, 640.0), compile_seconds=0.5)
    modes = set_compiled(monkeypatch, throughput, fast)
    (verdict,) = check_rows(with_budget(tiny), ["resnet8"])
    assert verdict.throughput == replace(fast, compile_mode="compile")
    assert check_rows(with_budget(tiny), ["resnet8"]) == [verdict]
    assert modes == ["eager", "compile"]


def test_compilation_is_tried_once_as_soon_as_enough_runs_are_to_come(
    tiny: Benchmark, throughput: Throughput, monkeypatch: pytest.MonkeyPatch
) -> None:
    modes = set_compiled(monkeypatch, throughput, throughput)
    hours = throughput.hours(tiny.recipe, *IMAGE_COUNTS).predicted
    monkeypatch.setattr("benchmarks.budget.timing.MIN_HOURS_TO_COMPILE", 3.5 * hours)
    for specs, expected in (
        ({"resnet8": 3}, ["eager"]),
        ({"resnet8": 4}, ["eager", "compile"]),
        ({"resnet8": 5}, ["eager", "compile"]),
        ({"resnet8+se": 2, "resnet8+se@epochs=2": 1}, ["eager", "compile", "eager", "eager", "compile", "compile"]),
    ):
        check_specs(silent, specs, with_budget(tiny), "cpu", IMAGE_COUNTS)
        assert modes == expected


def test_failure_of_a_compile_mode_is_noted_again_with_the_cached_measurement(
    tiny: Benchmark, throughput: Throughput, monkeypatch: pytest.MonkeyPatch
) -> None:
    modes = set_compiled(monkeypatch, throughput, None)
    notes = [check_rows(with_budget(tiny), ["resnet8"])[0].notes for _ in range(2)]
    assert modes == ["eager", "compile"]
    assert notes[0] == notes[1]
    assert "compile" in notes[0][-1]


def test_compile_mode_is_tried_again_after_a_failure_that_may_pass(
    tiny: Benchmark, throughput: Throughput, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcomes: list[Throughput | Exception] = [
        throughput,
        torch.OutOfMemoryError("the GPU is full"),
        RuntimeError("other numbers"),
    ]
    modes: list[str] = []

    def measure(training: TimedTraining, compile_mode: CompileMode = "eager") -> Throughput:
        modes.append(compile_mode)
        outcome = outcomes[len(modes) - 1]
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    monkeypatch.setattr(TimedTraining, "measure", measure)
    monkeypatch.setattr("benchmarks.budget.timing.MIN_HOURS_TO_COMPILE", 0.0)
    notes = [check_rows(with_budget(tiny), ["resnet8"])[0].notes[-1] for _ in range(3)]
    assert modes == ["eager", "compile", "compile"]
    assert ["the GPU is full" in note for note in notes] == [True, False, False]
    assert ["other numbers" in note for note in notes] == [False, True, True]


def test_model_over_its_hours_may_pass_compiled(
    tiny: Benchmark, throughput: Throughput, monkeypatch: pytest.MonkeyPatch
) -> None:
    fast = replace(throughput, training=Speed(6400.0, 6400.0, 6400.0), evaluation=Speed(1e4, 1e4, 1e4))
    modes = set_compiled(monkeypatch, throughput, fast)
    max_hours = 0.9 * low_hours(throughput, tiny)
    (verdict,) = check_rows(with_budget(tiny, max_hours=max_hours), ["resnet8"])
    assert verdict.throughput == replace(fast, compile_mode="compile")
    assert (verdict.problems, verdict.advice) == ((), "")
    assert modes == ["eager", "eager", "compile"]


@pytest.mark.parametrize(
    ("is_named", "share_of_hours", "expected"),
    [(True, 0.9, ["eager", "eager", "compile"]), (False, 0.9, ["eager", "eager"]), (True, 1.1, ["eager"])],
)
def test_architecture_over_its_hours_is_also_checked_compiled(
    is_named: bool,
    share_of_hours: float,
    expected: list[str],
    tiny: Benchmark,
    throughput: Throughput,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fast = replace(throughput, training=Speed(6400.0, 6400.0, 6400.0), evaluation=Speed(1e4, 1e4, 1e4))
    modes = set_compiled(monkeypatch, throughput, fast)
    benchmark = with_budget(tiny, max_hours=share_of_hours * low_hours(throughput, tiny))
    architecture = parse("resnet8").variant() if is_named else None  # None: the model of a file
    request = CheckRequest("resnet8", benchmark, "cpu", IMAGE_COUNTS)
    verdict = check(request, spec_builder("resnet8", benchmark), architecture=architecture)
    assert verdict.throughput is not None
    assert (verdict.throughput.compile_mode, modes) == (expected[-1], expected)


def test_hopeless_model_is_not_compiled(
    tiny: Benchmark, throughput: Throughput, monkeypatch: pytest.MonkeyPatch
) -> None:
    modes = set_compiled(monkeypatch, throughput, None)
    max_hours = low_hours(throughput, tiny) / 2.1
    (verdict,) = check_rows(with_budget(tiny, max_hours=max_hours), ["resnet8"])
    assert not verdict.passed
    assert set(modes) == {"eager"}
