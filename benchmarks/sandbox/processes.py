"""Find and kill the processes of a file check, and determine how its child ended."""

import ctypes
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

import psutil

from benchmarks.sandbox.kinds import SandboxKind

PR_SET_CHILD_SUBREAPER = 36  # prctl(2)
SHELL_SIGNAL_OFFSET = 128  # bubblewrap exits with this plus the number of the signal that ended its child
EXIT_TIMEOUT_SECONDS = 1.0  # applies once the child has closed its output
MAX_REAP_ROUNDS = 100


def process_tree(pid: int) -> list[psutil.Process]:
    """Return a process and its descendants; [] if it does not exist."""
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.Error:
        return []


def kill_tree(pid: int) -> None:
    """Kill a process and all its descendants."""
    _kill(process_tree(pid))


def ending_signal(pid: int, kind: SandboxKind) -> signal.Signals | None:
    """Return the signal that ended the child; None if it ended by itself or has not ended.

    The child stays a zombie, so that its pid cannot be reused before it is waited for.
    """
    if not hasattr(os, "waitid"):  # macOS
        return None
    deadline = time.monotonic() + EXIT_TIMEOUT_SECONDS
    while True:
        try:
            status = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT | os.WNOHANG)
        except ChildProcessError:  # reaped by the sandbox
            return None
        if status is not None or time.monotonic() > deadline:
            break
        time.sleep(0.01)
    if status is None:
        return None
    number = status.si_status
    if status.si_code == os.CLD_EXITED:
        number = number - SHELL_SIGNAL_OFFSET if kind == "bubblewrap" else 0
    return as_signal(number)


def as_signal(number: object) -> signal.Signals | None:
    """Return the signal of a number; None if there is no such signal."""
    return signal.Signals(number) if isinstance(number, int) and number in set(signal.Signals) else None


@contextmanager
def adopt_orphans(kind: SandboxKind) -> Iterator[None]:
    """In this context, orphaned descendants become children of this process (Linux); they are killed on exit.

    bubblewrap does not need this, because the kernel ends all processes of a namespace at once.
    """
    if kind == "bubblewrap" or sys.platform != "linux":
        yield
        return
    children_before = {child.pid for child in psutil.Process().children()}
    libc = ctypes.CDLL(None)
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        yield
    finally:
        for _ in range(MAX_REAP_ROUNDS):  # an orphan that forks before it is killed leaves another one
            orphans = [child for child in psutil.Process().children() if child.pid not in children_before]
            if not orphans:
                break
            for orphan in orphans:
                kill_tree(orphan.pid)
        libc.prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


def _kill(processes: Sequence[psutil.Process]) -> None:
    for process in processes:
        with suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(processes, timeout=1)
