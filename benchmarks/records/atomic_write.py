"""Crash-safe file writes: write to a temporary file, flush it to the disk, then rename it."""

import glob
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


def replace_file(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file completely or not at all; on return it is on the disk.

    Args:
        path: The file to create or replace. Missing folders are created.
        write: Writes the content to the temporary path that it receives.

    Raises:
        OSError: If the file could not be written. The old file is unchanged, and no temporary file remains.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    prefix = f".{path.name}.{socket.gethostname()[:40]}."
    temporary = path.with_name(f"{prefix}{os.getpid()}.tmp")
    _remove_leftovers(path.parent, prefix)
    try:
        write(temporary)
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
    sync_folder(path.parent)


def _remove_leftovers(folder: Path, prefix: str) -> None:
    """Remove the temporary files of processes that were killed while they wrote."""
    for leftover in folder.glob(f"{glob.escape(prefix)}*.tmp"):
        import psutil  # imported late: rarely needed, and commands must start quickly

        pid = leftover.name.removeprefix(prefix).removesuffix(".tmp")
        if pid.isdigit() and not psutil.pid_exists(int(pid)):
            leftover.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Flush a folder's directory entries to disk, if the system supports it."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # some network file systems do not support it
            os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def path_in_error(path: Path) -> Iterator[None]:
    """Add the path to the message of an OSError that is raised in the context."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, f"cannot write {path}: {error.strerror or error}") from error
