"""Test that files in the current folder and on PYTHONPATH hide neither our packages nor the standard library."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from timm_ablate import PACKAGES

SCRIPT = "from timm_ablate import {command}\nif __name__ == '__main__': raise SystemExit({command}())"
TRAP = "from pathlib import Path\nPath({proof!r}).touch()\nraise SystemExit('a file of the user was imported')\n"
MODEL = """
import helper_on_path
from torch import nn

class Net(nn.Module):
    def __init__(self, num_classes=10):
        super().__init__()
        self.fc = nn.Linear(64, num_classes)
    def forward(self, x):
        return self.fc(x.flatten(1))
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A current folder with files that have the names of our packages and of standard modules."""
    trap = TRAP.format(proof=str(tmp_path / "imported"))
    current, on_path = tmp_path / "current", tmp_path / "on_path"
    for place, names in ((current, [*PACKAGES, "random", "typing", "types", "torch"]), (on_path, PACKAGES)):
        place.mkdir()
        for name in names:
            (place / f"{name}.py").write_text(trap)
    (current / "benchmarks.py").unlink()
    (current / "benchmarks").mkdir()
    (current / "benchmarks" / "__init__.py").write_text(trap)
    (current / "models").mkdir()
    (current / "models" / "net.py").write_text(MODEL)
    (on_path / "helper_on_path.py").touch()
    return current


def run(folder: Path, command: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command as its installed script does, with the current folder `folder`."""
    environment = os.environ | {"PYTHONPATH": str(folder.parent / "on_path")}
    environment.pop("PYTHONSAFEPATH", None)
    script = folder.parent / "script.py"
    script.write_text(SCRIPT.format(command=command))
    program = [sys.executable, str(script), *arguments]
    return subprocess.run(program, cwd=folder, env=environment, capture_output=True, text=True)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        ("budget_check", ["resnet8", "--benchmark", "digits", "--no-timing"]),
        ("budget_check", ["models/net.py", "--benchmark", "digits", "--no-timing", "--trust"]),
        ("ablate", ["run", "compare:resnet8+width=0.5,resnet8", "--seeds", "1", "--runs-per-device", "2"]),
    ],
    ids=["spec", "file that imports from PYTHONPATH", "runs that share a device"],
)
def test_no_file_of_the_user_is_imported(folder: Path, command: str, arguments: list[str]) -> None:
    finished = run(folder, command, *arguments)
    assert finished.returncode == 0, finished.stderr
    assert not (folder.parent / "imported").exists()
