"""The page of `ablate watch`: the HTML report on a plan in training, computed again when files have changed."""

import html
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ablation.analysis.live_status import is_training, live_status
from ablation.analysis.records import RecordedPlan, RecordQuery, find, unrecorded
from ablation.analysis.table import TableSettings
from ablation.report.html.curve_data import curve_data
from ablation.report.html.page import content_security_policy, page_scripts, render_page, script_json
from ablation.report.html.page_data import page_data
from ablation.report.table_output import make_annotated_table
from arch.errors import InputError
from benchmarks.records.live_runs import LiveCommand, LiveRun, read_command, read_live_runs
from benchmarks.records.paths import RECORDS_FILE
from benchmarks.records.store import FailedRun, RecordStore, RunRecord

MIN_INTERVAL_SECONDS, MAX_INTERVAL_SECONDS = 1.0, 10.0  # between two computations
INTERVAL_FACTOR = 10  # the same, in multiples of the time of the last one, to leave the processor to the training
RECORD_FILES = (
    RECORDS_FILE,
    "failed_runs.jsonl",
    "labels.json",
    "plans.jsonl",
    "seed_requests.jsonl",
    "live/command.json",
)
WAITING_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta http-equiv="refresh" content="3"><title>ablate watch</title></head>
<body><p>No results yet: {reason}.</p><p>This page reloads until there are some.</p></body></html>
"""


class LivePage:
    """The page and its data. Both are kept until a file changes, and are computed by one thread at a time.

    Args:
        out: The output folder.
        plan: The plan; None: that of the last command that trained, otherwise that of the latest record.
    """

    def __init__(self, out: Path, plan: str | None = None) -> None:
        self.out, self.plan, self._store = out, plan, RecordStore(out)
        self._lock, self._next_update = threading.Lock(), 0.0
        self._records_state: object = None
        self._recorded: RecordedPlan | None = None
        self._runs: tuple[Sequence[RunRecord], Sequence[FailedRun]] = ((), ())
        self._report: dict[str, Any] = {}
        self._data: dict[str, Any] | None = None
        self._waiting_for = ""

    def data(self) -> dict[str, Any] | None:
        """Return what the page shows now; None if there is nothing to show yet."""
        with self._lock:
            started = time.monotonic()
            if started >= self._next_update:
                try:
                    self._data = self._compute()
                except InputError as error:
                    self._data, self._waiting_for = None, str(error)
                ended = time.monotonic()
                pause = min(INTERVAL_FACTOR * (ended - started), MAX_INTERVAL_SECONDS)
                self._next_update = ended + max(pause, MIN_INTERVAL_SECONDS)
            return self._data

    def data_json(self) -> bytes:
        """Return the data as JSON. Raises LookupError if there is nothing to show yet."""
        data = self.data()
        if data is None:
            raise LookupError(self._waiting_for)
        return script_json(data).encode()

    def html(self) -> bytes:
        """Return the page, which fetches the data periodically."""
        data = self.data()
        if data is None:
            return WAITING_PAGE.format(reason=html.escape(self._waiting_for)).encode(errors="replace")
        return render_page(data, live=True).encode()

    def _compute(self) -> dict[str, Any]:
        command, live_runs = read_command(self.out), {run.run_id: run for run in read_live_runs(self.out)}
        state = self._state_of_records()
        if state != self._records_state or self._recorded is None:
            self._recorded = self._find(command, live_runs)
            table = make_annotated_table(self._recorded, TableSettings(test_images=True), with_findings=False)
            self._report, self._records_state = page_data(self._recorded, table), state
            self._runs = self._store.records(curves=False), self._store.failed_runs()
        data = {**self._report, "curves": curve_data(self._recorded, self._running_curves(live_runs))}
        if command is not None:
            running = live_runs if is_training(self.out) else {}
            data["status"] = live_status(command, running, *self._runs)
        return data

    def _state_of_records(self) -> object:
        return [_file_state(self.out / name) for name in RECORD_FILES]

    def _find(self, command: LiveCommand | None, live_runs: Mapping[str, LiveRun]) -> RecordedPlan:
        """Return the plan with its records, which it need not have if one of its runs is in training."""
        query = RecordQuery(self.plan)
        if command is not None and self.plan in (None, command.plan):
            split: Any = command.split
            query = RecordQuery(command.plan, benchmark_id=command.benchmark_id, split=split)
        try:
            return find(self._store, query, curves=True)
        except InputError:
            first = next(iter(live_runs.values()), None)
            if first is None or self.plan not in (None, first.plan):
                raise
            return unrecorded(self._store, first.plan, first)

    def _running_curves(self, live_runs: Mapping[str, LiveRun]) -> dict[str, list[list[dict[str, float]]]]:
        curves: dict[str, list[list[dict[str, float]]]] = {}
        for run in live_runs.values():
            if self._recorded is not None and run.benchmark_id == self._recorded.benchmark_id:
                curves.setdefault(run.key, []).append(run.curve)
        return curves


def page_policy() -> str:
    """Return the content security policy of the page, which no other page may embed."""
    return f"{content_security_policy(page_scripts(), live=True)}; frame-ancestors 'none'"


def _file_state(path: Path) -> tuple[int, int] | None:
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_size
