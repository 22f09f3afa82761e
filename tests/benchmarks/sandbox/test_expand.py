"""Tests of MODEL arguments that stand for several models."""

from pathlib import Path

import pytest

from arch.errors import InputError
from benchmarks.sandbox import kinds
from benchmarks.sandbox.expand import expand, is_group
from benchmarks.sandbox.file_check import FileChecker, FilePolicy
from benchmarks.sandbox.limits import SandboxLimits

POLICY = FilePolicy(SandboxLimits(60))


@pytest.fixture(autouse=True)
def _in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("nets", "resnet18", "resnet50"):
        (tmp_path / name).mkdir()
    (tmp_path / "net.py").write_text("import torch\nclass A(torch.nn.Module): pass\nclass B(torch.nn.Module): pass\n")
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("model", [".", "nets", "nets/", "./resnet18", "timm/resnet*", "net.py:*", "net.py:[AB]"])
def test_folders_and_patterns_stand_for_several_models(model: str) -> None:
    assert is_group(model)


@pytest.mark.parametrize("model", ["resnet18", "resnet18+se", "net.py", "net.py:A", "net.py:A([1, 2])", "missing", "*"])
def test_other_arguments_stand_for_one_model(model: str) -> None:
    assert not is_group(model)
    with FileChecker(POLICY) as checker:
        assert expand(model, checker) == ([model], [])


def test_pattern_selects_models_of_timm() -> None:
    with FileChecker(POLICY) as checker:
        names, notes = expand("timm/resnet1*t", checker)
    assert names == ["timm/resnet10t", "timm/resnet14t"]
    assert notes == []


@pytest.mark.parametrize(
    ("model", "expected"), [("timm/nothing*", "nothing*"), ("missing.py:*", "there is no file missing.py")]
)
def test_pattern_without_models_is_invalid(model: str, expected: str) -> None:
    with FileChecker(POLICY) as checker, pytest.raises(InputError) as error:
        expand(model, checker)
    assert expected in str(error.value)


@pytest.mark.slow
@pytest.mark.skipif(kinds.best_sandbox() == "none", reason="needs bubblewrap or sandlock")
def test_folders_and_files_are_listed_in_the_sandbox() -> None:
    with FileChecker(POLICY) as checker:
        assert expand(".", checker)[0] == ["net.py:A", "net.py:B"]
        assert expand("net.py:A*", checker)[0] == ["net.py:A"]
        with pytest.raises(InputError, match="nets contains no model"):
            expand("nets", checker)


def test_private_folders_are_not_searched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "nets" / "user"))
    with FileChecker(POLICY) as checker:
        for folder in ("/", "nets"):
            with pytest.raises(InputError, match="is not searched for models"):
                checker.list_models(folder)
