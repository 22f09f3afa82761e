"""Fixtures for tests of Python model files."""

import sys
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def _restore_imports(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Remove the modules and the import path that a checked file leaves in this process."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "argv", [*sys.argv])
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if name.startswith(("model_file_", "neighbor_")):
            del sys.modules[name]
