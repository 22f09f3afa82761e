"""The identity of a process that holds a lock."""

import os
import socket
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class LockHolder:
    """Identifies a process uniquely, even across PID reuse and clock changes."""

    pid: int
    host: str
    boot: str  # changes when the computer restarts
    namespace: str  # PID namespace: each container numbers its processes separately
    started: str  # start time of the process, in the system's clock ticks

    @classmethod
    def of_this_process(cls) -> "LockHolder":
        """Identify the calling process."""
        return cls(os.getpid(), socket.gethostname(), _boot_id(), _pid_namespace(), _start_time(os.getpid()) or "")

    def is_gone(self) -> bool | None:
        """Return whether the process has ended; None if that cannot be determined on this computer."""
        if self.host != socket.gethostname():
            return None
        if self.boot != _boot_id():
            return True
        if self.namespace != _pid_namespace():
            return None
        return _start_time(self.pid) != self.started

    def __str__(self) -> str:
        return f"pid {self.pid} on {self.host}"


def _boot_id() -> str:
    """Return Linux's id of the current boot. Other systems have no reliable one."""
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
    return ""


def _pid_namespace() -> str:
    with suppress(OSError):
        return os.readlink("/proc/self/ns/pid")
    return ""


def _start_time(pid: int) -> str | None:
    """Return when a process started, in a count that clock changes do not affect; None if there is no such process."""
    with suppress(OSError):
        state, *fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()  # man 5 proc
        return None if state in "ZX" else fields[18]
    import psutil

    with suppress(psutil.Error, ValueError, OverflowError):  # errors of an impossible PID
        return str(psutil.Process(pid).create_time())
    return None
