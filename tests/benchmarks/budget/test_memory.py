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
SEEN = SIZE - 4 * MIB  # Linux counts a process's pages in lots, so the last few may be missing


@pytest.fixture
def watched() -> PeakMemory:
    peak = PeakMemory(nn.Linear(4, 4), CPU)
    if not peak.watches:
        pytest.skip("this system does not let a process forget its highest mark")
    return peak


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_what_was_taken_for_a_moment_is_seen(watched: PeakMemory) -> None:
    before = watched.bytes()
    torch.ones(SIZE, dtype=torch.uint8)  # and given back at once
    after = watched.bytes()
    assert before is not None
    assert after is not None
    assert before < SEEN <= after


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.usefixtures("watched")
def test_the_model_that_is_there_already_counts() -> None:
    model = nn.Linear(4096, 4096, bias=False)
    peak = PeakMemory(model, CPU).bytes()
    assert peak is not None
    assert peak >= SEEN


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.usefixtures("watched")
def test_what_was_taken_before_is_forgotten() -> None:
    torch.ones(256 * MIB, dtype=torch.uint8)
    peak = PeakMemory(nn.Linear(4, 4), CPU).bytes()
    assert peak is not None
    assert peak < 128 * MIB


def test_where_the_mark_cannot_be_reset_nothing_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "CLEAR_REFS", tmp_path / "missing" / "clear_refs")
    assert PeakMemory(nn.Linear(4, 4), CPU).bytes() is None


def test_some_memory_is_free() -> None:
    assert free_memory("cpu") > 0
