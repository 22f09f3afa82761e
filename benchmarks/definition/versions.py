"""The software versions that a record stores."""

import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path


def versions() -> dict[str, str]:
    """Return the versions that determine results and speed: torch, timm, this program and Python."""
    packages = {name: installed_version(name) for name in ("torch", "timm", "timm-ablate")}
    return packages | {"python": platform.python_version()}


def installed_version(distribution: str) -> str:
    """Return the version of an installed distribution, or "not installed"."""
    try:
        return version(distribution)
    except PackageNotFoundError:  # for example, this project itself if it runs from its folder without being installed
        return "not installed"


def commit() -> str:
    """Return the commit of this program if it runs from a git checkout, with "+" for uncommitted changes; else ""."""
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():  # when installed, a git repository around the environment is not this project's
        return ""
    git = ["git", "-C", str(root), "describe", "--always", "--dirty=+", "--abbrev=12", "--exclude=*"]
    try:
        return subprocess.run(git, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""
