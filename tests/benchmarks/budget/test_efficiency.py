from dataclasses import replace

import pytest

from benchmarks.budget.efficiency import EfficiencyOptions, add_energy, add_utilization, prepare_efficiency
from benchmarks.budget.performance import (
    Energy,
    PeakThroughput,
    TrainingEnergy,
    device_precision,
    format_watt_hours,
    training_flops,
)
from benchmarks.budget.request import CheckRequest
from benchmarks.budget.verdict import ModelCost, Speed, Throughput, Verdict
from benchmarks.definition.benchmark import Benchmark, Budget
from benchmarks.definition.recipe import Recipe
from benchmarks.execution.progress import silent

PEAK = PeakThroughput(12e12, "fp16", "gpu", {"torch": "2"}, "2026-01-02")
SPEED = Speed(1000.0, 900.0, 1100.0)
TIMED = Verdict("net", "tiny", Budget(), 8, 32, ModelCost(10, 10, macs_torch=500_000_000), Throughput(SPEED, SPEED, 32))
RECIPE = Recipe(epochs=3, batch_size=32, warmup_epochs=1)


def with_energy(energy: Energy) -> Verdict:
    return replace(TIMED, throughput=Throughput(SPEED, SPEED, 32, energy_per_image=energy))


def test_training_computes_six_flops_per_mac() -> None:
    assert training_flops(500_000_000, 1000.0) == 3e12
    assert training_flops(500_000_000, 1000.0, aug_splits=3) == 9e12


def test_share_of_the_peak() -> None:
    utilization = add_utilization(TIMED, RECIPE, PEAK).utilization
    assert utilization is not None
    assert (utilization.flops_per_second, utilization.share, utilization.peak) == (3e12, 0.25, PEAK)


def test_share_above_the_peak_is_noted() -> None:
    verdict = add_utilization(TIMED, RECIPE, replace(PEAK, flops_per_second=1e12))
    assert any("--remeasure" in note for note in verdict.notes)


@pytest.mark.parametrize("verdict", [replace(TIMED, throughput=None), replace(TIMED, cost=ModelCost(10, 10))])
def test_without_speed_or_macs_nothing_is_achieved(verdict: Verdict) -> None:
    assert add_utilization(verdict, RECIPE, PEAK) == verdict


def test_energy_of_the_whole_training_is_predicted() -> None:
    verdict = add_energy(with_energy(Energy(0.5, "RAPL")), RECIPE, 100)
    assert verdict.energy == TrainingEnergy(0.5, 0.5 * 3 * 96 / 3600, "RAPL")  # three batches of 32 per epoch
    assert verdict.notes == ()


def test_reason_for_missing_energy_is_a_note() -> None:
    verdict = add_energy(with_energy(Energy(problem="no counter")), RECIPE, 100)
    assert verdict.energy is None
    assert verdict.notes == ("energy not measured: no counter",)


def test_only_what_was_asked_for_is_added(tiny: Benchmark, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[object, ...]] = []

    def call(executor: object, function: str, report: object, *arguments: object) -> PeakThroughput:
        calls.append((function, *arguments))
        return PEAK

    monkeypatch.setattr("benchmarks.execution.local.LocalExecutor.call", call)
    request, verdict = CheckRequest("net", tiny, "cpu", (80, 50)), with_energy(Energy(0.5, "RAPL"))
    assert prepare_efficiency(request, EfficiencyOptions(), silent)(verdict) == verdict
    assert calls == []
    complete = prepare_efficiency(request, EfficiencyOptions(peak=True, energy=True), silent)(verdict)
    assert calls == [("benchmarks.budget.peak:peak_throughput", "cpu", "fp32", False)]
    assert complete.utilization is not None
    assert complete.energy is not None


def test_cpu_computes_in_float32() -> None:
    assert device_precision(RECIPE, "cpu") == "fp32"
    assert device_precision(replace(RECIPE, precision="bf16"), "cuda:1") == "bf16"


@pytest.mark.parametrize(
    ("watt_hours", "text"), [(12_345.0, "12.35 kWh"), (12.34, "12.3 Wh"), (0.1, "360 J"), (0.0, "0 J")]
)
def test_energy_has_a_readable_unit(watt_hours: float, text: str) -> None:
    assert format_watt_hours(watt_hours) == text
