"""Runs work in a child process of its own: the parent loads no torch and holds no GPU.

On Linux the children are forked from a server that has imported torch already, so each starts in milliseconds.
"""

import multiprocessing
import os
import signal
import sys
import threading
import traceback
from multiprocessing.connection import Connection, wait
from pkgutil import resolve_name
from typing import Any

from arch.errors import InputError
from benchmarks.progress import Progress, Report

CHILD_ENVIRONMENT = {  # read when the libraries load, so it must be set before the children start
    "CUBLAS_WORKSPACE_CONFIG": ":4096:8",  # deterministic matrix products on a GPU
    "GOMP_SPINCOUNT": "10000",  # waiting threads soon sleep: two trainings on one CPU do not starve each other
}

CONTEXT: Any = multiprocessing.get_context("forkserver" if sys.platform == "linux" else "spawn")


class ChildFailed(RuntimeError):
    """The work raised an error or its process died. `details` is the child's traceback."""

    def __init__(self, reason: str, details: str = "") -> None:
        super().__init__(reason)
        self.details = details


def start() -> None:
    """Lets torch be imported in the background; the first `call` then waits less."""
    for name, value in CHILD_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    if sys.platform == "linux":
        from multiprocessing.forkserver import ensure_running

        CONTEXT.set_forkserver_preload(["benchmarks.preload"])
        ensure_running()


def call(function: str, report: Report, *args: Any) -> Any:
    """Runs `function(report, *args)` in a child and returns what it returns; its progress arrives at `report` here.

    function: "package.module:name", so that the parent need not import what the child does.
    Raises InputError where the child did, ChildFailed for anything else.
    Ctrl-C ends the child and is raised here.
    """
    start()
    receiver, sender = CONTEXT.Pipe(duplex=False)
    process = CONTEXT.Process(target=_child, args=(sender, function, args), daemon=True)
    process.start()
    sender.close()
    try:
        return _receive(receiver, process, report)
    finally:
        process.kill()
        process.join()
        receiver.close()


def _receive(receiver: Connection, process: Any, report: Report) -> Any:
    while True:
        wait([receiver, process.sentinel])
        if not receiver.poll():
            process.join()
            raise ChildFailed(_how_it_died(process.exitcode))
        try:
            kind, content = receiver.recv()
        except EOFError:
            process.join()
            raise ChildFailed(_how_it_died(process.exitcode)) from None
        if kind == "result":
            return content
        if kind == "input error":
            raise InputError(content)
        if kind == "error":
            raise ChildFailed(*content)
        report(content)


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
