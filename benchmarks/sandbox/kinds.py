"""The kinds of sandbox, and which of them work on this system.

In bubblewrap and sandlock, a process has no network, a read-only view of the system, of this Python environment and of
the folder of the model, and a scratch folder that it can write to. It can neither trace processes nor mount, load code
into the kernel, create namespaces or open raw sockets. Without a sandbox it still has an isolated interpreter, its own
environment variables, and limits on memory, processes, time and output.
"""

import shutil
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from typing import Literal

from benchmarks.sandbox.limits import SandboxLimits
from benchmarks.sandbox.seccomp import seccomp_pipe, seccomp_program

SandboxKind = Literal["bubblewrap", "sandlock", "none"]

TRIAL_TIMEOUT_SECONDS = 10


@cache
def best_sandbox() -> SandboxKind:
    """Return the best sandbox that works on this system."""
    return next((kind for kind in ("bubblewrap", "sandlock") if is_available(kind)), "none")


def is_available(kind: SandboxKind) -> bool:
    """Return whether a sandbox is installed and permitted by the system."""
    if kind == "bubblewrap":
        return bool(bubblewrap_command())
    if kind == "sandlock":
        try:
            import sandlock

            return bool(sandlock.landlock_abi_version() >= sandlock.min_landlock_abi())
        except (ImportError, OSError, RuntimeError):
            return False
    return True


@cache
def bubblewrap_command() -> tuple[str, ...]:
    """Return the start of every bubblewrap command; () if bubblewrap is not installed or not permitted.

    The process has no capabilities and cannot create namespaces, so that even root cannot make a read-only mount
    writable again. Each command also needs `--seccomp` with the descriptor of `seccomp_pipe`.
    """
    program = shutil.which("bwrap")
    if program is None or not seccomp_program():
        return ()
    base = (program, "--unshare-all", "--unshare-user", "--cap-drop", "ALL", "--die-with-parent", "--new-session")
    for command in ((*base, "--disable-userns"), base):  # the option exists from version 0.8 on
        with suppress(OSError, subprocess.TimeoutExpired):
            if _runs(command):
                return command
    return ()


def _runs(command: Sequence[str]) -> bool:
    """Return whether a bubblewrap command can run a program under the filter of system calls."""
    with seccomp_pipe() as pipe:
        trial = [*command, "--seccomp", str(pipe), "--ro-bind", "/", "/", "true"]
        result = subprocess.run(trial, capture_output=True, timeout=TRIAL_TIMEOUT_SECONDS, pass_fds=[pipe])
    return result.returncode == 0


def describe_sandbox(kind: SandboxKind, limits: SandboxLimits) -> str:
    """Describe the confinement of a file, for a report."""
    confinement = {
        "bubblewrap": "bubblewrap (no network, no home folder, read-only system)",
        "sandlock": "sandlock (no network, no home folder, read-only system)",
        "none": "none: code in the file runs with all of your permissions",
    }
    return f"{confinement[kind]}; limits {limits.describe()}"
