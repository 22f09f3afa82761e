"""Runs work in a child process of its own: the parent loads no torch and holds no GPU.

On Linux the children are forked from a server that has imported torch already, so each starts in milliseconds.
"""

import multiprocessing
import os
import signal
import sys
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection, wait
from pkgutil import resolve_name
from typing import Any

from arch.errors import InputError
from benchmarks.progress import Progress, Report

CHILD_ENVIRONMENT = {  # read when the libraries load, so it must be set before the children start
    "CUBLAS_WORKSPACE_CONFIG": ":4096:8",  # deterministic matrix products on a GPU
    "GOMP_SPINCOUNT": "10000",  # waiting threads soon sleep: two trainings on one CPU do not starve each other
    # glibc keeps freed memory instead of asking for fresh, zeroed pages at every layer: on a CPU training is 5 to 25%
    # faster and evaluation up to twice as fast (benchmarks/results/), for 15% more memory
    "MALLOC_MMAP_THRESHOLD_": str(2**32),
    "MALLOC_TRIM_THRESHOLD_": str(2**34),
}

CONTEXT: Any = multiprocessing.get_context("forkserver" if sys.platform == "linux" else "spawn")


class ChildFailed(RuntimeError):
    """The work raised an error or its process died. `details` is the child's traceback."""

    def __init__(self, reason: str, details: str = "") -> None:
        super().__init__(reason)
        self.details = details


def start() -> None:
    """Lets torch be imported in the background; the first `call` then waits less."""
    _set_environment()
    if sys.platform == "linux":
        from multiprocessing.forkserver import ensure_running

        CONTEXT.set_forkserver_preload(["benchmarks.preload"])
        ensure_running()


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
    Raises InputError where the child did, ChildFailed for anything else.
    Ctrl-C ends the child and is raised here.
    """
    outcomes = call_each(function, [args], 1, lambda _, progress: report(progress))
    _, outcome = next(outcomes)
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


def call_each(
    function: str,
    arguments: Sequence[tuple[Any, ...]],
    side_by_side: int,
    report: Callable[[int, Progress], None],
) -> Iterator[tuple[int, Any]]:
    """Runs `function(report, *arguments[i])` for each i, in children of which so many run at once.

    Yields (i, what it returned) in the order in which they end; an InputError or ChildFailed takes the place of what
    was not returned. Progress arrives at `report` with its i. Ctrl-C, or leaving the iterator, ends all children.
    """
    start()
    waiting, running = deque(enumerate(arguments)), list[tuple[int, _Child]]()
    try:
        while waiting or running:
            while waiting and len(running) < side_by_side:
                number, args = waiting.popleft()
                running.append((number, _Child(function, args)))
            ready = set(wait([source for _, child in running for source in child.sources()]))
            for number, child in [pair for pair in running if ready.intersection(pair[1].sources())]:
                kind, content = child.receive()
                if kind == "progress":
                    report(number, content)
                    continue
                running.remove((number, child))
                child.end()
                yield number, content
    finally:
        for _, child in running:
            child.end()


class _Child:
    """One piece of work in a process of its own."""

    def __init__(self, function: str, args: tuple[Any, ...]) -> None:
        self.receiver, sender = CONTEXT.Pipe(duplex=False)
        self.process = CONTEXT.Process(target=_child, args=(sender, function, args), daemon=True)
        self.process.start()
        sender.close()

    def sources(self) -> tuple[Any, Any]:
        """What becomes ready when the child has something to say, or is gone."""
        return self.receiver, self.process.sentinel

    def receive(self) -> tuple[str, Any]:
        """("progress", a Progress) or ("outcome", what it returned or an exception), once the child is ready."""
        try:
            if self.receiver.poll():
                kind, content = self.receiver.recv()
                return ("progress", content) if kind == "progress" else ("outcome", _outcome(kind, content))
        except EOFError:
            pass
        self.process.join()
        return "outcome", ChildFailed(_how_it_died(self.process.exitcode))

    def end(self) -> None:
        """Ends the process, whatever it is at."""
        self.process.kill()
        self.process.join()
        self.receiver.close()


def _outcome(kind: str, content: Any) -> Any:
    if kind == "input error":
        return InputError(content)
    return ChildFailed(*content) if kind == "error" else content


def _how_it_died(code: int | None) -> str:
    if code is not None and code < 0:
        name = signal.Signals(-code).name
        return f"its process was killed by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")
    return f"its process ended with exit code {code}"


def _child(sender: Connection, function: str, args: tuple[Any, ...]) -> None:
    os.dup2(2, 1)  # standard output belongs to the command; what libraries and model files print goes to the other
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides
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
        os._exit(1)
