"""Which versions made a number."""

import platform
from importlib.metadata import PackageNotFoundError, version


def versions() -> dict[str, str]:
    """Of what decides numbers and speed: torch, timm, this program, Python."""
    return {name: _version(name) for name in ("torch", "timm", "timm-ablate")} | {"python": platform.python_version()}


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:  # this project, run from its folder without having been installed
        return "not installed"
