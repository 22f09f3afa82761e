import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NoReturn

import pytest
from filelock import FileLock

from arch.errors import InputError
from benchmarks.records import lock, lock_holder
from benchmarks.records.lock import HEARTBEAT_TIMEOUT_SECONDS, FolderLock
from benchmarks.records.lock_holder import LockHolder

ROOT = Path(__file__).parents[3]

HOLD = """
import sys, time
from pathlib import Path
from benchmarks.records.lock import FolderLock

with FolderLock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.readline()
"""

IS_GONE = """
import json, sys
from pathlib import Path
from benchmarks.records.lock import LockHolder

print(LockHolder(**json.loads(Path(sys.argv[1]).read_text())).is_gone())
"""

THIS_PROCESS = LockHolder.of_this_process()
SLEEPER = [sys.executable, "-c", "import time; time.sleep(60)"]


def holder_file(folder: Path) -> Path:
    return folder / ".holder.json"


def write_holder(folder: Path, holder: LockHolder) -> None:
    """Simulate a process that holds the folder on a file system whose locks are not visible to this computer."""
    holder_file(folder).write_text(json.dumps(asdict(holder)))


def holder_of(process: subprocess.Popen[bytes]) -> LockHolder:
    return replace(THIS_PROCESS, pid=process.pid, started=lock_holder._start_time(process.pid) or "")


def no_sleep(seconds: float) -> NoReturn:
    raise AssertionError("the lock must not wait")


def refuse_locks(*args: Any, **options: Any) -> NoReturn:
    raise NotImplementedError


def send_heartbeat(folder: Path) -> None:
    """Send a heartbeat that is newer than all previous ones, regardless of the clock."""
    last = holder_file(folder).stat().st_mtime_ns
    os.utime(holder_file(folder), ns=(last, last + 1))


def test_holder_is_named_while_the_folder_is_locked(tmp_path: Path) -> None:
    with FolderLock(tmp_path, no_sleep) as held:
        assert held.is_ours()
        assert LockHolder(**json.loads(holder_file(tmp_path).read_text())) == THIS_PROCESS
    assert not holder_file(tmp_path).exists()
    assert not held.is_ours()
    with FolderLock(tmp_path, no_sleep) as again:
        assert again.is_ours()


def test_lock_of_a_killed_process_is_released(tmp_path: Path, python: Callable[..., Any]) -> None:
    process = python(HOLD, tmp_path)
    assert process.stdout.readline() == "held\n"
    message = rf"another run \(pid {process.pid} on {socket.gethostname()}\) is writing to .*--out"
    with pytest.raises(InputError, match=message), FolderLock(tmp_path, no_sleep):
        pass
    assert json.loads(holder_file(tmp_path).read_text())["pid"] == process.pid
    process.kill()
    process.wait()
    assert holder_file(tmp_path).exists()
    with FolderLock(tmp_path, no_sleep) as held:
        assert held.is_ours()


def test_finished_process_leaves_no_holder_file(tmp_path: Path, python: Callable[..., Any]) -> None:
    process = python(HOLD, tmp_path)
    assert process.stdout.readline() == "held\n"
    process.communicate("\n")
    assert process.returncode == 0
    assert not holder_file(tmp_path).exists()


@pytest.fixture
def without_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Simulate a file system without locks, where only the holder file protects the folder."""
    monkeypatch.setattr(FileLock, "acquire", refuse_locks)


@pytest.mark.usefixtures("without_locks")
def test_without_file_locks_only_a_living_holder_blocks(tmp_path: Path) -> None:
    process = subprocess.Popen(SLEEPER)
    try:
        write_holder(
            tmp_path, replace(THIS_PROCESS, pid=process.pid, started=lock_holder._start_time(process.pid) or "")
        )
        with pytest.raises(InputError, match=rf"another run \(pid {process.pid} on "), FolderLock(tmp_path, no_sleep):
            pass
    finally:
        process.kill()
        process.wait()
    with FolderLock(tmp_path, no_sleep) as held:
        assert held.is_ours()


@pytest.mark.usefixtures("without_locks")
def test_without_file_locks_a_process_cannot_lock_twice(tmp_path: Path) -> None:
    with (
        FolderLock(tmp_path, no_sleep) as held,
        pytest.raises(InputError, match=f"pid {os.getpid()} on "),
        FolderLock(tmp_path, no_sleep),
    ):
        pass
    assert not held.is_ours()
    assert not holder_file(tmp_path).exists()


def test_zombie_process_holds_no_lock(tmp_path: Path) -> None:
    process = subprocess.Popen(SLEEPER)
    write_holder(tmp_path, holder_of(process))
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # the process has ended but is still a zombie
    with FolderLock(tmp_path, no_sleep) as held:
        assert held.is_ours()
    process.wait()


@pytest.mark.parametrize(
    "stale",
    [
        replace(THIS_PROCESS, started="1"),  # our PID, reused from an earlier process
        replace(THIS_PROCESS, pid=2**22 + 1),  # higher than any PID
        replace(THIS_PROCESS, boot="another"),
        replace(THIS_PROCESS, boot="another", namespace="another"),
    ],
)
def test_holder_that_must_have_ended_is_not_waited_for(tmp_path: Path, stale: LockHolder) -> None:
    write_holder(tmp_path, stale)
    assert stale.is_gone() is True
    with FolderLock(tmp_path, no_sleep) as held:
        assert held.is_ours()


REMOTE_HOLDERS = [replace(THIS_PROCESS, host="elsewhere"), replace(THIS_PROCESS, namespace="of another container")]


@pytest.mark.parametrize("holder", REMOTE_HOLDERS)
def test_remote_holder_without_heartbeats_is_taken_over(tmp_path: Path, holder: LockHolder) -> None:
    write_holder(tmp_path, holder)
    waits: list[float] = []
    with FolderLock(tmp_path, waits.append) as held:
        assert held.is_ours()
    assert waits == [HEARTBEAT_TIMEOUT_SECONDS]


@pytest.mark.parametrize("holder", REMOTE_HOLDERS)
def test_remote_holder_with_heartbeats_blocks_and_is_named(tmp_path: Path, holder: LockHolder) -> None:
    write_holder(tmp_path, holder)
    with pytest.raises(InputError, match=rf"\({holder}\)"), FolderLock(tmp_path, lambda _: send_heartbeat(tmp_path)):
        pass
    assert LockHolder(**json.loads(holder_file(tmp_path).read_text())) == holder
    with FolderLock(tmp_path, lambda _: None) as held:  # the failed attempt has released the file lock
        assert held.is_ours()


def test_heartbeats_of_a_computer_with_a_wrong_clock_count(tmp_path: Path) -> None:
    write_holder(tmp_path, REMOTE_HOLDERS[0])
    os.utime(holder_file(tmp_path), (0, 0))
    with pytest.raises(InputError, match="elsewhere"), FolderLock(tmp_path, lambda _: send_heartbeat(tmp_path)):
        pass
    os.utime(holder_file(tmp_path), (2**33, 2**33))
    with FolderLock(tmp_path, lambda _: None) as held:
        assert held.is_ours()


def test_holder_that_arrives_during_the_wait_blocks(tmp_path: Path) -> None:
    write_holder(tmp_path, REMOTE_HOLDERS[0])
    with (
        pytest.raises(InputError, match="is writing to"),
        FolderLock(tmp_path, lambda _: write_holder(tmp_path, REMOTE_HOLDERS[1])),
    ):
        pass


def test_holder_sends_heartbeats(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "HEARTBEAT_SECONDS", 0.01)
    with FolderLock(tmp_path):
        os.utime(holder_file(tmp_path), (0, 0))
        for _ in range(3000):
            if holder_file(tmp_path).stat().st_mtime:
                break
            time.sleep(0.01)
        assert holder_file(tmp_path).stat().st_mtime


@pytest.mark.parametrize(
    "content", [b"", b"\x00" * 9, b"[]", b"null", b'{"pid": 1}', b'{"pid": "x', b"\xff" * 999, b"[" * 99999]
)
def test_unreadable_holder_file_is_ignored(tmp_path: Path, content: bytes) -> None:
    holder_file(tmp_path).write_bytes(content)
    with FolderLock(tmp_path, no_sleep) as held:
        assert held.is_ours()


def test_replaced_holder_keeps_the_file_of_its_successor(tmp_path: Path) -> None:
    with FolderLock(tmp_path) as held:
        write_holder(tmp_path, REMOTE_HOLDERS[0])
        assert not held.is_ours()
    assert LockHolder(**json.loads(holder_file(tmp_path).read_text())) == REMOTE_HOLDERS[0]


def test_error_releases_the_lock(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), FolderLock(tmp_path):
        raise ZeroDivisionError
    with FolderLock(tmp_path, no_sleep) as held:
        assert held.is_ours()


def test_missing_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"cannot lock --out .*file: "), FolderLock(tmp_path / "file"):
        pass


@pytest.mark.skipif(shutil.which("faketime") is None, reason="needs faketime")
@pytest.mark.parametrize("shift", ["-1d", "+1d"])
def test_clock_changes_do_not_affect_whether_a_holder_lives(tmp_path: Path, shift: str) -> None:
    process = subprocess.Popen(SLEEPER)
    results = []
    try:
        write_holder(
            tmp_path, replace(THIS_PROCESS, pid=process.pid, started=lock_holder._start_time(process.pid) or "")
        )
        command = ["faketime", "-f", shift, sys.executable, "-c", IS_GONE, str(holder_file(tmp_path))]
        results.append(subprocess.check_output(command, cwd=ROOT, text=True))
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    results.append(subprocess.check_output(command, cwd=ROOT, text=True))
    assert results == ["False\n", "True\n"]


def test_named_pipe_in_place_of_the_holder_file_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / ".holder.json")
    with FolderLock(tmp_path) as held:
        assert held.is_ours()


def test_holder_with_an_impossible_pid_is_ignored(tmp_path: Path) -> None:
    for pid in (-1, 2**70):
        (tmp_path / ".holder.json").write_text(json.dumps({**asdict(THIS_PROCESS), "pid": pid}))
        with FolderLock(tmp_path) as held:
            assert held.is_ours()
