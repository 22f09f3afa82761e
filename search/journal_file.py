"""`JournalFile`: the default storage of a study, a log of operations that several processes append to."""

import io
import json
import os
from collections.abc import Generator
from pathlib import Path
from typing import Any

from optuna.exceptions import StorageInternalError
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock

from arch.errors import InputError

LOCK_TIMEOUT_SECONDS = 5  # an older lock belongs to a killed process, because appending takes less than a millisecond
FIRST_BYTES = b'{"op_code":'  # of every line
SQLITE_MAGIC = b"SQLite format 3\0"


class JournalFile(JournalFileBackend):
    """A journal of Optuna that survives killed processes and full disks.

    Optuna's backend cannot read a journal any more if something is appended to an incomplete line. Here, an incomplete
    last line is removed before anything is appended. Data are not forced to the disk, which would take most of the
    time: a power failure may remove the last operations, but not the records of finished runs.

    Args:
        path: The file, which is created if it does not exist.

    Raises:
        InputError: If the path is not that of a journal.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()  # so that all names of the file have the same lock
        _check_format(self.path)
        super().__init__(str(self.path), JournalFileSymlinkLock(str(self.path), LOCK_TIMEOUT_SECONDS))

    def read_logs(self, log_number_from: int) -> Generator[dict[str, Any], None, None]:
        """Read operations.

        Raises:
            StorageInternalError: If the file cannot be read, is damaged, or was truncated.
        """
        try:
            if self.path.stat().st_size < self._log_number_offset.get(log_number_from, 0):
                raise StorageInternalError("another program has truncated the file")
            yield from super().read_logs(log_number_from)
        except OSError as error:
            raise StorageInternalError(error.strerror or str(error)) from error
        except ValueError as error:
            raise StorageInternalError("a line of the file is damaged") from error

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Append operations.

        Raises:
            StorageInternalError: If they cannot be written. The file is then unchanged.
        """
        lines = "".join(json.dumps(log, separators=(",", ":")) + "\n" for log in logs).encode()
        try:
            self._lock.acquire()
            try:
                with self.path.open("r+b", buffering=0) as file:
                    _append(file, lines)
            finally:
                self._lock.release()
        except OSError as error:
            raise StorageInternalError(error.strerror or str(error)) from error


def check_regular_file(path: Path) -> None:
    """Raise InputError unless the path is that of a regular file, or of a new one in an existing folder."""
    if not path.parent.is_dir():
        raise InputError(f"there is no folder {path.parent}")
    if path.exists() and not path.is_file():
        raise InputError("it is a folder: give a file" if path.is_dir() else "it is not a regular file")


def _check_format(path: Path) -> None:
    check_regular_file(path)
    if not path.exists():
        return
    if not os.access(path, os.W_OK):
        raise InputError("it cannot be written to")
    with path.open("rb") as file:
        start = file.read(max(len(FIRST_BYTES), len(SQLITE_MAGIC)))
    if start.startswith(SQLITE_MAGIC):
        raise InputError(f"it is an SQLite file: use sqlite:///{path}")
    if not start.startswith(FIRST_BYTES) and not FIRST_BYTES.startswith(start):  # the first line may be incomplete
        raise InputError("it is not a journal of Optuna")


def _append(file: io.FileIO, lines: bytes) -> None:
    """Append to a file after the last complete line. If that fails, it keeps its complete lines."""
    end = file.seek(0, os.SEEK_END)
    if end:
        file.seek(-1, os.SEEK_END)
        if file.read(1) != b"\n":
            file.seek(0)
            end = file.truncate(file.readall().rfind(b"\n") + 1)
    file.seek(end)
    if file.write(lines) != len(lines):
        file.truncate(end)
        raise OSError("only a part of an operation could be written (disk full?)")
