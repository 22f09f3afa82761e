"""The local executor: calls run in child processes, so that the command itself neither loads torch nor uses a GPU."""

import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import wait
from typing import Any

from benchmarks.execution.environment import set_worker_environment
from benchmarks.execution.executor import Executor, Future, Session
from benchmarks.execution.progress import Report, silent
from benchmarks.execution.signals import STOP_SIGNALS, StopRequest
from benchmarks.execution.socket_folder import use_short_socket_folder
from benchmarks.execution.worker_process import PROCESS_CONTEXT, WorkerProcess

MAX_WAIT_SECONDS = 3600.0  # the system counts milliseconds in an int, which overflows after 24 days


class LocalExecutor(Executor):
    """Calls functions in child processes of this one."""

    def start(self) -> None:
        """Import torch in the background, so that the first call starts sooner."""
        set_worker_environment()
        if sys.platform == "linux":
            from multiprocessing.forkserver import ensure_running
            from multiprocessing.resource_tracker import ensure_running as ensure_tracker

            use_short_socket_folder()
            PROCESS_CONTEXT.set_forkserver_preload(["timm_ablate", "benchmarks.execution.preload"])
            ensure_tracker()  # started first, because ensure_running would start it and unblock the signals
            previous_mask = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
            try:
                ensure_running()  # with signals blocked, because a signal to the process group must not end the server
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, previous_mask)

    @contextmanager
    def session(self, runs_per_device: int = 1) -> Iterator["LocalSession"]:
        """See `Executor.session`."""
        self.start()
        with StopRequest(STOP_SIGNALS) as stop:
            session = LocalSession(stop, runs_per_device)
            try:
                yield session
            finally:
                session.kill_all()
        if stop():
            raise stop.error()


class LocalSession(Session):
    """Worker processes of a `LocalExecutor`."""

    def __init__(self, stop: StopRequest, max_workers: int) -> None:
        self._stop, self._max_workers = stop, max_workers
        self._workers: dict[Future, WorkerProcess] = {}
        self._reports: dict[Future, Report] = {}

    @property
    def has_capacity(self) -> bool:
        """See `Session.has_capacity`."""
        return len(self._workers) < self._max_workers and not self._stop()

    def submit(
        self, function: str, *args: Any, time_limit: float | None = None, on_progress: Report = silent
    ) -> Future:
        """See `Session.submit`."""
        future = Future()
        self._workers[future] = WorkerProcess(function, args, time_limit)
        self._reports[future] = on_progress
        return future

    def wait(self) -> list[Future]:
        """See `Session.wait`. Returns one future at a time, so that no outcome is lost if a later callback raises."""
        while self._workers:
            for future in self._ready_futures():
                if self._receive(future):
                    return [future]
        return []

    def kill_all(self) -> None:
        """Kill all workers."""
        for worker in self._workers.values():
            worker.kill()

    def _receive(self, future: Future) -> bool:
        """Handle the next message of a worker. Return whether the call has finished and `wait` should return it."""
        kind, content = self._workers[future].receive()
        if kind == "progress":
            self._reports[future](content)
            return False
        self._workers.pop(future).kill()
        del self._reports[future]
        future.outcome = content
        return not (self._stop() and isinstance(content, Exception))  # a worker that was asked to stop may fail

    def _ready_futures(self) -> list[Future]:
        """Wait until a worker sends a message, exits or exceeds its deadline, and return the futures of such workers.

        If the command is asked to stop, forward the request to all workers.
        """
        if self._stop():
            for worker in self._workers.values():
                worker.ask_to_stop()
        sources = {source: future for future, worker in self._workers.items() for source in worker.sources()}
        remaining = min(worker.deadline for worker in self._workers.values()) - time.monotonic()
        ready = wait([*sources, self._stop.receiver], min(max(0.0, remaining), MAX_WAIT_SECONDS))
        if self._stop.receiver in ready:
            self._stop.drain()
        late = [future for future, worker in self._workers.items() if worker.is_late()]
        return list(dict.fromkeys([*(sources[source] for source in ready if source in sources), *late]))
