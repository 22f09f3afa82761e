"""`JournalFile`: the default storage of a study, a log of operations that several processes append to."""

import io
import json
import os
from pathlib import Path
from typing import Any

from filelock import FileLock
from optuna.exceptions import StorageInternalError
from optuna.storages.journal import JournalFileBackend

from arch.errors import InputError

LOCK_POLL_SECONDS = 0.002  # while another process appends, which takes less than a millisecond
SQLITE_MAGIC = b"SQLite format 3\0"


class JournalFile(JournalFileBackend):
    """A journal of Optuna that survives killed processes and full disks.

    Optuna's backend cannot read a journal any more if something is appended to an incomplete line, and waits 30 seconds
    for the lock of a killed process. Here, an incomplete last line is removed before anything is appended, and the lock
    is one of the operating system, which ends with its process. Data are not forced to the disk, which would take most
    of the time: a power failure may remove the last operations, but not the records of finished runs.

    Args:
        path: The file, which is created if it does not exist.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(str(path))
        self.path = path
        self._file_lock = FileLock(f"{path}.lock")

    def check_format(self) -> None:
        """Raise an InputError if the file is not a journal."""
        with self.path.open("rb") as file:
            start = file.readline()
        if start.startswith(SQLITE_MAGIC):
            raise InputError(f"it is an SQLite file: use sqlite:///{self.path.resolve()}")
        try:
            is_journal = not start.endswith(b"\n") or "op_code" in json.loads(start)
        except (ValueError, TypeError):
            is_journal = False
        if not is_journal:
            raise InputError("it is not a journal of Optuna")

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Append operations.

        Raises:
            StorageInternalError: If they cannot be written. The file is then unchanged.
        """
        lines = "".join(json.dumps(log, separators=(",", ":")) + "\n" for log in logs).encode()
        try:
            with self._file_lock.acquire(poll_interval=LOCK_POLL_SECONDS), self.path.open("r+b", buffering=0) as file:
                _remove_incomplete_line(file)
                end = file.seek(0, os.SEEK_END)
                if file.write(lines) != len(lines):
                    file.truncate(end)
                    raise OSError(f"only a part of an operation could be written to {self.path} (disk full?)")
        except OSError as error:
            raise StorageInternalError(str(error)) from error


def _remove_incomplete_line(file: io.FileIO) -> None:
    if not file.seek(0, os.SEEK_END):
        return
    file.seek(-1, os.SEEK_END)
    if file.read(1) != b"\n":
        file.seek(0)
        file.truncate(file.readall().rfind(b"\n") + 1)
