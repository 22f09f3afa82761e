"""What the child answers, asked in this process: nothing here needs a sandbox."""

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
from timm.layers import set_fused_attn
from torch import nn

from benchmarks.definition.benchmark import Benchmark
from benchmarks.sandbox.child import _answer

NET = """
from torch import nn

class Net(nn.Sequential):
    def __init__(self, num_classes, in_chans):
        super().__init__(nn.Conv2d(in_chans, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, num_classes))
"""


@pytest.fixture(autouse=True)
def _as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A judged file leaves its module and its folder behind, and attention is changed for counting."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield
    sys.modules.pop("model_file_net", None)
    set_fused_attn(True)


def answer(path: Path, benchmark: Benchmark, **changes: Any) -> dict[str, Any]:
    """The answer to a request, after both have been JSON."""
    request = {"path": str(path), "name": "", "benchmark": asdict(benchmark), "device": "cpu", "counts": None}
    request = json.loads(json.dumps({**request, "allow_code": False, "profile": None, **changes}))
    with redirect_stderr(io.StringIO()):  # a traceback, for who looks at what the child printed
        content: dict[str, Any] = json.loads(json.dumps(_answer(request, lambda _: None)))
    return content


def source(folder: Path, text: str) -> Path:
    path = folder / "net.py"
    path.write_text(text)
    return path


def test_a_file_is_judged(tmp_path: Path, tiny: Benchmark) -> None:
    verdict = answer(source(tmp_path, NET), tiny)["verdict"]
    assert (verdict["model"], verdict["benchmark"]) == ("net.py:Net (file)", "tiny")
    assert verdict["cost"]["params"] == 90
    assert (verdict["problems"], verdict["unjudged"], verdict["throughput"]) == ([], "", None)


def test_a_name_in_a_file_is_judged(tmp_path: Path, tiny: Benchmark) -> None:
    path = source(tmp_path, NET + "\ndef build(): return Net(10, 1)\n")
    assert answer(path, tiny, name="build")["verdict"]["model"] == "net.py:build (file)"


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
def test_a_file_that_fails_says_how(content: str, expected: str, tmp_path: Path, tiny: Benchmark) -> None:
    message = answer(source(tmp_path, content), tiny)
    assert list(message) == ["failed"]
    assert message["failed"].startswith(expected)
    assert "\n" not in message["failed"]


def test_a_name_that_a_file_does_not_have_is_bad_input(tmp_path: Path, tiny: Benchmark) -> None:
    assert answer(source(tmp_path, NET), tiny, name="Nett") == {
        "input error": "unknown name 'Nett' in net.py: did you mean 'Net'? valid: Net"
    }


def test_a_file_that_is_not_safe_is_refused(tmp_path: Path, tiny: Benchmark) -> None:
    torch.save(nn.Linear(4, 4), tmp_path / "net.pt")
    message = answer(tmp_path / "net.pt", tiny)
    assert list(message) == ["refused"]
    assert "--allow-code opens it" in message["refused"]


@pytest.mark.parametrize(
    ("counts", "unjudged"), [(None, ""), ([80, 50], "weights alone do not say what is computed with them")]
)
def test_weights_are_counted_but_not_timed(
    counts: list[int] | None, unjudged: str, tmp_path: Path, tiny: Benchmark
) -> None:
    torch.save(nn.Linear(4, 4).state_dict(), tmp_path / "net.pt")
    verdict = answer(tmp_path / "net.pt", tiny, counts=counts)["verdict"]
    assert verdict["cost"]["params"] == 20
    assert verdict["unjudged"] == unjudged
