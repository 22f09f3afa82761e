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
from benchmarks.records import lock
from benchmarks.records.lock import PATIENCE, FolderLock, LockHolder

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

ME = LockHolder.of_this_process()
SLEEPER = [sys.executable, "-c", "import time; time.sleep(60)"]


def holder_file(folder: Path) -> Path:
    return folder / ".holder.json"


def leave(folder: Path, holder: LockHolder) -> None:
    """As if that process held the folder on a file system whose locks do not reach here."""
    holder_file(folder).write_text(json.dumps(asdict(holder)))


def no_sleep(seconds: float) -> NoReturn:
    raise AssertionError("there was nothing to wait for")


def refuse_locks(*args: Any, **options: Any) -> NoReturn:
    raise NotImplementedError


def beat(folder: Path) -> None:
    """One sign of life, later than any before, whatever the clock says."""
    last = holder_file(folder).stat().st_mtime_ns
    os.utime(holder_file(folder), ns=(last, last + 1))


def test_a_folder_is_held_by_name_and_free_afterwards(tmp_path: Path) -> None:
    with FolderLock(tmp_path, no_sleep) as held:
        assert held.is_ours()
        assert LockHolder(**json.loads(holder_file(tmp_path).read_text())) == ME
    assert not holder_file(tmp_path).exists()
    assert not held.is_ours()
    with FolderLock(tmp_path, no_sleep) as again:
        assert again.is_ours()


def test_another_process_is_named_and_its_folder_free_once_it_is_killed(
    tmp_path: Path, python: Callable[..., Any]
) -> None:
    other = python(HOLD, tmp_path)
    assert other.stdout.readline() == "held\n"
    words = rf"another run \(pid {other.pid} on {socket.gethostname()}\) is writing to .*: wait for it, or give another"
    with pytest.raises(InputError, match=words), FolderLock(tmp_path, no_sleep):
        pass
    assert json.loads(holder_file(tmp_path).read_text())["pid"] == other.pid
    other.kill()
    other.wait()
    assert holder_file(tmp_path).exists()
    with FolderLock(tmp_path, no_sleep) as held:
        assert held.is_ours()


def test_a_process_that_is_waited_for_leaves_nothing(tmp_path: Path, python: Callable[..., Any]) -> None:
    other = python(HOLD, tmp_path)
    assert other.stdout.readline() == "held\n"
    other.communicate("\n")
    assert other.returncode == 0
    assert not holder_file(tmp_path).exists()


@pytest.fixture
def without_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system that knows no locks, so that the holder's file has to do."""
    monkeypatch.setattr(FileLock, "acquire", refuse_locks)


@pytest.mark.usefixtures("without_locks")
def test_without_locks_a_living_holder_is_refused_and_a_killed_one_not(tmp_path: Path) -> None:
    process = subprocess.Popen(SLEEPER)
    try:
        leave(tmp_path, replace(ME, pid=process.pid, started=lock._start_time(process.pid) or ""))
        with pytest.raises(InputError, match=rf"another run \(pid {process.pid} on "), FolderLock(tmp_path, no_sleep):
            pass
    finally:
        process.kill()
        process.wait()
    with FolderLock(tmp_path, no_sleep) as held:
        assert held.is_ours()


@pytest.mark.usefixtures("without_locks")
def test_without_locks_one_process_does_not_hold_a_folder_twice(tmp_path: Path) -> None:
    with (
        FolderLock(tmp_path, no_sleep) as held,
        pytest.raises(InputError, match=f"pid {os.getpid()} on "),
        FolderLock(tmp_path, no_sleep),
    ):
        pass
    assert not held.is_ours()
    assert not holder_file(tmp_path).exists()


def test_a_zombie_holds_nothing(tmp_path: Path) -> None:
    process = subprocess.Popen(SLEEPER)
    leave(tmp_path, replace(ME, pid=process.pid, started=lock._start_time(process.pid) or ""))
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # it has ended, and stays a zombie
    with FolderLock(tmp_path, no_sleep) as held:
        assert held.is_ours()
    process.wait()


@pytest.mark.parametrize(
    "stale",
    [
        replace(ME, started="1"),  # our pid, once another's
        replace(ME, pid=2**22 + 1),  # higher than any pid
        replace(ME, boot="another"),
        replace(ME, boot="another", namespace="another"),
    ],
)
def test_a_holder_that_cannot_live_any_more_is_not_waited_for(tmp_path: Path, stale: LockHolder) -> None:
    leave(tmp_path, stale)
    assert stale.is_gone() is True
    with FolderLock(tmp_path, no_sleep) as held:
        assert held.is_ours()


FAR = [replace(ME, host="elsewhere"), replace(ME, namespace="of another container")]


@pytest.mark.parametrize("far", FAR)
def test_a_silent_holder_that_cannot_be_looked_at_is_taken_over(tmp_path: Path, far: LockHolder) -> None:
    leave(tmp_path, far)
    waited: list[float] = []
    with FolderLock(tmp_path, waited.append) as held:
        assert held.is_ours()
    assert waited == [PATIENCE]


@pytest.mark.parametrize("far", FAR)
def test_one_that_beats_is_refused_and_named(tmp_path: Path, far: LockHolder) -> None:
    leave(tmp_path, far)
    with pytest.raises(InputError, match=rf"\({far}\)"), FolderLock(tmp_path, lambda _: beat(tmp_path)):
        pass
    assert LockHolder(**json.loads(holder_file(tmp_path).read_text())) == far
    with FolderLock(tmp_path, lambda _: None) as held:  # the lock was given back
        assert held.is_ours()


def test_beats_of_a_computer_whose_clock_is_wrong_count_as_well(tmp_path: Path) -> None:
    leave(tmp_path, FAR[0])
    os.utime(holder_file(tmp_path), (0, 0))
    with pytest.raises(InputError, match="elsewhere"), FolderLock(tmp_path, lambda _: beat(tmp_path)):
        pass
    os.utime(holder_file(tmp_path), (2**33, 2**33))
    with FolderLock(tmp_path, lambda _: None) as held:
        assert held.is_ours()


def test_another_that_comes_while_we_wait_has_the_folder(tmp_path: Path) -> None:
    leave(tmp_path, FAR[0])
    with pytest.raises(InputError, match="is writing to"), FolderLock(tmp_path, lambda _: leave(tmp_path, FAR[1])):
        pass


def test_a_holder_beats(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "BEAT", 0.01)
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
def test_a_holder_that_cannot_be_read_holds_nothing(tmp_path: Path, content: bytes) -> None:
    holder_file(tmp_path).write_bytes(content)
    with FolderLock(tmp_path, no_sleep) as held:
        assert held.is_ours()


def test_one_that_was_taken_over_knows_and_leaves_the_other_its_file(tmp_path: Path) -> None:
    with FolderLock(tmp_path) as held:
        leave(tmp_path, FAR[0])
        assert not held.is_ours()
    assert LockHolder(**json.loads(holder_file(tmp_path).read_text())) == FAR[0]


def test_an_error_inside_frees_the_folder(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), FolderLock(tmp_path):
        raise ZeroDivisionError
    with FolderLock(tmp_path, no_sleep) as held:
        assert held.is_ours()


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"cannot lock --out .*file: "), FolderLock(tmp_path / "file"):
        pass


@pytest.mark.skipif(shutil.which("faketime") is None, reason="needs faketime")
@pytest.mark.parametrize("shift", ["-1d", "+1d"])
def test_setting_the_clock_neither_ends_a_holder_nor_revives_it(tmp_path: Path, shift: str) -> None:
    process = subprocess.Popen(SLEEPER)
    answers = []
    try:
        leave(tmp_path, replace(ME, pid=process.pid, started=lock._start_time(process.pid) or ""))
        command = ["faketime", "-f", shift, sys.executable, "-c", IS_GONE, str(holder_file(tmp_path))]
        answers.append(subprocess.check_output(command, cwd=ROOT, text=True))
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    answers.append(subprocess.check_output(command, cwd=ROOT, text=True))
    assert answers == ["False\n", "True\n"]


def test_a_pipe_in_the_place_of_the_holder_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / ".holder.json")
    with FolderLock(tmp_path) as lock:
        assert lock.is_ours()


def test_a_holder_with_an_impossible_pid_is_gone(tmp_path: Path) -> None:
    me = LockHolder.of_this_process()
    for pid in (-1, 2**70):
        (tmp_path / ".holder.json").write_text(json.dumps({**asdict(me), "pid": pid}))
        with FolderLock(tmp_path) as lock:
            assert lock.is_ours()
