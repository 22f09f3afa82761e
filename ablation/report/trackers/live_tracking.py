"""`--track`: send epochs to experiment trackers while runs are trained.

Each tracker's library runs in a child process, which follows the files of the runs in training. The training does not
depend on it or wait for it.
"""

import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from ablation.report.trackers.export import failure_reason

RETRY_SECONDS = 60.0  # between a failure of a tracker and the next attempt
END_SECONDS = 30.0  # time for a tracker to send the last epochs after the training
INTERRUPTED_SECONDS = 5.0  # the same, after Ctrl-C or an error
TRACKING_SETTINGS = {"WANDB_SILENT": "true", "MLFLOW_DISABLE_TELEMETRY": "true"}


class LiveTracking:
    """Runs one child process per tracker in its `with` block, and starts it again after a failure.

    Args:
        trackers: The names of the trackers.
        out: The output folder of the runs.
        warn: Called with a line at the first failure of each tracker, from another thread.
    """

    def __init__(self, trackers: Sequence[str], out: Path, warn: Callable[[str], None]) -> None:
        self.out, self._warn = out.resolve(), warn
        self._ended, self._patience = threading.Event(), END_SECONDS
        self._threads = [threading.Thread(target=self._supervise, args=[name], daemon=True) for name in trackers]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self._patience = INTERRUPTED_SECONDS
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def _supervise(self, tracker: str) -> None:
        """Run the child process until the training has ended, and again after each failure."""
        reason = self._run_child(tracker)
        if reason:
            self._warn(
                f"warning: --track {tracker}: {reason}; the training is not affected, "
                f"and `ablate export {tracker}` writes the finished runs"
            )
        while reason and not self._ended.wait(RETRY_SECONDS):
            reason = self._run_child(tracker)

    def _run_child(self, tracker: str) -> str:
        """Run the child process once. Return why it failed, or "" if it did not."""
        folder = self.out / "trackers" / tracker
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile("w+", errors="replace") as output:
                process = self._start(tracker, folder, output.fileno())
                if not self._wait(process):
                    return f"it did not finish within {self._patience:g} s and was killed"
                output.seek(0)
                return failure_reason(output.read()) if process.returncode else ""
        except OSError as error:
            return f"cannot write to {folder}: {error.strerror or error}"

    def _start(self, tracker: str, folder: Path, output: int) -> "subprocess.Popen[bytes]":
        root = str(Path(__file__).resolve().parents[3])
        path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "ablation.report.trackers.live_process", tracker, str(folder), str(self.out)],
            env={**TRACKING_SETTINGS, **os.environ, "PYTHONPATH": path},
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            start_new_session=True,  # Ctrl-C does not reach it
        )

    def _wait(self, process: "subprocess.Popen[bytes]") -> bool:
        """Wait for the end of the process, which the end of the training limits. Return whether it ended in time."""
        while process.poll() is None and not self._ended.wait(0.2):
            pass
        assert process.stdin is not None
        process.stdin.close()  # signals the end of the training to the process
        try:
            process.wait(self._patience)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            return False
        return True
