import json
from dataclasses import asdict, replace

import pytest
from torch import nn

from arch.errors import InputError
from benchmarks.budget.builders import Builder
from benchmarks.budget.check import check, check_specs
from benchmarks.budget.profile import DeviceProfile, write_profile
from benchmarks.budget.reference import reference_profile
from benchmarks.budget.report import rows
from benchmarks.budget.request import CheckRequest
from benchmarks.budget.throughput import DoesNotFit
from benchmarks.definition.benchmark import Benchmark, Budget, identify
from benchmarks.definition.registry import BENCHMARKS
from benchmarks.execution.device import device_name
from benchmarks.execution.progress import silent
from benchmarks.runs.run import cost_fields

IMAGE_COUNTS = (80, 50)
FAST = DeviceProfile("Some GPU", "fp16", {}, 40, 0.03, 0.1, 0, {"operators": 1e-9}, 2)
SLOW = replace(FAST, seconds_per={"operators": 100.0})


def named(benchmark: Benchmark, max_hours: float = 1.0) -> Benchmark:
    return replace(benchmark, budget=Budget(200_000, max_hours, "some_gpu"))


@pytest.mark.usefixtures("timed_models")
@pytest.mark.parametrize(("profile", "passed"), [(FAST, True), (SLOW, False)])
def test_hours_are_judged_on_the_device_of_the_budget(
    profile: DeviceProfile, passed: bool, tiny: Benchmark, linear: Builder
) -> None:
    verdict = check(CheckRequest("mine", named(tiny, 1e-5), "cpu", IMAGE_COUNTS, profile), linear)
    assert verdict.passed is passed
    assert (verdict.device, verdict.local_device) == ("Some GPU", device_name("cpu"))
    assert verdict.hours is not None
    assert verdict.local_hours is not None
    assert verdict.local_hours.low > 1e-5  # there is no limit on the device at hand
    assert verdict.budget.max_hours == 1e-5
    report = dict(rows(verdict))
    assert "on Some GPU" in report["predicted"]
    assert device_name("cpu") in report["on this device"]
    assert device_name("cpu") in report["training"]


@pytest.mark.usefixtures("timed_models")
def test_hours_are_measured_on_the_device_of_the_budget_itself(tiny: Benchmark, linear: Builder) -> None:
    profile = replace(SLOW, device=device_name("cpu"))
    verdict = check(CheckRequest("mine", named(tiny), "cpu", IMAGE_COUNTS, profile), linear)
    assert verdict.passed
    assert verdict.local_hours is None
    assert verdict.throughput is not None


def test_model_that_does_not_fit_here_is_judged_nevertheless(
    tiny: Benchmark, linear: Builder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise DoesNotFit("it needs 90 GiB")

    monkeypatch.setattr("benchmarks.budget.timing.measure_throughput", fail)
    verdict = check(CheckRequest("mine", named(tiny), "cpu", IMAGE_COUNTS, FAST), linear)
    assert verdict.passed
    assert verdict.local_hours is None
    assert any("not timed" in note and "90 GiB" in note for note in verdict.notes)


def test_specs_are_judged_on_the_device_of_the_budget(timed_models: list[nn.Module], tiny: Benchmark) -> None:
    write_profile(SLOW)
    (over,) = check_specs(silent, ["resnet8"], named(tiny), "cpu", IMAGE_COUNTS)
    assert not over.passed
    write_profile(FAST)
    (within,) = check_specs(silent, ["resnet8"], named(tiny), "cpu", IMAGE_COUNTS)
    assert within.passed
    assert len(timed_models) == 1  # the first measurement is cached
    assert within.local_hours is not None
    assert cost_fields(within)["predicted_hours"] == within.local_hours.predicted


def test_unknown_device_of_a_budget_is_invalid(tiny: Benchmark) -> None:
    assert reference_profile(tiny, "cpu") is None
    with pytest.raises(InputError, match="unknown device profile 'some_gpu'"):
        reference_profile(named(tiny), "cpu")


def test_device_of_the_budget_does_not_change_the_benchmark_id() -> None:
    benchmark = BENCHMARKS["cifar100"]
    other = replace(benchmark, budget=replace(benchmark.budget, device="rtx3090"))
    assert identify(other.definition("images", "cpu")) == identify(benchmark.definition("images", "cpu"))
    assert Budget(**json.loads(json.dumps(asdict(other.budget)))) == other.budget  # as in records


def test_derived_profile_is_marked_in_every_line(tiny: Benchmark, linear: Builder) -> None:
    profile = replace(SLOW, median_error=None, worst_error=None, derived="derived, not validated")
    verdict = check(CheckRequest("mine", tiny, "cpu", IMAGE_COUNTS, profile), linear)
    lines = [text for label, text in rows(verdict) if label in ("predicted", "verdict")]
    assert len(lines) == 2
    assert all("derived, not validated" in line for line in lines)
    assert "no interval" in lines[0]
    assert any("derived, not validated" in note for note in verdict.notes)
