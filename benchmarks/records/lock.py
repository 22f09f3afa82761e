"""One command at a time in one output folder, on one computer or on several that share the folder. Knows no torch.

The system's own lock keeps two commands of one computer apart, and is gone with its holder. On a file system where it
reaches no further than one computer, the file beside it tells who holds the folder and beats while it does.
"""

import json
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil
from filelock import FileLock, Timeout
from pydantic import TypeAdapter

from arch.errors import InputError
from benchmarks.records.atomic_write import replace_file

BEAT = 5.0  # seconds between two signs of life
LONGEST_HOLDER = 4096  # bytes that its file may have
PATIENCE = 3 * BEAT  # without one, after which a holder on another computer is taken for dead


@dataclass(frozen=True)
class LockHolder:
    """A process that no other can be taken for, whatever becomes of its pid and of the clock."""

    pid: int
    host: str
    boot: str  # changes when the computer is started anew
    namespace: str  # of pids: containers of one computer count them each for itself
    started: str  # when the process was, as the system counts it

    @classmethod
    def of_this_process(cls) -> "LockHolder":
        """Who we are."""
        return cls(os.getpid(), socket.gethostname(), _boot(), _namespace(), _start_time(os.getpid()) or "")

    def is_gone(self) -> bool | None:
        """Whether it has ended; None where that cannot be known from here."""
        if self.host != socket.gethostname():
            return None
        if self.boot != _boot():
            return True
        if self.namespace != _namespace():
            return None
        return _start_time(self.pid) != self.started

    def __str__(self) -> str:
        return f"pid {self.pid} on {self.host}"


class FolderLock:
    """Holds a folder for one command; a killed one holds it no more."""

    def __init__(self, folder: Path, sleep: Callable[[float], None] = time.sleep) -> None:
        self.folder, self._sleep = folder, sleep
        self._lock = FileLock(folder / ".lock")
        self._path = folder / ".holder.json"
        self._done = threading.Event()
        self._me = LockHolder.of_this_process()

    def __enter__(self) -> Self:
        """Raises InputError where another command has the folder, naming it."""
        try:
            with suppress(NotImplementedError):  # a file system without locks: the holder's file has to do
                self._lock.acquire(blocking=False)
        except Timeout as error:
            raise self._taken(self._seen()) from error
        except OSError as error:
            raise InputError(f"cannot lock --out {self.folder}: {error.strerror or error}") from error
        try:
            self._wait_until_gone()
            self._write()
            if not self.is_ours():
                raise self._taken(self._seen())
        except BaseException:
            self._lock.release()
            raise
        self._done.clear()
        threading.Thread(target=self._beat, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        if self.is_ours():
            with suppress(OSError):
                self._path.unlink()
        self._lock.release()

    def is_ours(self) -> bool:
        """Whether nobody has taken the folder over, as is done to a holder that has shown no life for long."""
        seen = self._seen()
        return seen is not None and seen[0] == self._me

    def _wait_until_gone(self) -> None:
        """Returns when the last holder is known to have ended, or is silent."""
        seen = self._seen()
        if seen is None or seen[0].is_gone():
            return
        if seen[0].is_gone() is None:
            self._sleep(PATIENCE)
            if self._seen() == seen:
                return
        raise self._taken(seen)

    def _taken(self, seen: tuple[LockHolder, int] | None) -> InputError:
        who = f" ({seen[0]})" if seen else ""
        return InputError(f"another run{who} is writing to {self.folder}: wait for it, or give another --out")

    def _seen(self) -> tuple[LockHolder, int] | None:
        """The holder and its last sign of life, which is compared with another but never with a clock."""
        try:
            if not self._path.is_file():  # a pipe would be waited for
                return None
            with self._path.open("rb") as file:
                holder: LockHolder = TypeAdapter(LockHolder).validate_json(file.read(LONGEST_HOLDER))
                return holder, os.fstat(file.fileno()).st_mtime_ns
        except (OSError, ValueError):
            return None

    def _write(self) -> None:
        content = json.dumps(asdict(self._me))
        try:
            replace_file(self._path, lambda file: file.write_text(content))
        except OSError as error:
            raise InputError(f"cannot write to --out {self.folder}: {error.strerror or error}") from error

    def _beat(self) -> None:
        while not self._done.wait(BEAT):
            with suppress(OSError):
                seen = self._seen()
                if seen is not None and seen[0] != self._me:  # taken over: two must not write here
                    os.kill(os.getpid(), signal.SIGTERM)
                    return
                os.utime(self._path)  # works on a full disk too


def holder_of(folder: Path) -> LockHolder | None:
    """Who holds a folder now, for all that can be known from here."""
    seen = FolderLock(folder)._seen()
    return None if seen is None or seen[0].is_gone() else seen[0]


def _boot() -> str:
    """Of Linux; elsewhere nothing tells one start of the computer from another for sure."""
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return ""


def _namespace() -> str:
    with suppress(OSError):
        return os.readlink("/proc/self/ns/pid")
    return ""


def _start_time(pid: int) -> str | None:
    """In the system's own count, which setting the clock does not change; None where there is no such process."""
    with suppress(OSError):
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()  # man 5 proc
        return None if state in "ZX" else fields[18]
    with suppress(psutil.Error, ValueError, OverflowError):  # a pid that is none
        return str(psutil.Process(pid).create_time())
    return None
