"""Start the child process of a file check in each kind of sandbox."""

import os
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol

from benchmarks.execution.environment import WORKER_ENVIRONMENT
from benchmarks.sandbox.kinds import SandboxKind, bubblewrap_command
from benchmarks.sandbox.limits import SandboxLimits
from benchmarks.sandbox.project import contains_private_files
from benchmarks.sandbox.seccomp import seccomp_pipe
from timm_ablate import PACKAGES_ROOT

SYSTEM_FOLDERS = ("/usr", "/bin", "/sbin", "/lib", "/lib64", "/lib32", "/sys", "/nix/store")
SYSTEM_FILES = ("/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/alternatives", "/etc/fonts")
DEVICE_FILES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
PASSED_VARIABLES = ("CUDA_VISIBLE_DEVICES", "LD_LIBRARY_PATH", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
CHILD_PROGRAM = """
import runpy, sys
sys.path += sys.argv[3:]
runpy.run_path(sys.argv[1] + "/timm_ablate.py")  # makes our packages importable
from benchmarks.sandbox.child import main
main()
"""


@dataclass(frozen=True)
class Confinement:
    """How a child process is confined.

    Attributes:
        kind: The kind of sandbox.
        visible: The files and folders that the child can read, besides those of the system and of Python.
        device: "cpu", "cuda", "cuda:1"...; a GPU is made accessible.
        limits: Limits of each check.
    """

    kind: SandboxKind
    visible: tuple[Path, ...]
    device: str
    limits: SandboxLimits

    @property
    def uses_gpu(self) -> bool:
        """Whether the child needs access to the GPUs."""
        return self.device.startswith("cuda")


class _ProcessHandle(Protocol):
    """The common interface of `subprocess.Popen` and of sandlock's process."""

    def kill(self) -> None: ...
    def wait(self, timeout: float | None = None) -> Any: ...


@dataclass(frozen=True)
class Child:
    """A started child process and its pipes."""

    handle: _ProcessHandle
    pid: int
    stdin: IO[bytes]
    stdout: IO[bytes]
    stderr: IO[bytes]


def start_child(confinement: Confinement, scratch: Path) -> Child:
    """Start the child in its sandbox.

    Args:
        confinement: The kind of sandbox, what is visible in it, the device and the limits.
        scratch: A new folder, which is the only one that the child can write to.
    """
    python = [sys.executable, "-I", "-B", "-c", CHILD_PROGRAM, str(PACKAGES_ROOT), str(scratch), *import_folders()]
    if confinement.kind == "sandlock":
        return _start_in_sandlock(python, confinement, scratch)
    if confinement.kind == "bubblewrap":
        with seccomp_pipe() as pipe:
            prefix = _bubblewrap_arguments(confinement, scratch)
            return _start([*prefix, "--seccomp", str(pipe), *python], scratch, [pipe])
    return _start(python, scratch)


def _start(command: Sequence[str], scratch: Path, passed_files: Sequence[int] = ()) -> Child:
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=_environment(scratch),
        cwd=scratch,
        start_new_session=True,
        pass_fds=passed_files,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    return Child(process, process.pid, process.stdin, process.stdout, process.stderr)


def readable_paths(visible: Sequence[Path]) -> list[str]:
    """Return the paths that the child can read besides those of the system: Python, these packages and `visible`."""
    packages = [PACKAGES_ROOT / name for name in ("arch", "benchmarks", "timm_ablate.py")]
    interpreter = [Path(sys.prefix), Path(sys.base_prefix), Path(sys.executable).resolve().parent.parent]
    libraries = [Path(sysconfig.get_path(name)) for name in ("purelib", "platlib")]
    loaded = [Path(entry) for entry in os.environ.get("LD_LIBRARY_PATH", "").split(os.pathsep) if entry]
    imported = map(Path, import_folders())
    paths = dict.fromkeys([*interpreter, *libraries, *loaded, *imported, *packages, *visible])
    home = Path.home().resolve()
    return [str(path) for path in paths if path.exists() and not home.is_relative_to(path.resolve())]


def import_folders() -> list[str]:
    """Return the folders of this process's import path, such as those on PYTHONPATH or in the user's site-packages.

    The first entry, which is the folder of the running script, is left out, and so are folders with private files.
    """
    entries = sys.path[0 if sys.flags.safe_path else 1 :]
    folders = [Path(entry).resolve() for entry in entries if entry and Path(entry).exists()]
    return list(dict.fromkeys(str(folder) for folder in folders if not contains_private_files(folder)))


def _environment(scratch: Path) -> dict[str, str]:
    fixed = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "USER": "nobody", "LOGNAME": "nobody"}
    folders = dict.fromkeys(("HOME", "TMPDIR", "XDG_CACHE_HOME", "TORCH_HOME"), str(scratch))
    passed = {name: os.environ[name] for name in PASSED_VARIABLES if name in os.environ}
    return {**fixed, **folders, **WORKER_ENVIRONMENT, **passed}


def _bubblewrap_arguments(confinement: Confinement, scratch: Path) -> list[str]:
    """Return the bubblewrap command to put before the child's (https://github.com/containers/bubblewrap).

    The child is the first process in its own namespaces. The code of a file cannot kill it, and when it exits, all
    others are killed. A process of bubblewrap in its place could be read and changed by the code of a file.
    """
    arguments = [*bubblewrap_command(), "--as-pid-1", "--proc", "/proc", "--dev", "/dev"]
    if confinement.uses_gpu:
        for node in sorted(Path("/dev").glob("nvidia*")):
            arguments += ["--dev-bind-try", str(node), str(node)]
    arguments += ["--remount-ro", "/dev"]
    for path in (*SYSTEM_FOLDERS, *SYSTEM_FILES, *readable_paths(confinement.visible)):
        arguments += ["--ro-bind-try", path, path]
    return [*arguments, "--bind", str(scratch), str(scratch), "--remount-ro", "/", "--chdir", str(scratch)]


def _start_in_sandlock(python: Sequence[str], confinement: Confinement, scratch: Path) -> Child:
    """Start the child under Landlock and seccomp (https://github.com/multikernel/sandlock)."""
    from sandlock import Sandbox
    from sandlock.sandbox import StdioMode

    system = [path for path in (*SYSTEM_FOLDERS, *SYSTEM_FILES, *DEVICE_FILES, "/proc") if Path(path).exists()]
    sandbox = Sandbox(
        fs_readable=[*system, *readable_paths(confinement.visible)],
        fs_writable=[str(scratch), "/dev/null"],
        max_memory=confinement.limits.memory,
        max_processes=confinement.limits.processes,
        clean_env=True,
        env=_environment(scratch),
        cwd=str(scratch),
        gpu_devices=[] if confinement.uses_gpu else None,
    )
    pipe = StdioMode.PIPED
    process = sandbox.popen(list(python), stdin=pipe, stdout=pipe, stderr=pipe)
    return Child(process, process.pid, process.stdin, process.stdout, process.stderr)
