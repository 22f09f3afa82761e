import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from benchmarks.budget import memory
from benchmarks.budget.memory import PeakMemory, free_memory

CPU = torch.device("cpu")
MIB = 2**20
SIZE = 64 * MIB
MIN_PEAK = SIZE - 4 * MIB  # Linux counts the pages of a process in batches, so the last few may be missing


@pytest.fixture
def supported_peak() -> PeakMemory:
    peak = PeakMemory(nn.Linear(4, 4), CPU)
    if not peak.is_supported:
        pytest.skip("this system does not reset the peak memory of a process")
    return peak


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_peak_contains_freed_memory(supported_peak: PeakMemory) -> None:
    before = supported_peak.bytes()
    torch.ones(SIZE, dtype=torch.uint8)  # freed immediately
    after = supported_peak.bytes()
    assert before is not None
    assert after is not None
    assert before < MIN_PEAK <= after


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.usefixtures("supported_peak")
def test_peak_contains_the_model() -> None:
    model = nn.Linear(4096, 4096, bias=False)
    peak = PeakMemory(model, CPU).bytes()
    assert peak is not None
    assert peak >= MIN_PEAK


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.usefixtures("supported_peak")
def test_peak_does_not_contain_earlier_memory() -> None:
    torch.ones(256 * MIB, dtype=torch.uint8)
    peak = PeakMemory(nn.Linear(4, 4), CPU).bytes()
    assert peak is not None
    assert peak < 128 * MIB


def test_peak_is_unknown_if_it_cannot_be_reset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "CLEAR_REFS", tmp_path / "missing" / "clear_refs")
    assert PeakMemory(nn.Linear(4, 4), CPU).bytes() is None


def test_free_memory_of_the_cpu() -> None:
    assert free_memory("cpu") > 0
