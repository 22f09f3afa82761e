import pytest

from benchmarks.sandbox import kinds
from benchmarks.sandbox.kinds import SandboxKind, best_sandbox, bubblewrap_command, describe_sandbox, is_available
from benchmarks.sandbox.limits import SandboxLimits


@pytest.mark.parametrize(
    ("kind", "start"),
    [("bubblewrap", "bubblewrap (no network"), ("sandlock", "sandlock (no network"), ("none", "none: code in")],
)
def test_description_names_sandbox_and_limits(kind: SandboxKind, start: str) -> None:
    limits = SandboxLimits(60, 2**30, 8)
    description = describe_sandbox(kind, limits)
    assert description.startswith(start)
    assert description.endswith(f"; limits {limits.describe()}")


def test_no_sandbox_is_always_available() -> None:
    assert is_available("none")


@pytest.mark.parametrize(
    ("available", "expected"),
    [
        ({"bubblewrap", "sandlock", "none"}, "bubblewrap"),
        ({"sandlock", "none"}, "sandlock"),
        ({"none"}, "none"),
    ],
)
def test_best_available_sandbox_is_used(available: set[str], expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kinds, "is_available", lambda kind: kind in available)
    assert best_sandbox.__wrapped__() == expected


def test_bubblewrap_is_unavailable_if_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.sandbox.kinds.shutil.which", lambda _: None)
    monkeypatch.setattr(kinds, "bubblewrap_command", bubblewrap_command.__wrapped__)
    assert not is_available("bubblewrap")
