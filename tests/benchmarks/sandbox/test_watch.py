import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks.sandbox.errors import FileCheckFailed
from benchmarks.sandbox.limits import SandboxLimits
from benchmarks.sandbox.watch import LimitWatch

RunProgram = Callable[..., Any]


@pytest.mark.parametrize("program", ["time.sleep(60)", "while True: pass"])
def test_time_is_limited(program: str, run_program: RunProgram) -> None:
    with pytest.raises(FileCheckFailed, match=r"longer than 0\.2 s \(--time-limit\)"):
        run_program(program, SandboxLimits(0.2, 2**30))


def test_memory_is_limited(run_program: RunProgram) -> None:
    with pytest.raises(FileCheckFailed, match=r"out of memory.* 0\.1 GiB \(--memory-limit\).* 1 process$"):
        run_program("hoard = b'x' * 2**28; time.sleep(60)", SandboxLimits(60, 2**27))


def test_memory_of_all_processes_is_added_up(
    run_program: RunProgram, sleep_command: list[str], sleeping: Callable[[], list[int]]
) -> None:
    program = f"""
code = "import os; hoard = b'x' * 2**26; os.spawnvp(os.P_WAIT, 'sleep', {sleep_command!r})"
for _ in range(4): subprocess.Popen([sys.executable, "-c", code])
time.sleep(60)
"""
    with pytest.raises(FileCheckFailed, match=r"out of memory.* 0\.2 GiB"):
        run_program(program, SandboxLimits(60, 2**28 - 2**25, processes=16))
    assert sleeping() == []


def test_memory_files_count_as_memory(run_program: RunProgram) -> None:
    program = "file = os.memfd_create('hoard'); os.write(file, bytes(2**28))\ntime.sleep(60)"
    with pytest.raises(FileCheckFailed, match="memory"):
        run_program(program, SandboxLimits(60, 2**28))


def test_processes_are_limited_and_killed(
    run_program: RunProgram, sleep_command: list[str], sleeping: Callable[[], list[int]]
) -> None:
    program = f"for _ in range(3): subprocess.Popen({sleep_command!r})\ntime.sleep(60)"
    with pytest.raises(FileCheckFailed, match="more than 3 processes"):
        run_program(program, SandboxLimits(60, 2**30, processes=3))
    assert sleeping() == []


@pytest.mark.parametrize("state", ["listed", "removed"])
def test_disk_is_limited(state: str, run_program: RunProgram) -> None:
    program = f"""
file = open("hoard", "wb")
if {state == "removed"}: os.remove("hoard")
file.write(bytes(2**21))
file.flush()
time.sleep(60)
"""
    with pytest.raises(FileCheckFailed, match=r"more than 0\.0 GiB or 20,000 files"):
        run_program(program, SandboxLimits(60, 2**30, processes=8, disk=2**20))


def test_number_of_files_is_limited(run_program: RunProgram) -> None:
    program = "for name in range(20): os.mkdir(str(name)); open(f'{name}/file', 'w').close()\ntime.sleep(60)"
    with pytest.raises(FileCheckFailed, match=r"2\.0 GiB or 30 files"):
        run_program(program, SandboxLimits(60, 2**30, processes=8, files=30))


def test_folder_too_deep_to_be_counted_exceeds_the_limit(run_program: RunProgram) -> None:
    program = "for _ in range(50): os.mkdir('d' * 100); os.chdir('d' * 100)\ntime.sleep(60)"
    with pytest.raises(FileCheckFailed, match="20,000 files"):
        run_program(program)


def test_folder_that_hides_its_files_is_not_allowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Test a folder that its owner can write to but not list; root can list it, so the error is simulated."""

    def scandir(path: str) -> Any:
        raise PermissionError(13, "Permission denied", path)

    watch = LimitWatch(os.getpid(), tmp_path, SandboxLimits(60, 2**40))
    monkeypatch.setattr("benchmarks.sandbox.watch._unlisted_files", lambda processes: {})
    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(FileCheckFailed, match="20,000 files"):
        watch.check()
