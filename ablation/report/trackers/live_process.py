"""The child process of `--track`: follow the runs in training, and send their epochs to one tracker.

python -m ablation.report.trackers.live_process TRACKER FOLDER OUT

It ends when all runs have ended, or when its standard input is closed. An error ends it too, because a new process is
the cleanest way to try again: all epochs are sent again, and replace those that the tracker has.
"""

import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ablation.report.trackers.base import TrackerRun, TrackerWriter
from ablation.report.trackers.convert import to_tracker_run
from ablation.report.trackers.writers import WRITERS
from benchmarks.records.live_runs import read_command, read_live_runs
from benchmarks.records.store import RecordStore

POLL_SECONDS = 1.0  # between two looks at the files
HANG_SECONDS = 120.0  # after this, a call of the tracker's library is considered hung
NICENESS = 10  # of this process, so that it takes no time from the training


class Follower:
    """Sends the runs of a command to a tracker.

    Args:
        writer: The tracker.
        out: The output folder of the runs.
    """

    def __init__(self, writer: TrackerWriter, out: Path) -> None:
        self.writer, self.out, self._store = writer, out, RecordStore(out)
        command = read_command(out)
        self.pending = {run.run_id for run in command.runs} if command else set()
        self._in_progress: dict[str, TrackerRun] = {}  # what was sent of each run that was started, by run id
        self._records_state: tuple[int, ...] = ()

    def poll(self) -> None:
        """Send what is new since the last call."""
        live_runs = {run.run_id: run for run in read_live_runs(self.out) if run.run_id in self.pending}
        ended = self._in_progress.keys() - live_runs.keys()
        for run_id, live_run in live_runs.items():
            self._send(run_id, to_tracker_run(live_run))
        self._finish_recorded()
        for run_id in ended & self.pending:  # a run is recorded before its file is removed, so these have failed
            self.pending.discard(run_id)
            self._stop(run_id)

    def stop_all(self) -> None:
        """End the runs that are still in progress, which were interrupted."""
        for run_id in list(self._in_progress):
            self._stop(run_id)

    def _finish_recorded(self) -> None:
        try:
            stat = self._store.path.stat()
        except OSError:
            return
        state = stat.st_mtime_ns, stat.st_size
        if state == self._records_state:
            return
        self._records_state = state
        for record in self._store.records():
            if record.run_id in self.pending:
                run = to_tracker_run(record)
                self._send(record.run_id, run)
                _call(self.writer.finish, run)
                del self._in_progress[record.run_id]
                self.pending.discard(record.run_id)

    def _send(self, run_id: str, run: TrackerRun) -> None:
        """Send the epochs that were not sent yet. A run that was restarted is sent from its beginning."""
        sent = self._in_progress.get(run_id)
        if sent is None or run.curve[: len(sent.curve)] != sent.curve:
            _call(self.writer.begin, run)
            sent = None
        if new_points := run.curve[len(sent.curve) if sent else 0 :]:
            _call(self.writer.log, run, new_points)
        self._in_progress[run_id] = run

    def _stop(self, run_id: str) -> None:
        _call(self.writer.stop, self._in_progress.pop(run_id))


def _call(function: Callable[..., Any], *args: Any) -> Any:
    """Call a function of the tracker's library, which ends this process if it hangs."""
    timer = threading.Timer(HANG_SECONDS, _exit_as_hung)
    timer.daemon = True
    timer.start()
    try:
        return function(*args)
    finally:
        timer.cancel()


def _exit_as_hung() -> None:
    print(f"TimeoutError: no answer within {HANG_SECONDS:g} s", file=sys.stderr, flush=True)
    os._exit(1)


def _set_at_end_of_input(event: threading.Event) -> None:
    sys.stdin.read()
    event.set()


def main() -> None:
    """Follow the runs until they have ended."""
    tracker, folder, out = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    if hasattr(os, "nice"):
        os.nice(NICENESS)
    training_ended = threading.Event()
    threading.Thread(target=_set_at_end_of_input, args=[training_ended], daemon=True).start()
    follower = Follower(_call(WRITERS[tracker], folder, True), out)
    while follower.pending and not training_ended.wait(POLL_SECONDS):
        follower.poll()
    follower.poll()
    follower.stop_all()


if __name__ == "__main__":
    main()
