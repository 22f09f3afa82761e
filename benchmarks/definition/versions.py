"""Which versions made a number."""

import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path


def versions() -> dict[str, str]:
    """Of what decides numbers and speed: torch, timm, this program, Python."""
    return {name: installed(name) for name in ("torch", "timm", "timm-ablate")} | {"python": platform.python_version()}


def installed(name: str) -> str:
    """The version of a distribution."""
    try:
        return version(name)
    except PackageNotFoundError:  # this project, run from its folder without having been installed
        return "not installed"


def commit() -> str:
    """The commit of this program where it runs from a git checkout, with "+" for uncommitted changes; else ""."""
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():  # installed: a repository around the environment is somebody else's
        return ""
    git = ["git", "-C", str(root), "describe", "--always", "--dirty=+", "--abbrev=12", "--exclude=*"]
    try:
        return subprocess.run(git, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""
