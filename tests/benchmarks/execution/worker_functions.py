"""Functions for worker processes, which import this module by its unqualified name."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from filelock import FileLock

from arch.errors import InputError
from benchmarks.execution.progress import Progress, Report
from benchmarks.execution.signals import StopRequest

LOCK_TIMEOUT = 30  # seconds


def echo(report: Report, *args: Any) -> tuple[Any, ...]:
    return args


def count_to(report: Report, total: int) -> None:
    for done in range(total):
        report(Progress("counting", done, total, f"at {done}"))


def raise_input_error(report: Report) -> None:
    raise InputError("no such thing: valid: this, that")


def raise_error(report: Report) -> None:
    raise ZeroDivisionError("the first line\nand another")


def raise_error_without_message(report: Report) -> None:
    raise MemoryError


def return_a_function(report: Report) -> Callable[[], None]:
    return lambda: None


def kill_itself(report: Report, number: int) -> None:
    os.kill(os.getpid(), number)
    time.sleep(60)


def leave_with(report: Report, code: int) -> None:
    os._exit(code)


def exit_with(report: Report, code: int) -> None:
    sys.exit(code)


def survive_interrupt(report: Report, code: int) -> None:
    os.kill(os.getpid(), signal.SIGINT)
    os._exit(code)


def describe_process(report: Report) -> tuple[int, bool, str]:
    return os.getpid(), "torch" in sys.modules, os.environ["XDG_CACHE_HOME"]


def visible_devices(report: Report) -> str | None:
    return os.environ.get("CUDA_VISIBLE_DEVICES")


def hold_lock(report: Report, path: str) -> None:
    """Hold a lock until this process ends. If the path is empty, return immediately."""
    if not path:
        return
    with FileLock(path):
        report(Progress("held", 0, 1))
        time.sleep(40)
        Path(path).with_suffix(".ended").touch()


def end_as(report: Report, how: str) -> str:
    if how == "fail":
        raise ZeroDivisionError("by nothing")
    if how == "refuse":
        raise InputError("no such thing")
    if how == "die":
        os._exit(3)
    return how


def end_when_unlocked(report: Report, path: str) -> str:
    """Return once no other process holds the lock."""
    with FileLock(path, timeout=LOCK_TIMEOUT):
        return Path(path).name


def start_process(report: Report, then: str) -> str:
    """Start another process and report its PID."""
    process = subprocess.Popen(["sleep", "300"])
    report(Progress("started", 0, 1, str(process.pid)))
    if then == "hang":
        time.sleep(300)
    return then


def fork_process(report: Report, then: str) -> str:
    """Fork a child with `multiprocessing`, as a data loader does, report its PID, and end or kill this process."""
    child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(300,), daemon=True)
    child.start()
    report(Progress("started", 0, 1, str(child.pid)))
    if then == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    return then


def end_when_asked(report: Report) -> str:
    """Return shortly after SIGTERM."""
    with StopRequest([signal.SIGTERM]) as stop:
        report(Progress("ready", 0, 1))
        while not stop():
            time.sleep(0.01)
        time.sleep(0.1)
        return "saved"


def raise_when_asked(report: Report) -> None:
    end_when_asked(report)
    raise RuntimeError("stopped")


def ignore_requests(report: Report) -> None:
    """Ignore SIGTERM and keep running."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    report(Progress("ready", 0, 1))
    time.sleep(300)


def flood(report: Report) -> None:
    while True:
        report(Progress("flooding", 0, 1, "x" * 1000))


def close_all_files(report: Report) -> None:
    """Close the connection to the parent process and keep running."""
    os.closerange(3, 256)
    time.sleep(300)
