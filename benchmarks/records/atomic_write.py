"""Files that survive a crash: written beside the old one, flushed to the disk, renamed over it."""

import glob
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil


def replace_file(path: Path, write: Callable[[Path], object]) -> None:
    """Lets `write` make the file under a temporary name and puts it in place, on the disk, whole or not at all.

    Raises the OSError that hindered it; the old file is then as it was, and no temporary one is left.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    start = f".{path.name}.{socket.gethostname()[:40]}."
    temporary = path.with_name(f"{start}{os.getpid()}.tmp")
    for left_over in path.parent.glob(f"{glob.escape(start)}*.tmp"):  # by a process that was killed while it wrote
        pid = left_over.name.removeprefix(start).removesuffix(".tmp")
        if pid.isdigit() and not psutil.pid_exists(int(pid)):
            left_over.unlink(missing_ok=True)
    try:
        write(temporary)
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Puts the names in a folder on the disk, where the system can."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # some network file systems refuse it
            os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Lets an OSError say which file it was about, and what is lacking."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, f"cannot write {path}: {error.strerror or error}") from error
