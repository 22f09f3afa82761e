"""The Python environment of a session: that of the caller, plus the wheels that were transferred."""

import subprocess
import sys
from pathlib import Path

from arch.errors import InputError


def create_environment(work: Path) -> str:
    """Return the interpreter to use, after installing the wheels of WORK/received/wheels into WORK/venv.

    The environment also contains the packages of this interpreter. `--system-site-packages` would not be enough if
    this interpreter is itself in a virtual environment.

    Raises:
        InputError: If the wheels cannot be installed.
    """
    wheels = sorted((work / "received" / "wheels").glob("*.whl"))
    if not wheels:
        return sys.executable
    venv, names = work / "venv", "\n".join(wheel.name for wheel in wheels)
    python, installed = venv / "bin" / "python", venv / "installed.txt"
    if installed.exists() and installed.read_text() == names:
        return str(python)
    _call(sys.executable, "-m", "venv", "--clear", "--without-pip", str(venv))
    (site_packages,) = venv.glob("lib/python*/site-packages")
    inherited = [path for path in sys.path if path.endswith("-packages")]
    (site_packages / "inherited.pth").write_text("\n".join(inherited))
    pip = ["-m", "pip", "--python", str(python), "--disable-pip-version-check"]
    options = ["--quiet", "--no-index", "--no-deps", "--no-compile"]
    _call(sys.executable, *pip, "install", *options, *map(str, wheels))
    installed.write_text(names)
    return str(python)


def _call(*command: str) -> None:
    process = subprocess.run(command, capture_output=True, text=True)
    if process.returncode:
        raise InputError(f"cannot install the wheels: {' '.join((process.stderr or process.stdout).split())[-500:]}")
