"""Judges a file that nobody vouches for in a process that can do no harm. Knows no torch.

What holds the process, best first: bubblewrap, sandlock, nothing. In the first two it has no network, sees the system,
this environment and the model's folder read-only, and can write to a scratch folder of its own. Everywhere it has an
isolated interpreter, an environment of its own, and limits on memory, processes, time and output; whatever it started
dies with it. Its words come as JSON over a pipe of their own and are checked: nothing of it is unpickled.
"""

import ctypes
import errno
import json
import os
import secrets
import selectors
import shutil
import stat
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import IO, Any, Literal, Protocol

import psutil

from arch.text import printable
from benchmarks.execution.environment import WORKER_ENVIRONMENT

SandboxKind = Literal["bubblewrap", "sandlock", "none"]

LOOK_EVERY = 0.05  # seconds between two looks at memory and processes
MESSAGE_LIMIT = 2**18  # bytes that all messages of one child may have
PRINTED_LIMIT = 64 * 2**10  # bytes of what it prints that are kept; the rest is read and dropped
MEMORY_SHARE = 0.75  # of the free memory, unless a limit is given
PR_SET_CHILD_SUBREAPER = 36  # prctl(2)
PACKAGES = Path(__file__).resolve().parents[2]
SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib64", "/lib32", "/sys", "/nix/store")
SYSTEM_FILES = ("/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/alternatives")
DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
PASSED_ON = ("CUDA_VISIBLE_DEVICES", "LD_LIBRARY_PATH", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
PROGRAM = "import sys; sys.path.insert(0, sys.argv[1]); from benchmarks.sandbox.child import main; main()"


@dataclass(frozen=True)
class SandboxLimits:
    """What one judgement may take, all its processes together."""

    seconds: float = 600.0
    memory: int = 0  # bytes; 0: MEMORY_SHARE of what is free
    processes: int = 64
    disk: int = 2 * 2**30  # bytes of its scratch folder
    files: int = 20_000

    def words(self) -> str:
        """The limits for a report."""
        return f"{self.seconds:g} s, {self.memory / 2**30:.1f} GiB, {self.processes} processes"


class FileCheckFailed(RuntimeError):
    """The child broke a limit, died without an answer, or failed; `printed` is what its code printed, if known."""

    def __init__(self, reason: str, printed: str = "") -> None:
        super().__init__(reason)
        self.printed = printed


@dataclass(frozen=True)
class SandboxAnswer:
    """What the child had to say, and what its code printed, both without control characters."""

    message: dict[str, Any]
    printed: str


class _Process(Protocol):
    """What `subprocess.Popen` and sandlock's process have in common."""

    @property
    def pid(self) -> int: ...
    def kill(self) -> None: ...
    def wait(self, timeout: float | None = None) -> Any: ...


def judge(
    request: dict[str, Any],
    path: Path,
    limits: SandboxLimits,
    kind: SandboxKind,
    progress: Callable[[dict[str, Any]], None],
) -> SandboxAnswer:
    """Sends `request` to `benchmarks.sandbox.child` in a child and returns its last message.

    path: the model file. Raises FileCheckFailed where a limit was broken or no answer came.
    """
    with _scratch() as scratch, _adopting(kind):
        nonce = secrets.token_hex(16)
        process, stdin, stdout, stderr = _start(kind, _readable(path), scratch, limits, str(request["device"]))
        try:
            with suppress(BrokenPipeError):
                own = {"nonce": nonce, "die_with_parent": kind == "none"}
                stdin.write(json.dumps({**request, **own}).encode() + b"\n")
                stdin.close()
            return _listen(process.pid, stdout, stderr, scratch, limits, nonce, progress)
        finally:
            _kill_all(process)
            for stream in (stdin, stdout, stderr):
                with suppress(OSError):
                    stream.close()


def with_memory(limits: SandboxLimits) -> SandboxLimits:
    """The limits with a memory limit, where none was given."""
    free = int(MEMORY_SHARE * psutil.virtual_memory().available)
    return replace(limits, memory=limits.memory or free)


@cache
def best_sandbox() -> SandboxKind:
    """The best sandbox that works here."""
    return next((kind for kind in ("bubblewrap", "sandlock") if works(kind)), "none")


def works(kind: SandboxKind) -> bool:
    """Whether a sandbox is installed and the system lets it work."""
    if kind == "bubblewrap":
        return bool(_bwrap())
    if kind == "sandlock":
        try:
            import sandlock

            return bool(sandlock.landlock_abi_version() >= sandlock.min_landlock_abi())
        except (ImportError, OSError, RuntimeError):
            return False
    return True


@cache
def _bwrap() -> tuple[str, ...]:
    """bubblewrap with what every use of it has; () where it is not installed or not allowed.

    Without capabilities and namespaces of its own, root inside cannot make a read-only mount writable again.
    """
    program = shutil.which("bwrap")
    if program is None:
        return ()
    own = (program, "--unshare-all", "--unshare-user", "--cap-drop", "ALL", "--die-with-parent", "--new-session")
    for command in ((*own, "--disable-userns"), own):  # the former from version 0.8 on
        with suppress(OSError, subprocess.TimeoutExpired):
            trial = [*command, "--ro-bind", "/", "/", "true"]
            if subprocess.run(trial, capture_output=True, timeout=10).returncode == 0:
                return command
    return ()


def words(kind: SandboxKind, limits: SandboxLimits) -> str:
    """What held a file, for a report."""
    held = {
        "bubblewrap": "bubblewrap (no network, no home folder, read-only system)",
        "sandlock": "sandlock (no network, no home folder, read-only system)",
        "none": "none: its code could do what you can",
    }
    return f"{held[kind]}; limits {limits.words()}"


@contextmanager
def _scratch() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="budget-check-"))
    try:
        yield folder
    finally:
        with suppress(RecursionError):  # folders in folders in folders
            shutil.rmtree(folder, ignore_errors=True)
        if folder.exists():
            with suppress(OSError, subprocess.TimeoutExpired):
                subprocess.run(["rm", "-rf", "--", str(folder)], capture_output=True, timeout=5)


def _readable(path: Path) -> list[str]:
    """Folders and files that the child needs, beside the system's: this interpreter, these packages, the model.

    The model's folder, for what it imports; but never the home folder, nor that of temporary files, where sockets lie.
    """
    folder = path.resolve().parent
    private = [Path.home().resolve(), Path(tempfile.gettempdir()).resolve()]
    model = path.resolve() if any(place.is_relative_to(folder) for place in private) else folder
    own = [PACKAGES / "arch", PACKAGES / "benchmarks"]
    interpreter = [Path(sys.prefix), Path(sys.base_prefix), Path(sys.executable).resolve().parent.parent]
    libraries = [Path(sysconfig.get_path(name)) for name in ("purelib", "platlib")]
    loaded = [Path(entry) for entry in os.environ.get("LD_LIBRARY_PATH", "").split(os.pathsep) if entry]
    wanted = dict.fromkeys([*interpreter, *libraries, *loaded, *own, model])
    return [str(place) for place in wanted if place.exists() and not private[0].is_relative_to(place.resolve())]


def _environment(scratch: Path) -> dict[str, str]:
    own = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "USER": "nobody", "LOGNAME": "nobody"}
    places = dict.fromkeys(("HOME", "TMPDIR", "XDG_CACHE_HOME", "TORCH_HOME"), str(scratch))
    passed_on = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    return {**own, **places, **WORKER_ENVIRONMENT, **passed_on}


def _start(
    kind: SandboxKind, readable: Sequence[str], scratch: Path, limits: SandboxLimits, device: str
) -> tuple[_Process, IO[bytes], IO[bytes], IO[bytes]]:
    python = [sys.executable, "-I", "-B", "-c", PROGRAM, str(PACKAGES), str(scratch)]
    gpus = device.startswith("cuda")
    if kind == "sandlock":
        return _sandlock(python, readable, scratch, limits, gpus)
    command = [*_bubblewrap(readable, scratch, gpus), *python] if kind == "bubblewrap" else python
    pipe = subprocess.PIPE
    process = subprocess.Popen(
        command,
        stdin=pipe,
        stdout=pipe,
        stderr=pipe,
        env=_environment(scratch),
        cwd=scratch,
        start_new_session=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    return process, process.stdin, process.stdout, process.stderr


def _bubblewrap(readable: Sequence[str], scratch: Path, gpus: bool) -> list[str]:
    """https://github.com/containers/bubblewrap: namespaces of its own; all in them die with the first process."""
    arguments = [*_bwrap(), "--proc", "/proc", "--dev", "/dev"]
    if gpus:
        for node in sorted(Path("/dev").glob("nvidia*")):
            arguments += ["--dev-bind-try", str(node), str(node)]
    arguments += ["--remount-ro", "/dev", "--bind", str(scratch), "/tmp"]
    for place in (*SYSTEM, *SYSTEM_FILES, *readable):
        arguments += ["--ro-bind-try", place, place]
    return [*arguments, "--bind", str(scratch), str(scratch), "--remount-ro", "/", "--chdir", str(scratch)]


def _sandlock(
    python: Sequence[str], readable: Sequence[str], scratch: Path, limits: SandboxLimits, gpus: bool
) -> tuple[_Process, IO[bytes], IO[bytes], IO[bytes]]:
    """https://github.com/multikernel/sandlock: Landlock and seccomp."""
    from sandlock import Sandbox
    from sandlock.sandbox import StdioMode

    system = [place for place in (*SYSTEM, *SYSTEM_FILES, *DEVICES, "/proc") if Path(place).exists()]
    sandbox = Sandbox(
        fs_readable=[*system, *readable],
        fs_writable=[str(scratch), "/dev/null"],
        max_memory=limits.memory,
        max_processes=limits.processes,
        clean_env=True,
        env=_environment(scratch),
        cwd=str(scratch),
        gpu_devices=[] if gpus else None,
    )
    pipe = StdioMode.PIPED
    process = sandbox.popen(list(python), stdin=pipe, stdout=pipe, stderr=pipe)
    return process, process.stdin, process.stdout, process.stderr


def _listen(
    pid: int,
    stdout: IO[bytes],
    stderr: IO[bytes],
    scratch: Path,
    limits: SandboxLimits,
    nonce: str,
    progress: Callable[[dict[str, Any]], None],
) -> SandboxAnswer:
    """Reads both pipes until the answer is there, a limit is broken, or the child is gone."""
    deadline = time.monotonic() + limits.seconds
    words, printed, taken = b"", b"", 0
    with selectors.DefaultSelector() as selector:
        for stream in (stdout, stderr):
            os.set_blocking(stream.fileno(), False)
            selector.register(stream, selectors.EVENT_READ)
        next_look = 0.0
        while True:
            if time.monotonic() >= deadline:
                raise FileCheckFailed(f"it took longer than {limits.seconds:g} s (--time-limit)")
            if time.monotonic() >= next_look:
                started = time.monotonic()
                _look(pid, scratch, limits)
                next_look = time.monotonic() + max(LOOK_EVERY, 4 * (time.monotonic() - started))
            for key, _ in selector.select(LOOK_EVERY):
                chunk = os.read(key.fd, 2**16)
                if key.fileobj is stderr:
                    printed += chunk[: PRINTED_LIMIT - len(printed)]
                    if not chunk:
                        selector.unregister(stderr)
                    continue
                if not chunk:
                    raise FileCheckFailed(_last_words(printed) or "its process ended without an answer")
                words, taken = words + chunk, taken + len(chunk)
                if taken > MESSAGE_LIMIT:
                    raise FileCheckFailed("it said more than any verdict has to say")
                *lines, words = words.split(b"\n")
                for message in filter(None, (_message(line, nonce) for line in lines)):
                    if "progress" not in message:
                        return SandboxAnswer(message, _text(printed + _rest(stderr)[: PRINTED_LIMIT - len(printed)]))
                    progress(message["progress"])


def _rest(stream: IO[bytes]) -> bytes:
    """What lies in a pipe at this moment."""
    try:
        return os.read(stream.fileno(), PRINTED_LIMIT)
    except BlockingIOError:
        return b""


def _message(line: bytes, nonce: str) -> dict[str, Any] | None:
    """One message of the judge; None for anything else that comes down its pipe."""
    if nonce.encode() not in line:
        return None
    try:
        content = _clean(json.loads(line))
    except (ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) and content.pop("nonce", "") == nonce else None


def _clean(content: Any) -> Any:
    """The same data, without a control character in any string and with no number or list beyond all measure."""
    if isinstance(content, str):
        return printable(content[:2000])
    if isinstance(content, int) and not isinstance(content, bool):
        return max(-(2**63), min(content, 2**63 - 1))
    if isinstance(content, list):
        return [_clean(item) for item in content[:1000]]
    if isinstance(content, dict):
        return {_clean(key): _clean(value) for key, value in content.items()}
    return content


def _text(printed: bytes) -> str:
    """What was printed, as lines that can be shown."""
    return "\n".join(_clean(line) for line in printed.decode(errors="replace").splitlines())


def _last_words(printed: bytes) -> str:
    """An interpreter that could not even start says why in its last line."""
    lines = [line for line in _text(printed).splitlines() if line.strip()]
    return f"its process ended without an answer; its last words: {lines[-1][:200]}" if lines else ""


def _look(pid: int, scratch: Path, limits: SandboxLimits) -> None:
    """Raises FileCheckFailed where the child and its descendants take more than they may."""
    family = _family(pid)
    if len(family) > limits.processes:
        raise FileCheckFailed(f"it started more than {limits.processes} processes")
    unnamed = _unnamed_files(family)
    device = scratch.stat().st_dev
    memory = sum(size for (place, _), size in unnamed.items() if place != device)
    for member in family:
        with suppress(psutil.Error):
            memory += member.memory_info().rss
    if memory > limits.memory:
        raise FileCheckFailed(
            f"its {len(family)} processes took more than {limits.memory / 2**30:.1f} GiB of memory (--memory-limit)"
        )
    disk, files = _written(scratch, limits.files)
    disk += sum(size for (place, _), size in unnamed.items() if place == device)
    if disk > limits.disk or files > limits.files:
        raise FileCheckFailed(f"it wrote more than {limits.disk / 2**30:.1f} GiB or {limits.files:,} files to the disk")


def _unnamed_files(family: Sequence[psutil.Process]) -> dict[tuple[int, int], int]:
    """Bytes of the open files that no folder lists, by device and inode: removed ones, and those made of memory."""
    found = {}
    for member in family:
        with suppress(OSError):
            for entry in os.scandir(f"/proc/{member.pid}/fd"):
                with suppress(OSError):
                    file = os.stat(entry.path)
                    if stat.S_ISREG(file.st_mode) and not file.st_nlink:
                        found[file.st_dev, file.st_ino] = 512 * file.st_blocks
    return found


def _written(scratch: Path, limit: int) -> tuple[int, int]:
    """Bytes and number of the files in a folder; counting ends beyond `limit` files.

    A path too long to be opened counts as too many files.
    """
    disk, files, folders = 0, 0, [str(scratch)]
    while folders and files <= limit:
        try:
            with os.scandir(folders.pop()) as entries:
                for entry in entries:
                    files += 1
                    with suppress(FileNotFoundError):
                        disk += 512 * entry.stat(follow_symlinks=False).st_blocks
                        if entry.is_dir(follow_symlinks=False):
                            folders.append(entry.path)
        except OSError as error:
            if error.errno == errno.ENAMETOOLONG:
                return disk, limit + 1
    return disk, files


def _family(pid: int) -> list[psutil.Process]:
    try:
        first = psutil.Process(pid)
        return [first, *first.children(recursive=True)]
    except psutil.Error:
        return []


def _kill_all(process: _Process) -> None:
    """Ends the child and all that came of it."""
    family = _family(process.pid)
    with suppress(OSError):
        process.kill()
    _end(family)
    with suppress(Exception):
        process.wait(5)


def _end(family: Sequence[psutil.Process]) -> None:
    for member in family:
        with suppress(psutil.Error):
            member.kill()
    psutil.wait_procs(family, timeout=1)


@contextmanager
def _adopting(kind: SandboxKind) -> Iterator[None]:
    """Within, Linux makes what the child leaves behind a child of this process, so that it is found and ended.

    bubblewrap needs no help: the kernel ends a whole namespace at once.
    """
    if kind == "bubblewrap" or sys.platform != "linux":
        yield
        return
    ours = {child.pid for child in psutil.Process().children()}
    libc = ctypes.CDLL(None)
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        yield
    finally:
        for _ in range(100):  # one that is about to fork leaves another one behind
            if not (left := [child for child in psutil.Process().children() if child.pid not in ours]):
                break
            _end([member for child in left for member in _family(child.pid)])
        libc.prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


def is_regular(path: Path) -> bool:
    """Whether a path names a file that can be read to its end: no folder, pipe or device."""
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except OSError:
        return False
