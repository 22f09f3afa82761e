import errno
import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.records.atomic_write import naming, replace_file, sync_folder

NO_SPACE = OSError(errno.ENOSPC, "No space left on device")


@pytest.fixture
def old(tmp_path: Path) -> Path:
    path = tmp_path / "folder" / "file.json"
    replace_file(path, lambda file: file.write_text("an old and long content"))
    return path


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_content_is_replaced_whole(old: Path) -> None:
    replace_file(old, lambda file: file.write_text("new"))
    assert old.read_text() == "new"
    assert names(old.parent) == ["file.json"]


def test_folders_are_made_where_they_lack(tmp_path: Path) -> None:
    replace_file(tmp_path / "a" / "b" / "file", lambda file: file.write_bytes(b"new"))
    assert (tmp_path / "a" / "b" / "file").read_bytes() == b"new"


def half(file: Path) -> None:
    file.write_text("half of")
    raise NO_SPACE


def nothing(file: Path) -> None:
    raise NO_SPACE


def interrupted(file: Path) -> None:
    file.write_text("half of")
    raise KeyboardInterrupt


def forgotten(file: Path) -> None:
    """Returns without having written anything."""


@pytest.mark.parametrize(
    ("write", "error"),
    [
        (half, OSError),
        (nothing, OSError),
        (interrupted, KeyboardInterrupt),
        (forgotten, FileNotFoundError),
    ],
)
def test_where_writing_fails_the_old_file_stays_and_nothing_else(
    old: Path, write: Callable[[Path], None], error: type[BaseException]
) -> None:
    with pytest.raises(error):
        replace_file(old, write)
    assert old.read_text() == "an old and long content"
    assert names(old.parent) == ["file.json"]


@pytest.mark.parametrize("name", ["os.fsync", "pathlib.Path.replace"])
def test_where_putting_in_place_fails_the_old_file_stays_and_nothing_else(
    old: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise NO_SPACE

    with monkeypatch.context() as patch:
        patch.setattr(name, fail)
        with pytest.raises(OSError, match="No space left"):
            replace_file(old, lambda file: file.write_text("new"))
    assert old.read_text() == "an old and long content"
    assert names(old.parent) == ["file.json"]


def test_a_folder_in_the_place_of_the_file_stays(tmp_path: Path) -> None:
    (tmp_path / "file" / "inside").mkdir(parents=True)
    with pytest.raises(OSError, match="directory"):
        replace_file(tmp_path / "file", lambda file: file.write_text("new"))
    assert names(tmp_path) == ["file"]
    assert names(tmp_path / "file") == ["inside"]


def test_a_file_in_the_place_of_the_folder_stays(tmp_path: Path) -> None:
    (tmp_path / "folder").write_text("a file")
    with pytest.raises(OSError, match=r"(?i)exists|directory"):
        replace_file(tmp_path / "folder" / "file", lambda file: file.write_text("new"))
    assert (tmp_path / "folder").read_text() == "a file"


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs Linux's /proc")
def test_the_content_reaches_the_disk_before_its_name_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def note_sync(handle: int) -> None:
        synced = Path(os.readlink(f"/proc/self/fd/{handle}"))
        steps.append("folder" if synced == tmp_path else synced.read_text())
        fsync(handle)

    def note_rename(path: Path, target: Path) -> Path:
        steps.append(f"rename to {target.name}")
        return replace(path, target)

    monkeypatch.setattr(os, "fsync", note_sync)
    monkeypatch.setattr(Path, "replace", note_rename)
    replace_file(tmp_path / "file", lambda file: file.write_text("new"))
    assert steps == ["new", "rename to file", "folder"]


def test_a_file_system_that_does_not_sync_folders_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fsync = os.fsync

    def only_files(handle: int) -> None:
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            raise OSError(errno.EINVAL, "Invalid argument")
        fsync(handle)

    monkeypatch.setattr(os, "fsync", only_files)
    replace_file(tmp_path / "file", lambda file: file.write_text("new"))
    assert (tmp_path / "file").read_text() == "new"


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs Linux's /proc")
def test_no_handle_is_left_open(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for write in (half, nothing):
        with pytest.raises(OSError, match="No space left"):
            replace_file(old, write)
    replace_file(old, lambda file: file.write_text("new"))
    sync_folder(old.parent)
    assert len(os.listdir("/proc/self/fd")) == before


def test_two_processes_that_write_one_file_do_not_meet(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write_while_another_does(file: Path) -> None:
        file.write_text("ours")
        with monkeypatch.context() as patch:
            patch.setattr(os, "getpid", lambda: -1)
            replace_file(old, lambda other: other.write_text("theirs"))
        assert old.read_text() == "theirs"

    replace_file(old, write_while_another_does)
    assert old.read_text() == "ours"
    assert names(old.parent) == ["file.json"]


@pytest.mark.parametrize("error", [NO_SPACE, PermissionError(errno.EACCES, "Permission denied", "/elsewhere")])
def test_an_error_names_the_file_and_what_is_lacking(error: OSError) -> None:
    with pytest.raises(type(error)) as raised, naming(Path("/runs/net.json")):
        raise error
    assert raised.value.strerror == f"cannot write /runs/net.json: {error.strerror}"
    assert raised.value.errno == error.errno
    assert str(raised.value).endswith(f"cannot write /runs/net.json: {error.strerror}")
    assert raised.value.__cause__ is error


def test_an_error_without_a_number_names_the_file_too() -> None:
    with pytest.raises(OSError, match="cannot write net: the disk is on fire"), naming(Path("net")):
        raise OSError("the disk is on fire")
    with pytest.raises(OSError, match="cannot write net: "), naming(Path("net")):
        raise shutil.SameFileError("net and net are one")


def test_other_errors_and_none_pass_by() -> None:
    with pytest.raises(ZeroDivisionError), naming(Path("net")):
        raise ZeroDivisionError
    with naming(Path("net")):
        pass
