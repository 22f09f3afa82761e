"""Fixtures for tests of the sandbox."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from benchmarks.sandbox import kinds, start
from benchmarks.sandbox.kinds import SandboxKind, is_available
from benchmarks.sandbox.limits import SandboxLimits
from benchmarks.sandbox.messages import SandboxAnswer
from benchmarks.sandbox.sandbox import Sandbox
from benchmarks.sandbox.start import Confinement

ROOMY_LIMITS = SandboxLimits(seconds=60, memory=2**30, processes=8)
PROGRAM_START = """
import json, os, subprocess, sys, time
request = json.loads(sys.stdin.buffer.readline())

def send(**message):
    print(json.dumps({**message, "nonce": request["nonce"]}), flush=True)

"""

RunProgram = Callable[..., SandboxAnswer]


@pytest.fixture
def run_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunProgram:
    """Return a function that runs a short program as the child process, without a sandbox, and returns the answer."""

    def run(
        program: str, limits: SandboxLimits = ROOMY_LIMITS, progress: Callable[[dict[str, Any]], None] = lambda _: None
    ) -> SandboxAnswer:
        monkeypatch.setattr(start, "CHILD_PROGRAM", PROGRAM_START + program)
        with Sandbox(Confinement("none", (tmp_path / "net.py",), "cpu", limits)) as sandbox:
            return sandbox.ask({"device": "cpu", "path": "net.py"}, progress)

    return run


@pytest.fixture(params=["bubblewrap", "sandlock"])
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> SandboxKind:
    """Use each sandbox that works on this machine."""
    selected: SandboxKind = request.param
    if not is_available(selected):
        pytest.skip(f"{selected} does not work here")
    monkeypatch.setattr(kinds, "best_sandbox", lambda: selected)
    return selected


@pytest.fixture
def sleep_command() -> list[str]:
    """Return a sleep command that no other process runs."""
    return ["sleep", "271828.18"]


@pytest.fixture
def sleeping(sleep_command: list[str]) -> Callable[[], list[int]]:
    """Return a function that returns the PIDs of live processes that run `sleep_command`."""

    def pids() -> list[int]:
        return [
            process.pid
            for process in psutil.process_iter(["cmdline", "status"])
            if process.info["cmdline"] == sleep_command and process.info["status"] != psutil.STATUS_ZOMBIE
        ]

    return pids


STAND_IN_CHILD = """
import sys
sys.path.insert(0, sys.argv[1])

from pathlib import Path

from benchmarks.budget.verdict import ModelCost, Verdict
from benchmarks.definition.benchmark import Budget
from benchmarks.sandbox import child

def check_model_file(request, report):
    path = request["path"]
    exec(compile(Path(path).read_bytes(), path, "exec"), {"__file__": path, "__name__": "model_file"})
    return Verdict(Path(path).name, request["benchmark"]["name"], Budget(), 8, 64, ModelCost(1, 1))

child.check_model_file = check_model_file
child.preload = lambda: None
child.main()
"""


@pytest.fixture
def _run_files_without_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the child run Python files without importing torch, which takes seconds, and accept every file that ends.

    The sandbox, the child process and its messages are real.
    """
    monkeypatch.setattr(start, "CHILD_PROGRAM", STAND_IN_CHILD)
