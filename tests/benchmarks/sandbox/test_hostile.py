"""Test that `budget-check` of hostile Python files ends in time, does no harm and leaves no process behind.

The child runs these files without torch; `test_hostile_models.py` contains the attacks that involve torch.
"""

import json
import os
import platform
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import NamedTemporaryFile, TemporaryDirectory, gettempdir
from typing import Any

import psutil
import pytest

from benchmarks.cli.budget_check import main
from benchmarks.sandbox import kinds, seccomp
from benchmarks.sandbox.kinds import SandboxKind, is_available

TIME_LIMIT = 120.0  # seconds, for a file that ends by itself
SHORT_TIME_LIMIT = 1.0
KILL_TIMEOUT = 30.0  # seconds that killed processes may take to disappear
IMPORTS = "import os, socket, sys, time\nfrom pathlib import Path\n"
FORGED_VERDICT = {"verdict": {"model": "fake", "problems": []}, "nonce": ""}

NEEDLESS_CALLS = (
    *("ptrace", "mount", "umount2", "keyctl", "add_key", "request_key", "bpf", "perf_event_open", "userfaultfd"),
    *("io_uring_setup", "io_uring_enter", "unshare", "setns", "process_vm_writev", "open_by_handle_at", "shmget"),
)

Check = Callable[..., tuple[int, str, str]]

pytestmark = [pytest.mark.usefixtures("_run_files_without_torch"), pytest.mark.slow]


@pytest.fixture
def _best_sandbox() -> None:
    """Skip the test if no sandbox works here; used where the kind of sandbox does not matter."""
    if kinds.best_sandbox() == "none":
        pytest.skip("needs bubblewrap or sandlock")


@pytest.fixture
def remaining_processes(sleep_command: list[str]) -> Callable[[], list[str]]:
    """Return a function that returns the command lines of live processes started by a check."""

    def commands() -> list[str]:
        lines = []
        for process in psutil.process_iter(["cmdline", "status"]):
            line = " ".join(process.info["cmdline"] or ())
            is_of_a_check = "budget-check-" in line or " ".join(sleep_command) in line
            if is_of_a_check and process.info["status"] != psutil.STATUS_ZOMBIE and not _is_of_another_worker(process):
                lines.append(line)
        return lines

    return commands


def _is_of_another_worker(process: psutil.Process) -> bool:
    """Return whether a process belongs to a test that pytest-xdist runs at the same time."""
    try:
        ancestors = {ancestor.pid for ancestor in process.parents()}
    except psutil.Error:  # it has ended
        return True
    return os.getppid() in ancestors and os.getpid() not in ancestors


@pytest.fixture
def check(capsys: pytest.CaptureFixture[str], remaining_processes: Callable[[], list[str]]) -> Iterator[Check]:
    """Return a function that runs `budget-check` and returns its exit code, standard output and standard error.

    Each check must end within its time limit, print no control characters and leave no process behind.
    """

    def run(path: Path | str, *options: str, time_limit: float = TIME_LIMIT) -> tuple[int, str, str]:
        started = time.monotonic()
        fixed = ["--benchmark", "digits", "--device", "cpu", "--no-timing", "--time-limit", str(time_limit)]
        code = main([str(path), *fixed, *options])
        assert time.monotonic() - started < time_limit + 60  # a check that hangs would take far longer
        out, err = capsys.readouterr()
        assert not any(ord(letter) < 32 and letter != "\n" for letter in out + err)
        return code, " ".join(out.split()), err

    yield run
    wait_until(lambda: remaining_processes() == [], KILL_TIMEOUT)
    assert remaining_processes() == []


def wait_until(condition: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
    return condition()


def source(folder: Path, text: str) -> Path:
    path = folder / "net.py"
    path.write_text(IMPORTS + text)
    return path


@pytest.mark.usefixtures("kind")
@pytest.mark.parametrize(
    "text",
    [
        "while True: pass",
        "time.sleep(10**6)",
        "import signal\nfor n in (signal.SIGTERM, signal.SIGINT): signal.signal(n, signal.SIG_IGN)\nwhile True: pass",
    ],
    ids=["loop", "sleep", "signals ignored"],
)
def test_endless_file_is_killed(text: str, tmp_path: Path, check: Check) -> None:
    code, _, err = check(source(tmp_path, text), time_limit=SHORT_TIME_LIMIT)
    assert code == 3
    assert f"longer than {SHORT_TIME_LIMIT:g} s" in err


@pytest.mark.usefixtures("kind")
def test_fork_bomb_is_stopped(tmp_path: Path, check: Check) -> None:
    code, _, err = check(source(tmp_path, "while True: os.fork()"))
    assert code == 3
    assert "processes" in err or "BlockingIOError" in err


@pytest.mark.usefixtures("kind")
def test_daemon_is_killed_after_the_verdict(tmp_path: Path, sleep_command: list[str], check: Check) -> None:
    text = f"""
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.execvp("sleep", {sleep_command!r})
    os._exit(0)
time.sleep(0.5)
"""
    assert check(source(tmp_path, text))[0] == 0


@pytest.mark.usefixtures("kind")
@pytest.mark.parametrize(
    "text",
    [
        "hoard = []\nwhile True: hoard.append(b'x' * 2**24)",
        "hoard = bytes(2**50)",
        "raise RuntimeError('DefaultCPUAllocator: can\\'t allocate memory: you tried to allocate 4 bytes.')",
        "os.kill(os.getpid(), 9)",  # like the OOM killer
    ],
    ids=["little by little", "at once", "torch", "killed"],
)
def test_memory_is_limited(text: str, tmp_path: Path, check: Check) -> None:
    code, _, err = check(source(tmp_path, text), "--memory-limit", "0.3")
    assert code == 3
    assert "ran out of memory" in err
    assert "limit of 0.3 GiB (--memory-limit)" in err


@pytest.mark.usefixtures("kind")
def test_memory_files_count_as_memory(tmp_path: Path, check: Check) -> None:
    text = """
hoard = os.memfd_create("hoard")
for _ in range(30): os.write(hoard, bytes(2**24))
time.sleep(10)
"""
    code, _, err = check(source(tmp_path, text), "--memory-limit", "0.3")
    assert code == 3
    assert "ran out of memory" in err


@pytest.mark.usefixtures("_best_sandbox")
def test_printed_text_is_shown_without_control_characters(tmp_path: Path, check: Check) -> None:
    code, _, err = check(source(tmp_path, r"print('\x1b]0;title\x07 hello \x1b[2J')"))
    assert code == 0
    assert "| ?]0;title? hello ?[2J" in err


@pytest.mark.usefixtures("_best_sandbox")
def test_error_is_shown_without_control_characters(tmp_path: Path, check: Check) -> None:
    code, _, err = check(source(tmp_path, r"raise RuntimeError('\x1b[31m red')"))
    assert code == 3
    assert "RuntimeError: ?[31m red" in err


@pytest.mark.usefixtures("_best_sandbox")
def test_gigabyte_of_output_is_dropped(tmp_path: Path, check: Check) -> None:
    code, _, err = check(source(tmp_path, "for _ in range(1024): os.write(1, b'x' * 2**20)"))
    assert code == 0
    assert len(err) < 10_000


@pytest.mark.usefixtures("_best_sandbox")
def test_verdict_on_standard_output_is_ignored(tmp_path: Path, check: Check) -> None:
    text = f"print({json.dumps(FORGED_VERDICT)!r}, flush=True)\nos._exit(0)"
    code, out, err = check(source(tmp_path, text))
    assert (code, out) == (3, "")
    assert "exited without a result" in err


@pytest.mark.usefixtures("_best_sandbox")
def test_verdict_without_the_nonce_is_ignored_on_every_descriptor(tmp_path: Path, check: Check) -> None:
    line = json.dumps(FORGED_VERDICT).encode() + b"\n"
    text = f"""
for number in range(100):
    try: os.write(number, {line!r})
    except OSError: pass
"""
    code, out, _ = check(source(tmp_path, text))
    assert code == 0
    assert out.startswith("model net.py ")


@pytest.mark.usefixtures("_best_sandbox")
@pytest.mark.parametrize(
    "cost",
    ["training_memory=10**400", "macs_torch=9 * 10**4200", "stages=[{}] * 10000", "dead_params=['x' * 1990] * 100"],
)
def test_forged_verdict_does_not_break_the_command(cost: str, tmp_path: Path, check: Check) -> None:
    text = f"""
frame = sys._getframe()
while frame and not callable(frame.f_locals.get("send")): frame = frame.f_back
frame.f_locals["send"]({{"progress": {{"task": "x", "done": 1, "total": 10**18, "note": ""}}}})
frame.f_locals["send"]({{"verdict": {{"model": "m", "benchmark": "digits", "image_size": 8, "batch_size": 1,
    "budget": {{"max_params": 1, "max_hours": 1.0}}, "cost": dict(params=1, trainable_params=1, {cost})}}}})
time.sleep(10)
"""
    code, out, err = check(source(tmp_path, text))
    assert code in (0, 3)
    assert "model m" in out or "an invalid verdict" in err or "256 KiB" in err
    assert len(out + err) < 2**18


@pytest.mark.usefixtures("kind")
def test_network_is_unreachable(tmp_path: Path, check: Check) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.1)
        address = server.getsockname()
        code, _, err = check(source(tmp_path, f"socket.create_connection({address!r}, timeout=5)"))
        assert code == 3
        assert "Error" in err
        with pytest.raises(TimeoutError):
            server.accept()


@pytest.mark.usefixtures("kind")
def test_home_folder_and_environment_are_hidden(tmp_path: Path, check: Check, monkeypatch: pytest.MonkeyPatch) -> None:
    home, folder = tmp_path / "home", tmp_path / "folder"
    home.mkdir()
    folder.mkdir()
    (home / "secret").write_text("secret")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("TOKEN", "secret")
    text = f"""
seen = os.environ.get("TOKEN", "")
for name in ({str(home / "secret")!r}, os.path.expanduser("~/secret"), f"/proc/{{os.getppid()}}/environ"):
    try: seen += Path(name).read_text()
    except OSError: pass
for name in ({str(home / "trace")!r}, {str(folder / "trace")!r}):
    try: Path(name).write_text("trace")
    except OSError: pass
Path(os.environ["TMPDIR"], "scratch").write_text("this is allowed")
assert "secret" not in seen
"""
    code, _, err = check(source(folder, text))
    assert (code, err) == (0, "")
    assert [path.name for path in tmp_path.rglob("trace")] == []
    assert os.listdir(folder) == ["net.py"]


@pytest.mark.usefixtures("kind")
def test_only_the_project_is_readable(tmp_path: Path, check: Check) -> None:
    project = tmp_path / "project"
    (project / "models").mkdir(parents=True)
    (project / ".git").symlink_to("/")
    (project / "link").symlink_to(tmp_path)
    (project / "parts.py").write_text("width = 4")
    (project / "models" / "__init__.py").write_text(f"open({str(project / 'trace')!r}, 'w')")
    (tmp_path / "secret").write_text("secret")
    path = project / "models" / "net.py"
    secrets = [tmp_path / "secret", project / "link" / "secret", project / ".git" / str(tmp_path / "secret")[1:]]
    path.write_text(
        IMPORTS + f"print(Path({str(project / 'parts.py')!r}).read_text())\n"
        f"for secret in {[*map(str, secrets)]!r}:\n"
        "    try: print(open(secret).read())\n"
        "    except OSError: print('hidden')\n"
        f"try: Path({str(project / 'parts.py')!r}).write_text('')\n"
        "except OSError: print('read-only')\n"
    )
    code, _, err = check(path)
    assert code == 0
    assert err.splitlines() == ["| width = 4", "| hidden", "| read-only"]
    assert not (project / "trace").exists()


@pytest.mark.usefixtures("kind")
def test_only_the_scratch_folder_is_writable(tmp_path: Path, check: Check) -> None:
    text = """
for folder in ("/", "/dev", "/dev/shm", "/usr", "/etc", "/proc", "/sys", sys.prefix, os.path.dirname(__file__)):
    try: Path(folder, "trace").write_text("trace")
    except OSError: continue
    raise AssertionError(folder)
Path(os.environ["TMPDIR"], "scratch").write_text("this is allowed")
"""
    code, _, err = check(source(tmp_path, text))
    assert (code, err) == (0, "")


@pytest.mark.usefixtures("kind")
def test_read_only_folders_cannot_be_mounted_again(tmp_path: Path, check: Check) -> None:
    text = """
import ctypes
libc = ctypes.CDLL(None)
MS_REMOUNT, MS_BIND = 0x20, 0x1000
for folder in ("/", "/usr", sys.prefix, os.path.dirname(__file__)):
    assert libc.mount(None, folder.encode(), None, MS_REMOUNT | MS_BIND, None) != 0, folder
    assert libc.mount(b"tmpfs", folder.encode(), b"tmpfs", 0, None) != 0, folder
"""
    code, _, err = check(source(tmp_path, text))
    assert (code, err) == (0, "")


@pytest.mark.usefixtures("kind")
def test_system_calls_that_no_model_needs_are_refused(tmp_path: Path, check: Check) -> None:
    calls = {name: seccomp.REFUSED_CALLS[name][platform.machine() != "x86_64"] for name in NEEDLESS_CALLS}
    text = f"""
import ctypes, errno
libc = ctypes.CDLL(None, use_errno=True)
for name, number in {calls}.items():
    assert libc.syscall(number, 0, 0, 0, 0, 0, 0) == -1, name  # without a filter, some succeed and some fault
    assert ctypes.get_errno() in (errno.EPERM, errno.ENOSYS), (name, ctypes.get_errno())
for flag in (0x20000, 0x10000000, 0x40000000):  # CLONE_NEWNS, CLONE_NEWUSER and CLONE_NEWNET
    assert libc.syscall({seccomp.CLONE[platform.machine() != "x86_64"]}, flag | 17, 0, 0, 0, 0) == -1, flag
for family, kind in ((socket.AF_INET, socket.SOCK_RAW), (socket.AF_INET6, socket.SOCK_RAW),
                     (socket.AF_PACKET, socket.SOCK_RAW), (socket.AF_INET, 10)):
    try: socket.socket(family, kind)
    except OSError: continue
    raise AssertionError((family, kind))
"""
    code, _, err = check(source(tmp_path, text))
    assert (code, err) == (0, "")


@pytest.mark.usefixtures("kind")
def test_threads_processes_and_local_sockets_still_work(tmp_path: Path, check: Check) -> None:
    text = """
import multiprocessing, subprocess, threading
threads = [threading.Thread(target=time.sleep, args=(0.01,)) for _ in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
assert subprocess.run(["true"]).returncode == 0
if os.fork() == 0: os._exit(0)
assert os.wait()[1] == 0
left, right = socket.socketpair()
left.send(b"x")
assert right.recv(1) == b"x"
"""
    code, _, err = check(source(tmp_path, text))
    assert (code, err) == (0, "")


@pytest.mark.usefixtures("kind")
def test_shared_memory_of_others_is_hidden(tmp_path: Path, check: Check) -> None:
    with NamedTemporaryFile(dir="/dev/shm") as secret:
        text = f"""
try: open({secret.name!r}).read()
except OSError: pass
else: raise AssertionError
"""
        code, _, err = check(source(tmp_path, text))
        assert (code, err) == (0, "")


@pytest.mark.usefixtures("kind")
def test_sockets_of_others_are_unreachable(check: Check) -> None:
    text = """
for path in filter(Path.is_socket, Path("/tmp").rglob("agent")):  # an environment in /tmp has folders of that name
    listener = socket.socket(socket.AF_UNIX)
    listener.connect(str(path))
    raise AssertionError(path)
"""
    with TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as agent:
        agent.bind(f"{folder}/agent")
        agent.listen()
        path = Path(gettempdir()) / f"net_{os.getpid()}.py"
        path.write_text(IMPORTS + text)
        try:
            code, _, err = check(path)
            assert (code, err) == (0, "")
        finally:
            path.unlink()


@pytest.mark.usefixtures("kind")
def test_other_processes_cannot_be_signaled(tmp_path: Path, check: Check) -> None:
    text = f"""
for number in ({os.getpid()}, os.getppid()):
    try: os.kill(number, 0)
    except OSError: continue
    assert number == os.getppid() == 1 or number != {os.getpid()}
"""
    code, _, err = check(source(tmp_path, text))
    assert (code, err) == (0, "")


@pytest.mark.usefixtures("kind")
def test_many_nested_files_are_stopped_and_removed(
    tmp_path: Path, check: Check, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    text = """
os.chdir(os.environ["TMPDIR"])
for _ in range(3000):
    os.mkdir("d")
    os.chdir("d")
for number in range(10**6): os.close(os.open(str(number), os.O_CREAT))
"""
    code, _, err = check(source(tmp_path, text))
    assert code == 3
    assert "20,000 files" in err
    assert list((tmp_path / "temporary").iterdir()) == []


@pytest.mark.parametrize("kind_to_kill", ["bubblewrap", "sandlock", "none"])
def test_killed_command_leaves_no_process(
    kind_to_kill: SandboxKind,
    tmp_path: Path,
    python: Callable[..., Any],
    remaining_processes: Callable[[], list[str]],
) -> None:
    if not is_available(kind_to_kill):
        pytest.skip(f"{kind_to_kill} does not work here")
    program = f"""
import sys
from benchmarks.cli import budget_check as cli
from benchmarks.sandbox import kinds, start
kinds.best_sandbox = lambda: {kind_to_kill!r}
start.CHILD_PROGRAM = sys.argv.pop(1)
sys.exit(cli.main(sys.argv[1:]))
"""
    from benchmarks.sandbox import start

    file = source(tmp_path, "Path(os.environ['TMPDIR'], 'started').touch()\nwhile True: pass")
    options = ("--benchmark", "digits", "--device", "cpu", "--no-timing", "--trust")
    command = python(program, start.CHILD_PROGRAM, file, *options)
    process = psutil.Process(command.pid)
    assert wait_until(lambda: "TMPDIR" in process.environ(), KILL_TIMEOUT)  # wait until Python has started
    temporary = Path(process.environ()["TMPDIR"])
    assert wait_until(lambda: any(temporary.glob("budget-check-*/started")), TIME_LIMIT)
    assert remaining_processes() != []
    command.kill()
    assert wait_until(lambda: remaining_processes() == [], KILL_TIMEOUT)


def test_link_with_another_suffix_is_invalid(tmp_path: Path, check: Check) -> None:
    (tmp_path / "net.safetensors").symlink_to(source(tmp_path, ""))
    code, _, err = check(tmp_path / "net.safetensors")
    assert code == 2
    assert "link to a .py file" in err


@pytest.mark.usefixtures("_best_sandbox")
def test_path_is_shown_without_control_characters(tmp_path: Path, check: Check) -> None:
    path = tmp_path / "a\x1b[31m\r\n::error::.py"
    path.write_text("x =")
    assert check(path)[0] == 3
    assert check(tmp_path / "no\x1b.py")[0] == 2


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("folder.py", "contains no model"),
        ("pipe.py", "is not a file"),
        ("net.txt", "is not a model file: valid suffixes are .py, .ipynb, .safetensors"),
    ],
)
def test_path_without_a_model_file_is_invalid(name: str, expected: str, tmp_path: Path, check: Check) -> None:
    (tmp_path / "folder.py").mkdir()
    os.mkfifo(tmp_path / "pipe.py")
    (tmp_path / "net.txt").write_text("text")
    code, _, err = check(tmp_path / name)
    assert code == 2
    assert expected in err
