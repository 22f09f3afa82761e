"""Test the peak throughput of a device and its cache."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from benchmarks.budget import device_cache, peak
from benchmarks.budget.peak import peak_throughput
from benchmarks.execution.progress import silent

CPU = torch.device("cpu")


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[torch.dtype]:
    """Replace the measurement, and return a list that records the measured types."""
    dtypes: list[torch.dtype] = []

    def measure(device: torch.device, dtype: torch.dtype) -> float:
        dtypes.append(dtype)
        return 1e12 * len(dtypes)

    monkeypatch.setattr(peak, "matrix_throughput", measure)
    return dtypes


def test_peak_is_measured_once_with_date_and_versions(measured: list[torch.dtype], cache: Path) -> None:
    first, second = (peak_throughput(silent, "cpu", "fp32") for _ in range(2))
    assert first == second
    assert measured == [torch.float32]
    assert (first.flops_per_second, first.precision) == (1e12, "fp32")
    assert first.device.startswith("cpu")
    assert "torch" in first.versions
    assert len(first.measured) == len("2026-01-01")
    assert len(list((cache / "timm-ablate" / "peaks").iterdir())) == 1


def test_peak_can_be_measured_again(measured: list[torch.dtype]) -> None:
    peak_throughput(silent, "cpu", "fp32")
    assert peak_throughput(silent, "cpu", "fp32", remeasure=True).flops_per_second == 2e12
    assert peak_throughput(silent, "cpu", "fp32").flops_per_second == 2e12


def test_each_precision_and_version_has_its_own_peak(
    measured: list[torch.dtype], monkeypatch: pytest.MonkeyPatch
) -> None:
    peak_throughput(silent, "cpu", "fp32")
    peak_throughput(silent, "cpu", "bf16")
    monkeypatch.setattr(device_cache, "versions", lambda: {"torch": "99"})
    peak_throughput(silent, "cpu", "fp32")
    assert measured == [torch.float32, torch.bfloat16, torch.float32]


def test_damaged_cache_is_replaced(measured: list[torch.dtype], cache: Path) -> None:
    peak_throughput(silent, "cpu", "fp32")
    (file,) = (cache / "timm-ablate" / "peaks").iterdir()
    file.write_text('{"flops_per_second": "many"}')
    peak_throughput(silent, "cpu", "fp32")
    peak_throughput(silent, "cpu", "fp32")
    assert len(measured) == 2


def test_seconds_are_per_call(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]

    def work() -> None:
        clock[0] += 0.25

    monkeypatch.setattr("time.perf_counter", lambda: clock[0])
    monkeypatch.setattr(peak, "MIN_PEAK_WINDOW_SECONDS", 2.5)
    assert peak.seconds_per_call(work, CPU) == 0.25
    assert clock[0] == 0.25 * (3 + 3 + 10 * peak.NUM_PEAK_WINDOWS)


def test_matrix_product_counts_two_flops_per_mac(monkeypatch: pytest.MonkeyPatch) -> None:
    timed: list[Callable[[], torch.Tensor]] = []

    def take_two_seconds(work: Callable[[], torch.Tensor], device: torch.device) -> float:
        timed.append(work)
        return 2.0

    monkeypatch.setattr(peak, "MATRIX_SIZES", {"cpu": 16})
    monkeypatch.setattr(peak, "seconds_per_call", take_two_seconds)
    assert peak.matrix_throughput(CPU, torch.float32) == 2 * 16**3 / 2.0
    assert timed[0]().shape == (16, 16)
