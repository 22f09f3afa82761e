"""Tests of the option --weights."""

from pathlib import Path

import pytest
from safetensors.torch import save_file

from arch.models import build
from arch.spec import parse
from benchmarks.cli.budget_check import main
from benchmarks.sandbox import kinds

OPTIONS = ("--benchmark", "digits", "--device", "cpu", "--no-timing", "--weights")


@pytest.mark.parametrize(
    ("model", "weights", "error"),
    [
        ("net.pth", "net.th", "--weights needs a MODEL that builds a network"),
        ("resnet8", "net.py", "net.py is not a weights file"),
        ("resnet8", "net.onnx", "net.onnx is not a weights file"),
    ],
)
def test_weights_without_a_network_are_invalid(
    model: str,
    weights: str,
    error: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.pth").touch()
    assert main([model, *OPTIONS, weights]) == 2
    assert error in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.skipif(kinds.best_sandbox() == "none", reason="needs bubblewrap or sandlock")
def test_weights_are_compared_with_a_spec(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state = build(parse("resnet8+se").variant(), 10, 1).state_dict()
    save_file(state, tmp_path / "net.safetensors")
    assert main(["resnet8+se", *OPTIONS, str(tmp_path / "net.safetensors")]) == 0
    assert f"all {len(state)} tensors of net.safetensors match" in " ".join(capsys.readouterr().out.split())
    assert main(["resnet8", *OPTIONS, str(tmp_path / "net.safetensors")]) == 2
    assert "unexpected" in capsys.readouterr().err
