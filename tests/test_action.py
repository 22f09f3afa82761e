"""Test the GitHub Action: its definition, and the script that it runs."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parent.parent
REAL_COMMAND = f"""#!/bin/sh
exec {sys.executable} -c "
from benchmarks.cli.budget_check import main
import sys
sys.exit(main(sys.argv[1:]))
" "$@"
"""
STAND_IN_COMMAND = f"""#!{sys.executable}
import json, os, pathlib, sys
pathlib.Path("arguments.json").write_text(json.dumps(sys.argv[1:]))
print(os.environ.get("VERDICT", ""), end="")
print("an error\\r\\n::warning::a command", file=sys.stderr)
sys.exit(int(os.environ["EXIT_CODE"]))
"""


def action() -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((ROOT / "action.yml").read_text())
    return content


def test_action_is_composite_and_its_steps_use_bash() -> None:
    runs = action()["runs"]
    assert runs["using"] == "composite"
    assert all("uses" in step or step["shell"] == "bash" for step in runs["steps"])


def test_no_input_is_interpolated_into_a_script() -> None:
    scripts = [step["run"] for step in action()["runs"]["steps"] if "run" in step]
    assert scripts
    assert not any("${{" in script for script in scripts)


def test_every_input_is_passed_to_the_script() -> None:
    (step,) = (step for step in action()["runs"]["steps"] if step.get("id") == "check")
    passed = set(re.findall(r"inputs\.([\w-]+)", str(step["env"])))
    assert passed == set(action()["inputs"]) - {"python-version"}


def run(folder: Path, command: str, **environment: str) -> tuple[int, str, str, str]:
    """Run the script with `command` as budget-check, and return the exit code, log, step summary and outputs."""
    summary, output = folder / "summary.md", folder / "output"
    (folder / "bin").mkdir()
    (folder / "bin" / "budget-check").write_text(command)
    (folder / "bin" / "budget-check").chmod(0o755)
    summary.touch()
    process = subprocess.run(
        ["bash", str(ROOT / "benchmarks/cli/action.sh")],
        cwd=folder,
        capture_output=True,
        text=True,
        env={
            **os.environ,
            "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "GITHUB_STEP_SUMMARY": str(summary),
            "GITHUB_OUTPUT": str(output),
            "RUNNER_TEMP": str(folder),
            "BENCHMARK": "digits",
            **environment,
        },
    )
    return process.returncode, process.stdout, summary.read_text(), output.read_text()


@pytest.mark.slow  # slow because a worker process imports torch
def test_report_becomes_the_step_summary(tmp_path: Path) -> None:
    code, _, summary, output = run(tmp_path, REAL_COMMAND, MODEL="resnet8", MAX_PARAMS="500")
    assert code == 1
    assert "| model | `resnet8 (spec)` |" in summary
    assert output.splitlines() == ["exit-code=1", f"verdict={tmp_path}/verdict.json"]
    assert json.loads((tmp_path / "verdict.json").read_text())["passed"] is False


def test_options_are_accepted_and_an_error_becomes_the_step_summary(tmp_path: Path) -> None:
    code, _, summary, output = run(tmp_path, REAL_COMMAND, MODEL="resnet8", MAX_PARAMS="3x", MAX_HOURS="1", PROFILE="x")
    assert code == 2
    assert "    budget-check: --max-params '3x'" in summary
    assert output.splitlines()[0] == "exit-code=2"


@pytest.mark.parametrize("exit_code", [0, 1])
def test_verdict_and_exit_code_are_passed_on(exit_code: int, tmp_path: Path) -> None:
    environment = {"EXIT_CODE": str(exit_code), "VERDICT": '{"passed": true}\n'}
    code, log, summary, output = run(tmp_path, STAND_IN_COMMAND, MODEL="resnet8", **environment)
    assert code == exit_code
    assert (tmp_path / "verdict.json").read_text() == environment["VERDICT"]
    assert environment["VERDICT"] in log
    assert summary == ""  # budget-check itself writes the summary
    assert output.splitlines() == [f"exit-code={exit_code}", f"verdict={tmp_path}/verdict.json"]


def test_output_is_not_interpreted_as_workflow_commands(tmp_path: Path) -> None:
    _, log, summary, _ = run(tmp_path, STAND_IN_COMMAND, MODEL="resnet8", EXIT_CODE="3")
    first, *printed, last = log.splitlines()
    token = first.removeprefix("::stop-commands::")
    assert re.fullmatch("[0-9a-f]{32}", token)
    assert last == f"::{token}::"
    assert printed == ["an error", "::warning::a command"]
    assert summary.splitlines()[-2:] == ["    an error", "    ::warning::a command"]


def test_options_are_passed_to_the_command(tmp_path: Path) -> None:
    environment = {"MAX_PARAMS": "5M", "MAX_HOURS": "0.5", "PROFILE": "some_gpu", "EXIT_CODE": "0"}
    run(tmp_path, STAND_IN_COMMAND, MODEL="resnet8", **environment)
    arguments = json.loads((tmp_path / "arguments.json").read_text())
    expected = ["--benchmark", "digits", "--no-timing", "--json", "--summary", str(tmp_path / "summary.md")]
    limits = ["--max-params", "5M", "--max-hours", "0.5", "--device-profile", "some_gpu"]
    assert arguments == [*expected, *limits, "--", "resnet8"]


@pytest.mark.parametrize("model", ["$(touch canary)", "--help; touch canary", "`touch canary`", "'; touch canary; '"])
def test_name_of_the_model_is_not_executed(model: str, tmp_path: Path) -> None:
    run(tmp_path, STAND_IN_COMMAND, MODEL=model, EXIT_CODE="2")
    assert json.loads((tmp_path / "arguments.json").read_text())[-2:] == ["--", model]
    assert not (tmp_path / "canary").exists()
