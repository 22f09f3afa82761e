"""The interface of executors, which call functions in worker processes."""

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from benchmarks.execution.progress import Report, silent


class WorkerFailed(RuntimeError):
    """A function raised an error in its worker process, or the process died.

    Attributes:
        details: Traceback in the worker process; empty if the process died.
    """

    def __init__(self, reason: str, details: str = "") -> None:
        super().__init__(reason)
        self.details = details


@dataclass(eq=False)
class Future:
    """The outcome of a submitted call.

    Attributes:
        outcome: What the function returned, or the `InputError` or `WorkerFailed` that ended the call. None until
            `Session.wait` has returned this future.
    """

    outcome: Any = None

    def result(self) -> Any:
        """Return what the function returned, or raise the error that ended the call."""
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome


class Session(ABC):
    """The calls in progress on an executor."""

    @property
    @abstractmethod
    def has_capacity(self) -> bool:
        """Whether another call should be submitted now; False once the command has been asked to stop."""

    @abstractmethod
    def submit(
        self, function: str, *args: Any, time_limit: float | None = None, on_progress: Report = silent
    ) -> Future:
        """Start `function(report, *args)` in a new worker process.

        Args:
            function: `"package.module:name"`, so that this process need not import the worker's modules.
            args: Positional arguments after `report`, the function to which the worker sends its progress.
            time_limit: Seconds after which the worker is killed, with every process that it has started.
            on_progress: Called in this process, from within `wait`, with each progress message of the worker.
        """

    @abstractmethod
    def wait(self) -> list[Future]:
        """Wait until a call has finished, and return the futures that have finished since the last `wait`.

        Once the command has been asked to stop, this method asks the workers to save their state and exit. It still
        returns the calls that succeed after that, but not those that fail because they were stopped.

        Returns:
            At least one future, or an empty list if no call is in progress.
        """


class Executor(ABC):
    """Calls functions in worker processes."""

    @abstractmethod
    def session(self, runs_per_device: int = 1) -> AbstractContextManager[Session]:
        """Open a session, in which at most `runs_per_device` calls share a device.

        No worker outlives the session: exiting it, even through an exception, kills the workers that are still
        running. The first Ctrl-C or SIGTERM lets the workers save their state (see `Session.wait`), and the session
        raises `KeyboardInterrupt` or `Terminated` on exit. The second signal raises the exception immediately.
        """

    def call(self, function: str, on_progress: Report, *args: Any, time_limit: float | None = None) -> Any:
        """Call `function(report, *args)` in a worker process, and return what it returns.

        Args:
            function: See `Session.submit`, also for the other arguments.

        Raises:
            InputError: If the function raised one.
            WorkerFailed: If the function raised any other error, or its process died or exceeded `time_limit`.
            KeyboardInterrupt, Terminated: If the command was asked to stop.
        """
        with self.session() as session:
            future = session.submit(function, *args, time_limit=time_limit, on_progress=on_progress)
            session.wait()
        return future.result()
