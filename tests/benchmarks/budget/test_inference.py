from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from arch.errors import InputError
from benchmarks.budget import inference
from benchmarks.budget.check import check
from benchmarks.budget.inference import measure_inference, measure_specs, summarize_calls
from benchmarks.budget.measurement import Measurement
from benchmarks.budget.performance import Inference, Latency
from benchmarks.budget.request import CheckRequest
from benchmarks.budget.throughput import DoesNotFit
from benchmarks.budget.verdict import ModelCost
from benchmarks.definition.benchmark import Benchmark, Budget
from benchmarks.definition.config_parser import read_run_config
from benchmarks.execution.progress import silent

Linear = Callable[..., nn.Module]
RESULT = Inference(
    Latency(1, 100, 2.0, 1.5, 3.0, 500.0), Latency(64, 9, 8.0, 7.0, None, 8000.0), 999, "fp32", "cpu", "2026"
)


@pytest.fixture
def few_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inference, "MAX_CALLS", 3)


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Replace the measurement, and return a list that records the batch sizes."""
    sizes: list[int] = []

    def measure(builder: object, benchmark: Benchmark, device: str, batch_size: int) -> Inference:
        sizes.append(batch_size)
        return replace(RESULT, batch=replace(RESULT.batch, batch_size=batch_size))

    monkeypatch.setattr(inference, "measure_inference", measure)
    return sizes


class Watched(nn.Module):
    """Records how it is called."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(64, 10)
        self.calls: list[tuple[int, bool, bool, bool]] = []

    def forward(self, x: Tensor) -> Tensor:
        deterministic = torch.are_deterministic_algorithms_enabled()
        self.calls.append((len(x), self.training, torch.is_grad_enabled(), deterministic))
        out: Tensor = self.head(x.flatten(1))
        return out


@pytest.mark.usefixtures("few_calls")
def test_model_is_called_as_in_an_evaluation(tiny: Benchmark) -> None:
    model = Watched()
    result = measure_inference(lambda: model, tiny, "cpu", 64)
    watched = [call for call in model.calls if call[0] in (1, 64)]
    assert {call[0] for call in watched} == {1, 64}
    assert watched[-1][1:] == (False, False, True)
    assert sum(call[0] == 1 for call in model.calls) >= 3 + 2  # the warm-up is not counted
    assert (result.single.batch_size, result.single.calls) == (1, 3)
    assert (result.batch.batch_size, result.batch.calls, result.batch.p99) == (64, 3, None)
    assert result.batch.images_per_second == pytest.approx(64 / (result.batch.mean / 1000))
    assert result.precision == "fp32"
    assert result.peak_memory > 4 * 650


def test_percentiles_are_those_of_the_calls() -> None:
    latency = summarize_calls([n / 1000 for n in range(1, 102)], batch_size=2)
    assert (latency.mean, latency.p50, latency.p99) == pytest.approx((51.0, 51.0, 100.0))
    assert latency.images_per_second == pytest.approx(2 / 0.051)
    assert latency.calls == 101


def test_percentile_needs_a_hundred_calls() -> None:
    assert summarize_calls([0.001] * 99, 1).p99 is None
    assert summarize_calls([0.001] * 100, 1).p99 == pytest.approx(1.0)


@pytest.mark.parametrize(("seconds", "calls"), [(0.0001, 1000), (0.01, 200), (0.05, 100), (1.0, 10), (60.0, 1)])
def test_slow_models_are_called_fewer_times(seconds: float, calls: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inference, "_seconds", lambda *_: seconds)
    assert inference._latency(lambda: None, 1, torch.device("cpu")).calls == pytest.approx(calls, abs=1)


def test_inference_is_measured_on_request_only(tiny: Benchmark, linear: Linear, measured: list[int]) -> None:
    request = CheckRequest("mine", tiny, "cpu")
    assert check(request, linear).inference is None
    verdict = check(replace(request, inference_batch=16), linear)
    assert verdict.inference is not None
    assert verdict.inference.batch.batch_size == 16
    assert measured == [16]


def test_oversize_model_is_not_run(tiny: Benchmark, linear: Linear, measured: list[int]) -> None:
    benchmark = replace(tiny, budget=Budget(max_params=10, max_hours=1))
    verdict = check(CheckRequest("mine", benchmark, "cpu", inference_batch=16), linear)
    assert (verdict.inference, measured) == (None, [])
    assert any("inference not measured" in note for note in verdict.notes)


def test_batch_that_does_not_fit_is_a_note(tiny: Benchmark, linear: Linear, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(inference, "_measure", fail)
    verdict = check(CheckRequest("mine", tiny, "cpu", inference_batch=16), linear)
    (note,) = (note for note in verdict.notes if "inference not measured" in note)
    assert "batch of 16" in note
    with pytest.raises(DoesNotFit):
        measure_inference(linear, tiny, "cpu", 16)
    with pytest.raises(InputError, match=r"resnet8.*batch of 16"):
        measure_specs(silent, ["resnet8"], tiny, "cpu", 16)


def test_cached_inference_of_the_same_batch_is_used_again(tiny: Benchmark, measured: list[int]) -> None:
    measurement = Measurement.read(read_run_config("resnet8"), tiny, "cpu")
    measurement.cost = ModelCost(1, 1)
    measurement.write()
    for size in (16, 16, 32):
        (result,) = measure_specs(silent, ["resnet8"], tiny, "cpu", size)
        assert result.batch.batch_size == size
    assert measured == [16, 32]
    assert Measurement.read(read_run_config("resnet8"), tiny, "cpu").cost == measurement.cost
