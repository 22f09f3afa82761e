import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.budget import peak
from benchmarks.execution.device import device_name
from benchmarks.studies import peak_throughput

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peak, "MATRIX_SIZES", {"cpu": 16})
    monkeypatch.setattr(peak_throughput, "COPY_SIZES", {"cpu": 1000})
    monkeypatch.setattr(peak, "MIN_PEAK_WINDOW_SECONDS", 1e-6)


@pytest.fixture
def timed_work(monkeypatch: pytest.MonkeyPatch) -> list[Callable[[], Any]]:
    """Return a list that records the timed functions, and make each call appear to take two seconds."""
    timed: list[Callable[[], Any]] = []

    def take_two_seconds(work: Callable[[], Any], device: torch.device) -> float:
        timed.append(work)
        return 2.0

    monkeypatch.setattr(peak_throughput, "seconds_per_call", take_two_seconds)
    return timed


def verdict(model: str, macs: int | None, images: float | None) -> str:
    throughput = None if images is None else {"training": {"median": images}}
    fixed = {"cost": {"params": 1234}, "hours": {"predicted": 0.5}}
    return json.dumps({"model": model, "macs": macs, "throughput": throughput, **fixed})


def printed_lines(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> list[str]:
    monkeypatch.setattr("sys.argv", ["peak_throughput", "--device", "cpu", *arguments])
    peak_throughput.main()
    return capsys.readouterr().out.splitlines()


def test_measurements_of_this_device_are_positive_and_finite() -> None:
    for measured in (peak.matrix_throughput(CPU, torch.float32), peak_throughput.copy_bandwidth(CPU)):
        assert measured > 0
        assert math.isfinite(measured)


@pytest.mark.parametrize(("free", "expected"), [(2**40, 1000), (16 * 4 * 100, 100)])
def test_copied_tensors_fit_in_memory(
    free: int, expected: int, timed_work: list[Callable[[], Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peak_throughput, "free_memory", lambda _: free)
    peak_throughput.copy_bandwidth(CPU)
    assert timed_work[0]().numel() == expected


def test_peak_is_measured_in_the_precision_of_the_recipe(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "float32" in printed_lines([], monkeypatch, capsys)[0]
    assert "bfloat16" in printed_lines(["--precision", "bf16"], monkeypatch, capsys)[0]


def test_copy_counts_reads_and_writes(timed_work: list[Callable[[], Any]]) -> None:
    assert peak_throughput.copy_bandwidth(CPU) == 2 * 4 * 1000 / 2.0
    assert torch.equal(timed_work[0](), torch.ones(1000))


@pytest.mark.usefixtures("timed_work")
def test_without_verdicts_only_the_peak_is_printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(peak_throughput, "matrix_throughput", lambda *_: 5e12)
    monkeypatch.setattr(peak_throughput, "copy_bandwidth", lambda *_: 7e9)
    (line,) = printed_lines([], monkeypatch, capsys)
    for fact in (device_name("cpu"), "5 TFLOP/s", "float32", "7 GB/s", f"n = {peak.NUM_PEAK_WINDOWS}"):
        assert fact in line


@pytest.mark.usefixtures("timed_work")
def test_each_timed_verdict_has_a_row_with_its_share_of_the_peak(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(peak_throughput, "matrix_throughput", lambda *_: 12e12)
    verdicts = [
        verdict("timed", 500_000_000, 1000.0),
        verdict("not timed", 500_000_000, None),
        verdict("not counted", None, 1000.0),
        verdict("slow", 1_000_000_000, 50.0),
    ]
    (tmp_path / "verdicts.jsonl").write_text("\n".join(verdicts) + "\n")
    lines = printed_lines([str(tmp_path / "verdicts.jsonl")], monkeypatch, capsys)
    assert lines[4:] == [
        "| timed | 1,234 | 0.500 | 1,000 | 0.500 | 3 | 25.0% |",  # 6 * 0.5e9 * 1000 = 3e12
        "| slow | 1,234 | 1.000 | 50 | 0.500 | 0.3 | 2.5% |",
    ]


@pytest.mark.usefixtures("timed_work")
def test_peak_as_json_has_units_of_one(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(peak_throughput, "matrix_throughput", lambda *_: 5e12)
    monkeypatch.setattr(peak_throughput, "copy_bandwidth", lambda *_: 7e9)
    (line,) = printed_lines(["--json"], monkeypatch, capsys)
    figures = json.loads(line)
    assert (figures["flops"], figures["bytes_per_second"], figures["precision"]) == (5e12, 7e9, "fp32")
