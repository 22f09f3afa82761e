import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.execution.device import device_name
from benchmarks.studies import peak_throughput as limits

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SIDES", {"cpu": 16})
    monkeypatch.setattr(limits, "COPIED", {"cpu": 1000})
    monkeypatch.setattr(limits, "WINDOW", 1e-6)


@pytest.fixture
def seconds(monkeypatch: pytest.MonkeyPatch) -> list[Callable[[], Any]]:
    """The work that is timed; each takes two seconds."""
    timed: list[Callable[[], Any]] = []

    def two(work: Callable[[], Any], device: torch.device) -> float:
        timed.append(work)
        return 2.0

    monkeypatch.setattr(limits, "_seconds", two)
    return timed


def verdict(model: str, macs: int | None, images: float | None) -> str:
    throughput = None if images is None else {"training": {"median": images}}
    known = {"cost": {"params": 1234}, "hours": {"predicted": 0.5}}
    return json.dumps({"model": model, "macs": macs, "throughput": throughput, **known})


def printed(arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> list[str]:
    monkeypatch.setattr("sys.argv", ["limits", "--device", "cpu", *arguments])
    limits.main()
    return capsys.readouterr().out.splitlines()


def test_the_rates_of_this_device_are_positive_and_finite() -> None:
    for rate in (limits.matrix_rate(CPU, torch.float32), limits.copy_bandwidth(CPU)):
        assert rate > 0
        assert math.isfinite(rate)


def test_the_time_is_that_of_one_call(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]

    def work() -> None:
        clock[0] += 0.25

    monkeypatch.setattr("time.perf_counter", lambda: clock[0])
    monkeypatch.setattr(limits, "WINDOW", 2.5)
    assert limits._seconds(work, CPU) == 0.25
    assert clock[0] == 0.25 * (3 + 3 + 10 * limits.REPEATS)


def test_a_matrix_product_is_two_operations_a_pair(seconds: list[Callable[[], Any]]) -> None:
    assert limits.matrix_rate(CPU, torch.float32) == 2 * 16**3 / 2.0
    assert seconds[0]().shape == (16, 16)


def test_a_copy_reads_and_writes(seconds: list[Callable[[], Any]]) -> None:
    assert limits.copy_bandwidth(CPU) == 2 * 4 * 1000 / 2.0
    assert torch.equal(seconds[0](), torch.ones(1000))


@pytest.mark.usefixtures("seconds")
def test_without_verdicts_only_the_limits_are_printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(limits, "matrix_rate", lambda *_: 5e12)
    monkeypatch.setattr(limits, "copy_bandwidth", lambda *_: 7e9)
    (line,) = printed([], monkeypatch, capsys)
    assert line == f"{device_name('cpu')}: 5 TFLOP/s in float32 matrix products, 7 GB/s copied, n = {limits.REPEATS}"


@pytest.mark.usefixtures("seconds")
def test_each_timed_verdict_has_a_line_with_its_share_of_the_matrix_rate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(limits, "matrix_rate", lambda *_: 12e12)
    verdicts = [
        verdict("timed", 500_000_000, 1000.0),
        verdict("not timed", 500_000_000, None),
        verdict("not counted", None, 1000.0),
        verdict("slow", 1_000_000_000, 50.0),
    ]
    (tmp_path / "verdicts.jsonl").write_text("\n".join(verdicts) + "\n")
    lines = printed([str(tmp_path / "verdicts.jsonl")], monkeypatch, capsys)
    assert lines[4:] == [
        "| timed | 1,234 | 0.500 | 1,000 | 0.500 | 3 | 25.0% |",  # 6 * 0.5e9 * 1000 = 3e12
        "| slow | 1,234 | 1.000 | 50 | 0.500 | 0.3 | 2.5% |",
    ]
