import time
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import pytest

from ablation.analysis.live_status import live_status
from benchmarks.records.live_runs import LiveCommand, LiveRun, PlannedRun
from benchmarks.records.store import FailedRun, RunRecord

STARTED = "2026-01-01T00:00:00+00:00"


@pytest.fixture
def records(make_record: Callable[..., RunRecord]) -> list[RunRecord]:
    """Return records of four runs that took twice the predicted hours."""
    return [make_record("baseline+se", seed, predicted_hours=0.01, hours=0.02) for seed in range(4)]


@pytest.fixture
def command(records: list[RunRecord]) -> LiveCommand:
    runs = tuple(PlannedRun(record.run_id, f"+se seed {record.seed}", 10, 0.01) for record in records)
    return LiveCommand("baseline+se", "0123456789ab", "test", STARTED, 2, runs)


def in_training(record: RunRecord, epochs: int, seconds: float = 6.0) -> dict[str, LiveRun]:
    names = {field.name for field in fields(LiveRun)} & {field.name for field in fields(record)} - {"format", "curve"}
    curve = [{"epoch": float(n), "train_seconds": seconds - 1, "eval_seconds": 1.0} for n in range(1, epochs + 1)]
    run = LiveRun(epochs=10, **{name: getattr(record, name) for name in names})
    return {record.run_id: replace(run, curve=curve, updated=time.time() + 3600)}  # a clock that runs ahead is harmless


def failure(record: RunRecord, finished: str, reason: str = "out of memory") -> FailedRun:
    return FailedRun(record.spec, record.key, record.seed, record.benchmark_id, record.plan, reason, "", finished)


def test_progress_counts_recorded_running_and_failed_runs(records: list[RunRecord], command: LiveCommand) -> None:
    failed = [failure(records[2], "2026-01-01T00:00:09+00:00", "out of\nmemory" + "!" * 1000)]
    status = live_status(command, in_training(records[1], 4), records[:1], failed)
    assert (status["done"], status["total"]) == (3, 6)
    assert status["running"] == [{"run": "+se seed 1", "epoch": 4, "epochs": 10, "eta_seconds": 36.0}]
    [failed_run] = status["failed"]
    assert failed_run["run"] == "+se seed 2"
    assert failed_run["reason"].startswith("out of?memory")
    assert len(failed_run["reason"]) == 500


def test_waiting_runs_are_predicted_from_the_speed_so_far(records: list[RunRecord], command: LiveCommand) -> None:
    # One run took 72 s and four epochs of another 24 s, of which 36 and 14.4 s were predicted.
    status = live_status(command, in_training(records[1], 4), records[:1], [])
    ratio = (72 + 24) / (36 + 14.4)
    assert status["eta_seconds"] == pytest.approx(36 + 2 * 36 * ratio, abs=0.1)


def test_runs_that_share_the_device_end_sooner(records: list[RunRecord], command: LiveCommand) -> None:
    running = in_training(records[0], 5) | in_training(records[1], 5) | in_training(records[2], 5)
    status = live_status(command, running, [], [])
    assert status["eta_seconds"] == pytest.approx((3 * 30 + 60) / 3, abs=0.1)


def test_the_first_epoch_is_predicted(records: list[RunRecord], command: LiveCommand) -> None:
    [run] = live_status(command, in_training(records[0], 0), [], [])["running"]
    assert run["eta_seconds"] == pytest.approx(36.0)


def test_the_time_since_the_last_epoch_is_subtracted(records: list[RunRecord], command: LiveCommand) -> None:
    [(run_id, run)] = in_training(records[0], 5).items()
    [status] = live_status(command, {run_id: replace(run, updated=time.time() - 10)}, [], [])["running"]
    assert status["eta_seconds"] == pytest.approx(20.0, abs=2.0)
    [status] = live_status(command, {run_id: replace(run, updated=0.0)}, [], [])["running"]
    assert status["eta_seconds"] == 0.0


def test_a_command_that_has_ended_has_no_remaining_time(records: list[RunRecord], command: LiveCommand) -> None:
    status = live_status(command, {}, records[:3], [])
    expected: dict[str, Any] = {"running": [], "failed": [], "done": 5, "total": 6, "eta_seconds": None}
    assert status == expected


def test_earlier_failures_and_other_runs_are_not_part_of_it(
    records: list[RunRecord], command: LiveCommand, make_record: Callable[..., RunRecord]
) -> None:
    other = make_record("baseline+cbam")
    failed = [failure(records[0], "2025-12-31T00:00:00+00:00"), failure(other, "2026-01-02T00:00:00+00:00")]
    failed.append(failure(records[3], "2026-01-01T00:00:05+00:00"))  # succeeded afterwards
    status = live_status(command, in_training(other, 1), [other, records[3]], failed)
    assert status["running"] == status["failed"] == []
    assert status["done"] == 3
