import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.execution.environment import WORKER_ENVIRONMENT, set_worker_environment

PROGRAM = """
import json, os, sys
from benchmarks.execution.environment import WORKER_ENVIRONMENT, restart_with_worker_environment

print("started", sys.argv[1:], flush=True)
restart_with_worker_environment()
print(json.dumps({name: os.environ.get(name) for name in WORKER_ENVIRONMENT}))
"""


def output_of_program(environment: dict[str, str]) -> list[str]:
    """Run the program with one argument, with only the given worker environment variables, and return its output."""
    others = {name: os.environ[name] for name in os.environ.keys() - WORKER_ENVIRONMENT.keys()}
    command = [sys.executable, "-W", "error", "-c", PROGRAM, "word"]
    root = Path(__file__).parents[3]
    return subprocess.check_output(command, cwd=root, env=others | environment, text=True, timeout=60).splitlines()


def test_a_command_restarts_once_with_the_environment_of_workers() -> None:
    *starts, variables = output_of_program({})
    assert starts == ["started ['word']"] * 2
    assert json.loads(variables) == WORKER_ENVIRONMENT


def test_a_command_with_the_environment_does_not_restart() -> None:
    assert len(output_of_program(WORKER_ENVIRONMENT)) == 2


def test_compiled_models_are_kept_in_the_cache_of_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "")  # restored after the test
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR")
    set_worker_environment()
    folder = Path(os.environ["TORCHINDUCTOR_CACHE_DIR"])
    assert folder.is_dir()
    assert folder.is_relative_to(tmp_path / "timm-ablate")
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "chosen by the user")
    set_worker_environment()
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == "chosen by the user"


def test_a_cache_that_cannot_be_written_to_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "")
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR")
    set_worker_environment()
    assert "TORCHINDUCTOR_CACHE_DIR" not in os.environ


def test_the_variables_of_the_user_are_kept() -> None:
    user = {"GOMP_SPINCOUNT": "7"}
    *starts, variables = output_of_program(user)
    assert len(starts) == 2
    assert json.loads(variables) == WORKER_ENVIRONMENT | user
