"""Allow one command at a time in an output folder, on one computer or on several that share the folder.

The system's file lock excludes other commands on the same computer and is released when its process ends. Where
the file system does not share locks between computers, a file next to the lock names the holder, which updates the
file regularly.
"""

import json
import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from arch.errors import InputError
from benchmarks.records.atomic_write import replace_file
from benchmarks.records.lock_holder import LockHolder

if TYPE_CHECKING:
    from filelock import FileLock

HEARTBEAT_SECONDS = 5.0  # between two heartbeats
HEARTBEAT_TIMEOUT_SECONDS = 3 * HEARTBEAT_SECONDS  # after this, a holder on another computer is considered dead
MAX_HOLDER_BYTES = 4096  # largest size of the file that names the holder


class FolderLock:
    """Lock a folder for one command. The lock of a killed command is released.

    Args:
        folder: The folder.
        sleep: Function that waits for the given number of seconds. Tests replace it.
    """

    def __init__(self, folder: Path, sleep: Callable[[float], None] = time.sleep) -> None:
        self.folder, self._sleep = folder, sleep
        self._lock: FileLock | None = None
        self._holder_path = folder / ".holder.json"
        self._released = threading.Event()
        self._this_process = LockHolder.of_this_process()

    def __enter__(self) -> Self:
        """Lock the folder.

        Raises:
            InputError: If another command has locked the folder. The message names its process.
        """
        from filelock import FileLock, Timeout  # imported late: `ablate --help` and `ablate table` need no lock

        self._lock = FileLock(self.folder / ".lock")
        try:
            with suppress(NotImplementedError):  # without file locks, only the holder's file protects the folder
                self._lock.acquire(blocking=False)
        except Timeout as error:
            raise self._locked_by(self._read_holder()) from error
        except OSError as error:
            raise InputError(f"cannot lock --out {self.folder}: {error.strerror or error}") from error
        try:
            self._wait_for_holder()
            self._write_holder()
            if not self.is_ours():
                raise self._locked_by(self._read_holder())
        except BaseException:
            self._lock.release()
            raise
        self._released.clear()
        threading.Thread(target=self._send_heartbeats, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._released.set()
        if self.is_ours():
            with suppress(OSError):
                self._holder_path.unlink()
        if self._lock is not None:
            self._lock.release()

    def is_ours(self) -> bool:
        """Return whether this command still holds the lock; without heartbeats, another command takes it over."""
        seen = self._read_holder()
        return seen is not None and seen[0] == self._this_process

    def holder(self) -> LockHolder | None:
        """Return the process that holds the folder now, as far as can be determined on this computer."""
        seen = self._read_holder()
        return None if seen is None or seen[0].is_gone() else seen[0]

    def _wait_for_holder(self) -> None:
        """Return if the last holder has ended or sends no heartbeats; otherwise raise InputError."""
        seen = self._read_holder()
        if seen is None or seen[0].is_gone():
            return
        if seen[0].is_gone() is None:
            self._sleep(HEARTBEAT_TIMEOUT_SECONDS)
            if self._read_holder() == seen:
                return
        raise self._locked_by(seen)

    def _locked_by(self, seen: tuple[LockHolder, int] | None) -> InputError:
        holder = f" ({seen[0]})" if seen else ""
        return InputError(f"another run{holder} is writing to {self.folder}: wait for it, or use another --out")

    def _read_holder(self) -> tuple[LockHolder, int] | None:
        """Return the holder and the time of its last heartbeat, which is never compared with the local clock."""
        from pydantic import TypeAdapter

        try:
            if not self._holder_path.is_file():  # opening a named pipe would block
                return None
            with self._holder_path.open("rb") as file:
                holder: LockHolder = TypeAdapter(LockHolder).validate_json(file.read(MAX_HOLDER_BYTES))
                return holder, os.fstat(file.fileno()).st_mtime_ns
        except (OSError, ValueError):
            return None

    def _write_holder(self) -> None:
        content = json.dumps(asdict(self._this_process))
        try:
            replace_file(self._holder_path, lambda file: file.write_text(content))
        except OSError as error:
            raise InputError(f"cannot write to --out {self.folder}: {error.strerror or error}") from error

    def _send_heartbeats(self) -> None:
        while not self._released.wait(HEARTBEAT_SECONDS):
            with suppress(OSError):
                seen = self._read_holder()
                if seen is not None and seen[0] != self._this_process:  # another command has taken over the folder
                    os.kill(os.getpid(), signal.SIGTERM)
                    return
                os.utime(self._holder_path)  # also succeeds on a full disk
