"""Fixtures for tests of runs: a run that trains in half a second, and its record."""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from benchmarks.datasets.cache import CachedDataset
from benchmarks.definition.benchmark import Benchmark
from benchmarks.definition.config_parser import read_run_config
from benchmarks.definition.versions import commit
from benchmarks.execution.progress import Progress, silent
from benchmarks.records.store import RunRecord
from benchmarks.runs.dispatch import execute_run
from benchmarks.runs.run import Run
from benchmarks.training.checkpoint import TrainingStopped

SPEC = "resnet8+width=0.5+drop_path=0.2"


@pytest.fixture(autouse=True)
def _restore_determinism() -> Iterator[None]:
    """Restore torch's defaults, because a run enables deterministic algorithms for the whole process."""
    yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """Train with one thread, which is fastest for networks this small even if the machine is busy."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session", autouse=True)
def _one_commit() -> Iterator[None]:
    """Make all tests see the same commit, even if a new commit is made while they run."""
    current = commit()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("benchmarks.runs.resume_checks.commit", lambda: current)
        yield


@pytest.fixture(scope="session")
def make_run(tiny: Benchmark, digits: CachedDataset) -> Callable[[Path], Run]:
    """Return a function that builds the run with a given output folder."""

    def make(out: Path) -> Run:
        known = {"params": 19_000, "macs": 200_000, "predicted_hours": 0.01}
        return Run(read_run_config(SPEC), tiny, 0, digits, "cpu", out, "baseline+drop_path", **known)  # type: ignore[arg-type]

    return make


@pytest.fixture
def run(make_run: Callable[[Path], Run], tmp_path: Path) -> Run:
    return make_run(tmp_path / "runs")


@pytest.fixture(scope="session")
def finished_run(make_run: Callable[[Path], Run], tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Return the run whose output folder contains the files of `finished_record`; tests must not modify them."""
    return make_run(tmp_path_factory.mktemp("finished"))


@pytest.fixture(scope="session")
def finished_record(finished_run: Run) -> RunRecord:
    """Return the record of the uninterrupted run."""
    return execute_run(silent, finished_run)


@pytest.fixture
def save_after_each_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.training.checkpoint.SAVE_INTERVAL_FACTOR", 0)


def stop_at_epoch(epoch: int) -> Callable[[Progress], None]:
    """Return a progress callback that sends SIGTERM when the given epoch (counted from 0) begins."""

    def report(progress: Progress) -> None:
        if progress.done == epoch:
            os.kill(os.getpid(), signal.SIGTERM)

    return report


@pytest.fixture
def stop_run() -> Callable[[Run, int], None]:
    """Return a function that trains a run until SIGTERM stops it at the start of an epoch (counted from 0)."""

    def stop(run: Run, epoch: int) -> None:
        with pytest.raises(TrainingStopped):
            execute_run(stop_at_epoch(epoch), run)

    return stop
