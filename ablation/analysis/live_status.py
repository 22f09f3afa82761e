"""The state of the command that trains in an output folder: its progress, its failures, and the remaining time."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from arch.text import printable
from benchmarks.records.live_runs import LiveCommand, LiveRun, PlannedRun
from benchmarks.records.lock import FolderLock
from benchmarks.records.store import FailedRun, RunRecord

MAX_REASON_CHARACTERS = 500


def is_training(out: Path) -> bool:
    """Return whether a command uses an output folder now, as far as can be determined on this computer."""
    return FolderLock(out).holder() is not None


def live_status(
    command: LiveCommand,
    live_runs: Mapping[str, LiveRun],
    records: Sequence[RunRecord],
    failed_runs: Sequence[FailedRun],
) -> dict[str, Any]:
    """Return the progress of a command as plain data for JSON.

    Args:
        command: What the command trains.
        live_runs: The runs that it trains now by their id; none if it has ended or was killed.
        records: The records of the output folder.
        failed_runs: The failed runs of the output folder.

    Returns:
        The running runs with their epochs, the failed runs with the reasons, the numbers of runs that are done and of
        all runs, and the remaining seconds, which are None if nothing is running.
    """
    planned = {run.run_id: run for run in command.runs}
    finished = {record.run_id: record for record in records if record.run_id in planned}
    running = {run_id: run for run_id, run in live_runs.items() if run_id in planned and run_id not in finished}
    failed = {
        run.run_id: printable(run.reason)[:MAX_REASON_CHARACTERS]
        for run in failed_runs
        if run.run_id in planned.keys() - finished.keys() - running.keys() and run.finished >= command.started
    }
    ratio = _measured_ratio(planned, running, finished)
    seconds = {run_id: _seconds_left(planned[run_id], run, ratio) for run_id, run in running.items()}
    waiting = [run for run_id, run in planned.items() if run_id not in {**finished, **running, **failed}]
    return {
        "running": [
            {
                "run": printable(planned[run_id].label),
                "epoch": len(run.curve),
                "epochs": planned[run_id].epochs,
                "eta_seconds": seconds[run_id],
            }
            for run_id, run in running.items()
        ],
        "failed": [{"run": printable(planned[run_id].label), "reason": reason} for run_id, reason in failed.items()],
        "done": command.num_recorded + len(finished),
        "total": command.num_recorded + len(planned),
        "eta_seconds": _total_seconds(list(seconds.values()), [_predicted_seconds(run) * ratio for run in waiting]),
    }


def _predicted_seconds(run: PlannedRun) -> float:
    return 3600 * run.predicted_hours


def _epoch_seconds(run: LiveRun) -> float:
    """Return the seconds of all finished epochs."""
    return sum(epoch.get("train_seconds", 0.0) + epoch.get("eval_seconds", 0.0) for epoch in run.curve)


def _measured_ratio(
    planned: Mapping[str, PlannedRun], running: Mapping[str, LiveRun], finished: Mapping[str, RunRecord]
) -> float:
    """Return measured over predicted seconds of what the command has trained so far; 1 at first."""
    measured = sum(_epoch_seconds(run) for run in running.values()) + sum(3600 * run.hours for run in finished.values())
    predicted = sum(_predicted_seconds(planned[run_id]) for run_id in finished) + sum(
        _predicted_seconds(planned[run_id]) * len(run.curve) / max(1, planned[run_id].epochs)
        for run_id, run in running.items()
    )
    return measured / predicted if measured > 0 and predicted > 0 else 1.0


def _seconds_left(planned: PlannedRun, run: LiveRun, ratio: float) -> float:
    """Return the remaining seconds of a run, from its own speed once an epoch has finished."""
    if run.curve:
        remaining = _epoch_seconds(run) / len(run.curve) * max(0, planned.epochs - len(run.curve))
    else:
        remaining = _predicted_seconds(planned) * ratio
    return round(max(0.0, remaining - max(0.0, time.time() - run.updated)), 1)


def _total_seconds(running: Sequence[float], waiting: Sequence[float]) -> float | None:
    """Return the seconds until the last run ends, if as many runs as now are trained at once until then."""
    if not running:
        return None
    return round(max(max(running), (sum(running) + sum(waiting)) / len(running)), 1)
