"""Watch the limits of a file check from outside."""

import errno
import os
import stat
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import psutil

from arch.text import plural
from benchmarks.sandbox.errors import FileCheckFailed
from benchmarks.sandbox.limits import SandboxLimits
from benchmarks.sandbox.processes import process_tree

CHECK_INTERVAL_SECONDS = 0.05
MAX_WATCH_SHARE = 0.2  # largest fraction of the time to spend on checking limits


class LimitWatch:
    """The limits of one check, and the processes and the scratch folder that they apply to.

    Args:
        pid: The child; its descendants are watched, too.
        scratch: The folder that they can write to.
        limits: The limits, with a memory limit.
    """

    def __init__(self, pid: int, scratch: Path, limits: SandboxLimits) -> None:
        self.pid, self.scratch, self.limits = pid, scratch, limits
        self._deadline = time.monotonic() + limits.seconds
        self._next_check = 0.0

    def check(self) -> None:
        """Raise FileCheckFailed if a limit is exceeded. All but the time limit are checked at intervals."""
        started = time.monotonic()
        if started >= self._deadline:
            raise FileCheckFailed(f"it took longer than {self.limits.seconds:g} s (--time-limit)")
        if started < self._next_check:
            return
        self._check_resources()
        finished = time.monotonic()
        pause = (finished - started) * (1 / MAX_WATCH_SHARE - 1)
        self._next_check = finished + max(CHECK_INTERVAL_SECONDS, pause)

    def _check_resources(self) -> None:
        limits, processes = self.limits, process_tree(self.pid)
        if len(processes) > limits.processes:
            raise FileCheckFailed(f"it started more than {limits.processes} processes")
        unlisted = _unlisted_files(processes)
        scratch_device = self.scratch.stat().st_dev
        memory = sum(size for (device, _), size in unlisted.items() if device != scratch_device)
        for process in processes:
            with suppress(psutil.Error):
                memory += process.memory_info().rss
        if memory > limits.memory:
            raise FileCheckFailed(
                f"it ran out of memory: it used more than the limit of {limits.describe_memory_limit()} in "
                f"{plural(len(processes), 'process', 'processes')}"
            )
        disk, files = _scratch_usage(self.scratch, limits.files)
        disk += sum(size for (device, _), size in unlisted.items() if device == scratch_device)
        if disk > limits.disk or files > limits.files:
            raise FileCheckFailed(f"it wrote more than {limits.disk / 2**30:.1f} GiB or {limits.files:,} files to disk")


def _unlisted_files(processes: Sequence[psutil.Process]) -> dict[tuple[int, int], int]:
    """Return the bytes of open files that no folder lists, by device and inode: removed files and those in memory."""
    sizes = {}
    for process in processes:
        with suppress(OSError):
            for entry in os.scandir(f"/proc/{process.pid}/fd"):
                with suppress(OSError):
                    file = os.stat(entry.path)
                    if stat.S_ISREG(file.st_mode) and not file.st_nlink:
                        sizes[file.st_dev, file.st_ino] = 512 * file.st_blocks
    return sizes


def _scratch_usage(scratch: Path, max_files: int) -> tuple[int, int]:
    """Return the total size in bytes and the number of files in a folder; counting stops above `max_files`.

    A folder that cannot be opened, because its path is too long or its files are hidden, counts as too many files.
    """
    disk, files, folders = 0, 0, [str(scratch)]
    while folders and files <= max_files:
        try:
            with os.scandir(folders.pop()) as entries:
                for entry in entries:
                    files += 1
                    with suppress(FileNotFoundError):
                        disk += 512 * entry.stat(follow_symlinks=False).st_blocks
                        if entry.is_dir(follow_symlinks=False):
                            folders.append(entry.path)
        except OSError as error:
            if error.errno in (errno.ENAMETOOLONG, errno.EACCES):
                return disk, max_files + 1
    return disk, files
