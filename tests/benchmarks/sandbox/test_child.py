"""Tests of the child's answers, with the child called in this process without a sandbox."""

import io
import json
import sys
from collections.abc import Iterator
from contextlib import redirect_stderr
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from benchmarks.budget.request import FileOptions
from benchmarks.definition.benchmark import Benchmark
from benchmarks.sandbox.child import answer

NET = """
from torch import nn

class Net(nn.Sequential):
    def __init__(self, num_classes, in_chans):
        super().__init__(nn.Conv2d(in_chans, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, num_classes))
"""
HEAD = "\nclass Head(nn.Linear): pass\n"  # a class of the file is not replaced as a classifier


@pytest.fixture(autouse=True)
def _restore_state(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Undo the changes that a checked file makes in this process: its module and its import path."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield
    sys.modules.pop("model_file_net", None)


def ask(path: Path, benchmark: Benchmark, **changes: Any) -> dict[str, Any]:
    """Return the answer to a request, converting both to JSON and back."""
    request = {"path": str(path), "name": "", "benchmark": asdict(benchmark), "device": "cpu", "image_counts": None}
    file = {"file_options": asdict(FileOptions()), "folders": [str(path.parent)], "hidden_folder": ""}
    others = {"task": "check", "allow_code": False, "profile": None, "weights": "", "shapes": None}
    others |= {"hours": "measured", "layers": False, "inference_batch": 0}
    request = json.loads(json.dumps({**request, **file, **others, **changes}))
    with redirect_stderr(io.StringIO()):  # hides the traceback
        message: dict[str, Any] = json.loads(json.dumps(answer(request, lambda _: None)))
    return message


def source(folder: Path, text: str) -> Path:
    path = folder / "net.py"
    path.write_text(text)
    return path


def test_inference_is_measured_if_asked_for(tmp_path: Path, tiny: Benchmark, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.budget.inference.MAX_CALLS", 3)
    path = source(tmp_path, NET)
    assert ask(path, tiny)["verdict"]["inference"] is None
    inference = ask(path, tiny, inference_batch=64)["verdict"]["inference"]
    assert (inference["batch"]["batch_size"], inference["batch"]["calls"]) == (64, 3)


def test_layers_are_listed_if_asked_for(tmp_path: Path, tiny: Benchmark) -> None:
    path = source(tmp_path, NET)
    assert ask(path, tiny)["verdict"]["layers"] == []
    layers = ask(path, tiny, layers=True)["verdict"]["layers"]
    assert sum(layer["params"] for layer in layers) == 90


def test_file_is_checked(tmp_path: Path, tiny: Benchmark) -> None:
    verdict = ask(source(tmp_path, NET), tiny)["verdict"]
    assert (verdict["model"], verdict["benchmark"]) == ("net.py:Net (file)", "tiny")
    assert verdict["cost"]["params"] == 90
    assert (verdict["problems"], verdict["unjudged"], verdict["throughput"]) == ([], "", None)


def test_name_selects_a_model_in_the_file(tmp_path: Path, tiny: Benchmark) -> None:
    path = source(tmp_path, NET + "\ndef build(): return Net(10, 1)\n")
    assert ask(path, tiny, name="build")["verdict"]["model"] == "net.py:build (file)"


def test_wrong_output_shape_is_reported(tmp_path: Path, tiny: Benchmark) -> None:
    path = source(tmp_path, NET + "\ndef build(): return nn.Sequential(Net(7, 1), nn.Threshold(7, 7))\n")
    path.write_text(path.read_text().replace("nn.Linear(4, num_classes)", "Head(4, num_classes)") + HEAD)
    verdict = ask(path, tiny, name="build")["verdict"]
    assert "(1, 7)" in verdict["unjudged"]
    assert "(1, 10)" in verdict["unjudged"]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("raise RuntimeError('not today')", "RuntimeError: not today"),
        ("raise RuntimeError('not today\\nnor tomorrow')", "RuntimeError: not today"),
        ("raise RuntimeError", "RuntimeError"),
        ("def build(:", "SyntaxError: "),
        ("import no_such_module", "ModuleNotFoundError: "),
        ("import sys; sys.exit(0)", "SystemExit: 0"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt"),
        ("class E(Exception):\n    def __str__(self): raise ValueError\nraise E", "E"),
        (NET.replace("Linear(4", "Linear(5"), "RuntimeError: "),
    ],
)
def test_error_of_the_file_is_reported_in_one_line(
    content: str, expected: str, tmp_path: Path, tiny: Benchmark
) -> None:
    message = ask(source(tmp_path, content), tiny)
    assert list(message) == ["failed"]
    assert message["failed"].startswith(expected)
    assert "\n" not in message["failed"]


@pytest.mark.parametrize(
    "content",
    [
        "raise MemoryError",
        "bytes(2**55)",
        "import torch\ndef build(): return torch.nn.Linear(10**7, 10**7, device='cpu')",
        "import numpy\nnumpy.zeros((10**7, 10**7))",
    ],
    ids=["error", "bytes", "torch", "numpy"],
)
def test_file_without_memory_is_reported(content: str, tmp_path: Path, tiny: Benchmark) -> None:
    assert list(ask(source(tmp_path, content), tiny)) == ["out of memory"]


def test_unknown_name_is_invalid_input(tmp_path: Path, tiny: Benchmark) -> None:
    message = ask(source(tmp_path, NET), tiny, name="Nett")
    assert list(message) == ["input error"]
    assert "unknown name 'Nett' in net.py: did you mean 'Net'?" in message["input error"]


def test_unsafe_file_is_refused(tmp_path: Path, tiny: Benchmark) -> None:
    torch.save(nn.Linear(4, 4), tmp_path / "net.pt")
    message = ask(tmp_path / "net.pt", tiny)
    assert list(message) == ["refused"]
    assert "--allow-code" in message["refused"]


@pytest.mark.parametrize(
    ("image_counts", "hours", "needs_hours"),
    [(None, "optional", False), ([80, 50], "measured", True), ([80, 50], "optional", False)],
)
def test_weights_are_counted_but_not_timed(
    image_counts: list[int] | None, hours: str, needs_hours: bool, tmp_path: Path, tiny: Benchmark
) -> None:
    torch.save(nn.Linear(4, 4).state_dict(), tmp_path / "net.pt")
    verdict = ask(tmp_path / "net.pt", tiny, image_counts=image_counts, hours=hours)["verdict"]
    assert verdict["cost"]["params"] == 20
    assert ("weights alone" in verdict["unjudged"]) is needs_hours


def saved_net(folder: Path, num_classes: int) -> str:
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, num_classes))
    torch.save({"net": nn.DataParallel(net).state_dict()}, folder / "net.th")
    return str(folder / "net.th")


def test_weights_that_match_the_model_are_noted(tmp_path: Path, tiny: Benchmark) -> None:
    verdict = ask(source(tmp_path, NET), tiny, weights=saved_net(tmp_path, tiny.data.num_classes))["verdict"]
    assert verdict["cost"]["params"] == 90
    assert any("all 4 tensors of net.th match" in note for note in verdict["notes"])


def test_weights_that_do_not_match_the_model_are_invalid(tmp_path: Path, tiny: Benchmark) -> None:
    error = ask(source(tmp_path, NET), tiny, weights=saved_net(tmp_path, 7))["input error"]
    assert "2 of another shape (3.weight is (7, 4) in the file" in error


def test_weights_are_compared_with_given_shapes(tmp_path: Path, tiny: Benchmark) -> None:
    shapes = {"0.weight": [4, 1, 3, 3], "0.bias": [4], "3.weight": [7, 4], "3.bias": [7]}
    path = Path(saved_net(tmp_path, 7))
    assert "all 4 tensors" in ask(path, tiny, shapes=shapes)["verdict"]["notes"][0]
    del shapes["3.bias"]
    assert "1 unexpected (3.bias)" in ask(path, tiny, shapes=shapes)["input error"]
