import errno
import os
import shutil
import socket
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.records.atomic_write import path_in_error, replace_file, sync_folder

NO_SPACE = OSError(errno.ENOSPC, "No space left on device")


@pytest.fixture
def old_file(tmp_path: Path) -> Path:
    path = tmp_path / "folder" / "file.json"
    replace_file(path, lambda file: file.write_text("the old and longer content"))
    return path


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_content_is_replaced(old_file: Path) -> None:
    replace_file(old_file, lambda file: file.write_text("new"))
    assert old_file.read_text() == "new"
    assert names(old_file.parent) == ["file.json"]


def test_missing_folders_are_created(tmp_path: Path) -> None:
    replace_file(tmp_path / "a" / "b" / "file", lambda file: file.write_bytes(b"new"))
    assert (tmp_path / "a" / "b" / "file").read_bytes() == b"new"


def write_half(file: Path) -> None:
    file.write_text("half of")
    raise NO_SPACE


def write_nothing(file: Path) -> None:
    raise NO_SPACE


def write_and_interrupt(file: Path) -> None:
    file.write_text("half of")
    raise KeyboardInterrupt


def return_without_writing(file: Path) -> None:
    """Return without writing a file."""


@pytest.mark.parametrize(
    ("write", "error"),
    [
        (write_half, OSError),
        (write_nothing, OSError),
        (write_and_interrupt, KeyboardInterrupt),
        (return_without_writing, FileNotFoundError),
    ],
)
def test_failed_write_leaves_only_the_old_file(
    old_file: Path, write: Callable[[Path], None], error: type[BaseException]
) -> None:
    with pytest.raises(error):
        replace_file(old_file, write)
    assert old_file.read_text() == "the old and longer content"
    assert names(old_file.parent) == ["file.json"]


@pytest.mark.parametrize("name", ["os.fsync", "pathlib.Path.replace"])
def test_failed_rename_leaves_only_the_old_file(old_file: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise NO_SPACE

    with monkeypatch.context() as patch:
        patch.setattr(name, fail)
        with pytest.raises(OSError, match="No space left"):
            replace_file(old_file, lambda file: file.write_text("new"))
    assert old_file.read_text() == "the old and longer content"
    assert names(old_file.parent) == ["file.json"]


def test_folder_is_not_replaced_by_a_file(tmp_path: Path) -> None:
    (tmp_path / "file" / "inside").mkdir(parents=True)
    with pytest.raises(OSError, match="directory"):
        replace_file(tmp_path / "file", lambda file: file.write_text("new"))
    assert names(tmp_path) == ["file"]
    assert names(tmp_path / "file") == ["inside"]


def test_file_is_not_replaced_by_a_folder(tmp_path: Path) -> None:
    (tmp_path / "folder").write_text("a file")
    with pytest.raises(OSError, match=r"(?i)exists|directory"):
        replace_file(tmp_path / "folder" / "file", lambda file: file.write_text("new"))
    assert (tmp_path / "folder").read_text() == "a file"


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs Linux's /proc")
def test_content_is_flushed_before_the_rename(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def record_sync(handle: int) -> None:
        synced = Path(os.readlink(f"/proc/self/fd/{handle}"))
        steps.append("folder" if synced == tmp_path else synced.read_text())
        fsync(handle)

    def record_rename(path: Path, target: Path) -> Path:
        steps.append(f"rename to {target.name}")
        return replace(path, target)

    monkeypatch.setattr(os, "fsync", record_sync)
    monkeypatch.setattr(Path, "replace", record_rename)
    replace_file(tmp_path / "file", lambda file: file.write_text("new"))
    assert steps == ["new", "rename to file", "folder"]


def test_file_systems_that_cannot_sync_folders_are_supported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fsync = os.fsync

    def sync_only_files(handle: int) -> None:
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            raise OSError(errno.EINVAL, "Invalid argument")
        fsync(handle)

    monkeypatch.setattr(os, "fsync", sync_only_files)
    replace_file(tmp_path / "file", lambda file: file.write_text("new"))
    assert (tmp_path / "file").read_text() == "new"


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs Linux's /proc")
def test_no_file_handle_is_left_open(old_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for write in (write_half, write_nothing):
        with pytest.raises(OSError, match="No space left"):
            replace_file(old_file, write)
    replace_file(old_file, lambda file: file.write_text("new"))
    sync_folder(old_file.parent)
    assert len(os.listdir("/proc/self/fd")) == before


def test_two_processes_can_write_the_same_file(old_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write_during_another_write(file: Path) -> None:
        file.write_text("ours")
        with monkeypatch.context() as patch:
            patch.setattr(os, "getpid", lambda: -1)
            replace_file(old_file, lambda other: other.write_text("theirs"))
        assert old_file.read_text() == "theirs"

    replace_file(old_file, write_during_another_write)
    assert old_file.read_text() == "ours"
    assert names(old_file.parent) == ["file.json"]


@pytest.mark.parametrize("error", [NO_SPACE, PermissionError(errno.EACCES, "Permission denied", "/elsewhere")])
def test_error_names_the_file_and_the_reason(error: OSError) -> None:
    with pytest.raises(type(error)) as raised, path_in_error(Path("/runs/net.json")):
        raise error
    assert raised.value.strerror == f"cannot write /runs/net.json: {error.strerror}"
    assert raised.value.errno == error.errno
    assert str(raised.value).endswith(f"cannot write /runs/net.json: {error.strerror}")
    assert raised.value.__cause__ is error


def test_error_without_errno_names_the_file() -> None:
    with pytest.raises(OSError, match="cannot write net: the disk is on fire"), path_in_error(Path("net")):
        raise OSError("the disk is on fire")
    with pytest.raises(OSError, match="cannot write net: "), path_in_error(Path("net")):
        raise shutil.SameFileError("net and net are one")


def test_other_errors_are_not_changed() -> None:
    with pytest.raises(ZeroDivisionError), path_in_error(Path("net")):
        raise ZeroDivisionError
    with path_in_error(Path("net")):
        pass


def test_temporary_files_of_killed_processes_are_removed(tmp_path: Path) -> None:
    prefix = f".file.{socket.gethostname()[:40]}."
    for pid in (2**22 + 1, os.getppid()):  # the first exceeds the maximum PID
        (tmp_path / f"{prefix}{pid}.tmp").touch()
    replace_file(tmp_path / "file", lambda file: file.write_text("new"))
    assert names(tmp_path) == [f"{prefix}{os.getppid()}.tmp", "file"]
