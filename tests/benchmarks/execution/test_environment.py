import json
import os
import subprocess
import sys
from pathlib import Path

from benchmarks.execution.environment import WORKER_ENVIRONMENT

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


def test_the_variables_of_the_user_are_kept() -> None:
    user = {"GOMP_SPINCOUNT": "7"}
    *starts, variables = output_of_program(user)
    assert len(starts) == 2
    assert json.loads(variables) == WORKER_ENVIRONMENT | user
