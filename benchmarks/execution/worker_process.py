"""One function call in a worker process: its start, its messages and its end."""

import math
import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from multiprocessing.connection import Connection, wait
from pkgutil import resolve_name
from typing import Any

import psutil

from arch.errors import InputError
from arch.plugins import Plugin, active_plugins, line_in_plugin, restore_plugins
from benchmarks.execution.executor import WorkerFailed
from benchmarks.execution.progress import Progress
from benchmarks.execution.signals import STOP_SIGNALS

STOP_SECONDS = 8.0  # time for workers to save their state after a request to stop
CLOSING_SECONDS = 5.0  # time for a worker process to exit after closing its end of the pipe

# On Linux the workers are forked from a server that has imported torch already, so each starts in milliseconds.
PROCESS_CONTEXT: Any = multiprocessing.get_context("forkserver" if sys.platform == "linux" else "spawn")

_HIDING = threading.Lock()


class WorkerProcess:
    """A process that calls one function and sends its progress and outcome to this process."""

    def __init__(self, function: str, args: tuple[Any, ...], time_limit: float | None = None) -> None:
        """Start the process. See `benchmarks.execution.executor.Session.submit` for the arguments."""
        self.time_limit = math.inf if time_limit is None else time_limit
        self.deadline = time.monotonic() + self.time_limit
        self.asked_to_stop = False
        self.receiver, sender = PROCESS_CONTEXT.Pipe(duplex=False)
        # Not a daemon, which may not start the processes of a data loader. `_die_with_parent` ends it with the command.
        arguments = (sender, active_plugins(), function, args)
        self.process = PROCESS_CONTEXT.Process(target=_run_worker, args=arguments, daemon=False)
        with _hidden_main_module():
            self.process.start()
        sender.close()

    def sources(self) -> tuple[Any, Any]:
        """Return the objects that `multiprocessing.connection.wait` waits for: messages, and the end of the process."""
        return self.receiver, self.process.sentinel

    def is_late(self) -> bool:
        """Return whether the process has exceeded its time limit, or the time that it had to stop after a request."""
        return time.monotonic() > self.deadline

    def receive(self) -> tuple[str, Any]:
        """Read the next message of a process that is ready or late.

        Returns:
            `("progress", Progress)`, or `("outcome", returned value or exception)`.
        """
        late = self.is_late()
        try:
            if self.receiver.poll():
                kind, content = self.receiver.recv()
                if kind != "progress":
                    return "outcome", _outcome(kind, content)
                if not late:
                    return kind, content
        except (EOFError, OSError):  # OSError: killed in the middle of a message
            pass
        if late and self.asked_to_stop:
            return "outcome", WorkerFailed(f"killed: did not stop within {STOP_SECONDS:g} s of being asked to")
        if late:
            return "outcome", WorkerFailed(f"killed at its time limit of {timedelta(seconds=round(self.time_limit))}")
        self.process.join(CLOSING_SECONDS)
        return "outcome", WorkerFailed(_cause_of_death(self.process.exitcode))

    def ask_to_stop(self) -> None:
        """Send SIGTERM once, after which the process has `STOP_SECONDS` to save its state and end."""
        if not self.asked_to_stop:
            self.asked_to_stop = True
            self.deadline = time.monotonic() + STOP_SECONDS
            self.process.terminate()

    def kill(self) -> None:
        """Kill the process and every process that it has started, and wait for its end."""
        descendants = []
        with suppress(psutil.Error):  # includes processes in their own sessions, such as torchrun's
            descendants = psutil.Process(self.process.pid).children(recursive=True)
        if hasattr(os, "killpg"):
            with suppress(ProcessLookupError, PermissionError):  # it does not lead a group yet, or has ended
                os.killpg(self.process.pid, signal.SIGKILL)
        self.process.kill()
        for process in descendants:
            with suppress(psutil.Error):
                process.kill()
        self.process.join()
        self.receiver.close()


@contextmanager
def _hidden_main_module() -> Iterator[None]:
    """Hide the script of this process from multiprocessing, which would import and thereby run it in the worker.

    Only one thread hides it at a time. Otherwise, a second thread would save the hidden attributes and restore those.
    """
    with _HIDING:
        main = sys.modules["__main__"]
        hidden = {name: vars(main).get(name) for name in ("__file__", "__spec__")}
        main.__spec__ = main.__file__ = None
        try:
            yield
        finally:
            vars(main).update(hidden)


def _outcome(kind: str, content: Any) -> Any:
    if kind == "input error":
        return InputError(content)
    return WorkerFailed(*content) if kind == "error" else content


def _cause_of_death(exit_code: int | None) -> str:
    if exit_code is not None and exit_code < 0:
        name = signal.Signals(-exit_code).name
        return f"the worker process was killed by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")
    if exit_code is None:
        return "the worker process closed its connection, but did not exit"
    return f"the worker process ended with exit code {exit_code}"


# The code below runs in the worker process.


def _run_worker(sender: Connection, plugins: tuple[Plugin, ...], function: str, args: tuple[Any, ...]) -> None:
    _isolate()

    def report(progress: Progress) -> None:
        sender.send(("progress", progress))

    try:
        restore_plugins(plugins)
        sender.send(("result", resolve_name(function)(report, *args)))
    except InputError as error:
        sender.send(("input error", str(error)))
    except BrokenPipeError:  # if a model file has forked, the command may already have the outcome
        pass
    except BaseException as error:  # a model file may raise anything
        sender.send(("error", (_reason(error), traceback.format_exc())))


def _reason(error: BaseException) -> str:
    """Return the type and the first line of an error, and the last line of a plugin that led to it."""
    try:
        place, first_line = line_in_plugin(error), (str(error).strip().splitlines() or [""])[0]
    except Exception:  # the `__str__` of a model file's error may raise anything
        place, first_line = "", ""
    return f"{place}{type(error).__name__}: {first_line}".removesuffix(": ")


def _isolate() -> None:
    """Separate the process from the command that started it, but end it when that command dies."""
    if hasattr(os, "setsid"):
        os.setsid()  # the leader of a process group, which is killed as one
    os.dup2(2, 1)  # standard output belongs to the command; libraries and model files print to standard error
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)  # the fork server blocks them
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the command handles Ctrl-C, and sends SIGTERM to its workers
    threading.Thread(target=_die_with_parent, daemon=True).start()


def _die_with_parent() -> None:
    """Kill this process group when the command dies, so that no worker continues to write to its folder."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        if hasattr(os, "killpg"):
            os.killpg(0, signal.SIGKILL)
        os._exit(1)
