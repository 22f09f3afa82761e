"""Runs work in a child process of its own: the parent loads no torch and holds no GPU.

On Linux the children are forked from a server that has imported torch already, so each starts in milliseconds.
"""

import itertools
import math
import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import suppress
from datetime import timedelta
from multiprocessing.connection import Connection, wait
from pkgutil import resolve_name
from typing import Any, Protocol

import psutil

from arch.errors import InputError
from benchmarks.execution.progress import Progress, Report
from benchmarks.execution.signals import STOP_SIGNALS, StopRequest

CHILD_ENVIRONMENT = {  # read when the libraries load, so it must be set before the children start
    "CUBLAS_WORKSPACE_CONFIG": ":4096:8",  # deterministic matrix products on a GPU
    "GOMP_SPINCOUNT": "10000",  # waiting threads soon sleep: two trainings on one CPU do not starve each other
    # glibc keeps freed memory instead of asking for fresh, zeroed pages at every layer: on a CPU training is 5 to 25%
    # faster and evaluation up to twice as fast (benchmarks/results/), for 15% more memory
    "MALLOC_MMAP_THRESHOLD_": str(2**32),
    "MALLOC_TRIM_THRESHOLD_": str(2**34),
}

LONGEST_WAIT = 3600.0  # seconds; the system counts them in milliseconds, of which an int holds 24 days
STOP_SECONDS = 8.0  # that children have to keep their state once they are asked to stop
CLOSING_SECONDS = 5.0  # that a child may take to end once it can say no more

CONTEXT: Any = multiprocessing.get_context("forkserver" if sys.platform == "linux" else "spawn")


Outcomes = Generator[tuple[int, Any], None, None]  # of `call_each`; to be closed where it is not exhausted


class WorkerFailed(RuntimeError):
    """The work raised an error or its process died. `details` is the child's traceback."""

    def __init__(self, reason: str, details: str = "") -> None:
        super().__init__(reason)
        self.details = details


class Executor(Protocol):
    """What runs work elsewhere: this module, or a cluster (`benchmarks.execution.ray_cluster`) with the same two functions."""

    def call(self, function: str, report: Report, *args: Any) -> Any:
        """See `benchmarks.execution.local.call`."""

    def call_each(
        self,
        function: str,
        arguments: Sequence[tuple[Any, ...]],
        runs_per_device: int,
        report: Callable[[int, Progress], None],
        time_limit: float | None = None,
    ) -> Outcomes:
        """See `benchmarks.execution.local.call_each`."""


class StreamingExecutor(Protocol):
    """An executor whose work may depend on what it has yielded before: this module."""

    def call(self, function: str, report: Report, *args: Any) -> Any:
        """See `benchmarks.execution.local.call`."""

    def call_each(
        self,
        function: str,
        arguments: Iterable[tuple[Any, ...] | None],
        runs_per_device: int,
        report: Callable[[int, Progress], None],
        time_limit: float | Callable[[int], float] | None = None,
    ) -> Outcomes:
        """See `benchmarks.execution.local.call_each`."""


def start() -> None:
    """Lets torch be imported in the background; the first `call` then waits less."""
    _set_environment()
    if sys.platform == "linux":
        from multiprocessing.forkserver import ensure_running
        from multiprocessing.resource_tracker import ensure_running as ensure_tracker

        CONTEXT.set_forkserver_preload(["benchmarks.execution.preload"])
        ensure_tracker()  # otherwise started by the server's start, which would then unblock the signals
        before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
        try:
            ensure_running()  # with them blocked: a signal to all our processes must not end the server of the children
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _set_environment() -> None:
    for name, value in CHILD_ENVIRONMENT.items():
        os.environ.setdefault(name, value)


def take_environment() -> None:
    """For a command that trains in its own process: starts it anew with the environment that children have."""
    if not CHILD_ENVIRONMENT.keys() <= os.environ.keys():
        _set_environment()
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def call(function: str, report: Report, *args: Any) -> Any:
    """Runs `function(report, *args)` in a child and returns what it returns; its progress arrives at `report` here.

    function: "package.module:name", so that the parent need not import what the child does.
    Raises InputError where the child did, WorkerFailed for anything else, and KeyboardInterrupt or Terminated where
    the command was asked to stop.
    """
    [(_, outcome)] = call_each(function, [args], 1, lambda _, progress: report(progress))
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


def call_each(
    function: str,
    arguments: Iterable[tuple[Any, ...] | None],
    runs_per_device: int,
    report: Callable[[int, Progress], None],
    time_limit: float | Callable[[int], float] | None = None,
) -> Outcomes:
    """Runs `function(report, *arguments[i])` for each i, in children of which so many run at once.

    arguments: taken one by one as children become free, so that they may depend on what was yielded before; None
    instead of some means that there is nothing to do before another child has ended, and all is done if none runs.
    Yields (i, what it returned) in the order in which they end; an InputError or WorkerFailed takes the place of what
    was not returned. Progress arrives at `report` with its i. time_limit: seconds after which a child is killed, for
    all or by its i.
    Whatever a child has started dies with it, and leaving the iterator ends all children.
    The first Ctrl-C or SIGTERM lets them end by themselves, for a few seconds, and what they still return is yielded;
    then it is raised here, as KeyboardInterrupt or Terminated. The second one is raised at once.
    """
    start()
    waiting, running, started = iter(arguments), dict[int, _Child](), itertools.count()
    with StopRequest(STOP_SIGNALS) as stop:
        try:
            while True:
                while len(running) < runs_per_device and not stop() and (args := next(waiting, None)) is not None:
                    number = next(started)
                    limit = time_limit(number) if callable(time_limit) else time_limit
                    running[number] = _Child(function, args, limit)
                if not running:
                    break
                for number in _ready(running, stop):
                    kind, content = running[number].receive()
                    if kind == "progress":
                        report(number, content)
                        continue
                    running.pop(number).end()
                    if not (stop() and isinstance(content, Exception)):  # it only did as it was told
                        yield number, content
        finally:
            for child in running.values():
                child.end()
    if stop():
        raise stop.error()


def _ready(running: dict[int, "_Child"], stop: StopRequest) -> list[int]:
    """Waits until a child has something to say, is gone or has had its time; passes a request to stop on."""
    if stop():
        for child in running.values():
            child.ask_to_stop()
    sources = {source: number for number, child in running.items() for source in child.sources()}
    left = min(child.deadline for child in running.values()) - time.monotonic()
    ready = wait([*sources, stop.receiver], min(max(0.0, left), LONGEST_WAIT))
    if stop.receiver in ready:
        stop.drain()
    late = [number for number, child in running.items() if time.monotonic() > child.deadline]
    return list(dict.fromkeys([*(sources[source] for source in ready if source in sources), *late]))


class _Child:
    """One piece of work in a process of its own, with at most `time_limit` seconds for it."""

    def __init__(self, function: str, args: tuple[Any, ...], time_limit: float | None = None) -> None:
        self.time_limit = math.inf if time_limit is None else time_limit
        self.deadline = time.monotonic() + self.time_limit
        self.asked = False
        self.receiver, sender = CONTEXT.Pipe(duplex=False)
        self.process = CONTEXT.Process(target=_child, args=(sender, function, args), daemon=True)
        self.process.start()
        sender.close()

    def sources(self) -> tuple[Any, Any]:
        """What becomes ready when the child has something to say, or is gone."""
        return self.receiver, self.process.sentinel

    def receive(self) -> tuple[str, Any]:
        """("progress", a Progress) or ("outcome", what it returned or an exception), once the child is ready."""
        late = time.monotonic() > self.deadline
        try:
            if self.receiver.poll():
                kind, content = self.receiver.recv()
                if kind != "progress":
                    return "outcome", _outcome(kind, content)
                if not late:
                    return kind, content
        except (EOFError, OSError):  # OSError: killed in the middle of a message
            pass
        if late and self.asked:
            return "outcome", WorkerFailed("it was ended, as it did not stop when asked to")
        if late:
            return "outcome", WorkerFailed(f"it was ended after its time limit of {_in_words(self.time_limit)}")
        self.process.join(CLOSING_SECONDS)
        return "outcome", WorkerFailed(_how_it_died(self.process.exitcode))

    def ask_to_stop(self) -> None:
        """Lets it keep its state and end, within `STOP_SECONDS`."""
        if not self.asked:
            self.asked = True
            self.deadline = time.monotonic() + STOP_SECONDS
            self.process.terminate()

    def end(self) -> None:
        """Ends the process, whatever it is at, with all that it has started."""
        started = []
        with suppress(psutil.Error):  # those in a session of their own too, as torchrun's
            started = psutil.Process(self.process.pid).children(recursive=True)
        if hasattr(os, "killpg"):
            with suppress(ProcessLookupError, PermissionError):  # not yet, or no longer, the head of its group
                os.killpg(self.process.pid, signal.SIGKILL)
        self.process.kill()
        for process in started:
            with suppress(psutil.Error):
                process.kill()
        self.process.join()
        self.receiver.close()


def _in_words(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))


def _outcome(kind: str, content: Any) -> Any:
    if kind == "input error":
        return InputError(content)
    return WorkerFailed(*content) if kind == "error" else content


def _how_it_died(code: int | None) -> str:
    if code is not None and code < 0:
        name = signal.Signals(-code).name
        return f"its process was killed by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")
    if code is None:
        return "its process went on, but could say no more"
    return f"its process ended with exit code {code}"


def _child(sender: Connection, function: str, args: tuple[Any, ...]) -> None:
    if hasattr(os, "setsid"):
        os.setsid()  # the head of a group that is killed as one
    os.dup2(2, 1)  # standard output belongs to the command; what libraries and model files print goes to the other
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)  # which the server of the children holds back
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's, which asks by SIGTERM
    threading.Thread(target=_die_with_parent, daemon=True).start()

    def report(progress: Progress) -> None:
        sender.send(("progress", progress))

    try:
        sender.send(("result", resolve_name(function)(report, *args)))
    except InputError as error:
        sender.send(("input error", str(error)))
    except BrokenPipeError:  # a model file that forked: the parent has its answer already
        pass
    except BaseException as error:  # a model file may raise anything
        try:
            reason = str(error).strip().splitlines() or [""]
        except Exception:
            reason = [""]
        sender.send(("error", (f"{type(error).__name__}: {reason[0]}".removesuffix(": "), traceback.format_exc())))


def _die_with_parent() -> None:
    """A killed parent leaves no child behind to write into its folder."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        if hasattr(os, "killpg"):
            os.killpg(0, signal.SIGKILL)
        os._exit(1)
