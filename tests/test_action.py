"""The GitHub Action: that it is well-formed, and what its script does."""

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
NET = """
from torch import nn

def build():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
"""


def action() -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((ROOT / "action.yml").read_text())
    return content


def test_it_is_a_composite_action_whose_steps_name_their_shell() -> None:
    runs = action()["runs"]
    assert runs["using"] == "composite"
    assert all("uses" in step or step["shell"] == "bash" for step in runs["steps"])


def test_no_input_is_pasted_into_a_script() -> None:
    scripts = [step["run"] for step in action()["runs"]["steps"] if "run" in step]
    assert scripts
    assert not any("${{" in script for script in scripts)


def test_every_input_reaches_the_script() -> None:
    (step,) = (step for step in action()["runs"]["steps"] if step.get("id") == "check")
    given = set(re.findall(r"inputs\.([\w-]+)", str(step["env"])))
    assert given == set(action()["inputs"]) - {"python-version"}


def run(folder: Path, **environment: str) -> tuple[int, str, str]:
    """Exit code, step summary and outputs of the script."""
    summary, output = folder / "summary.md", folder / "output"
    (folder / "bin").mkdir()
    command = folder / "bin" / "budget-check"  # what an installation would have put on the path
    program = "from benchmarks.cli.budget_check import main; import sys; sys.exit(main(sys.argv[1:]))"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -c "{program}" "$@"\n')
    command.chmod(0o755)
    code = subprocess.run(
        ["bash", str(ROOT / "benchmarks/cli/action.sh")],
        cwd=folder,
        capture_output=True,
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
    ).returncode
    return code, summary.read_text(), output.read_text()


@pytest.mark.parametrize(("limit", "expected"), [("", 0), ("500", 1)])
def test_a_verdict_becomes_the_summary(limit: str, expected: int, tmp_path: Path) -> None:
    code, summary, output = run(tmp_path, MODEL="resnet8", MAX_PARAMS=limit)
    assert code == expected
    assert "| model | `resnet8 (our spec)` |" in summary
    assert output.splitlines() == [f"exit-code={expected}", f"verdict={tmp_path}/verdict.json"]
    assert json.loads((tmp_path / "verdict.json").read_text())["passed"] is (expected == 0)


@pytest.mark.parametrize("model", ["$(touch canary)", "--help; touch canary", "`touch canary`"])
def test_a_name_is_a_name(model: str, tmp_path: Path) -> None:
    code, summary, _ = run(tmp_path, MODEL=model)
    assert code == 2
    assert "    budget-check: unknown model" in summary
    assert not (tmp_path / "canary").exists()
