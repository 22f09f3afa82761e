"""Tests of the requests that the sandbox receives and the answers that are accepted."""

import json
import os
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from arch.errors import InputError
from benchmarks.budget.performance import Energy, Inference, Latency
from benchmarks.budget.request import CheckRequest
from benchmarks.budget.verdict import LayerCost, ModelCost, PredictedHours, Speed, StageCost, Throughput, Verdict
from benchmarks.definition.benchmark import Benchmark, Budget
from benchmarks.execution.progress import Progress, silent
from benchmarks.sandbox import file_check, kinds
from benchmarks.sandbox.errors import FileCheckFailed, FileRefused
from benchmarks.sandbox.file_check import FileChecker, FilePolicy, check_file, is_regular_file
from benchmarks.sandbox.kinds import SandboxKind, describe_sandbox
from benchmarks.sandbox.limits import SandboxLimits
from benchmarks.sandbox.messages import SandboxAnswer
from benchmarks.sandbox.start import Confinement

LIMITS = SandboxLimits(60, 2**30, 8)
COST = ModelCost(
    params=12,
    trainable_params=10,
    dead_params=("a", "b"),
    macs_torch=7,
    stages=(StageCost("c", 1, 2),),
    output_shape=(1, 10),
)
VERDICT = Verdict(
    "net.py:Net (file)",
    "tiny",
    Budget(200_000, 0.05),
    8,
    32,
    COST,
    Throughput(Speed(2.0, 1.0, 3.0), Speed(20.0, 10.0, 30.0), 32, 100, energy_per_image=Energy(0.5, "RAPL")),
    PredictedHours(0.2, 0.1, 0.3),
    "cpu (1 threads)",
    {"torch": "2.10"},
    notes=("first",),
    layers=(LayerCost("c", "Linear", "3->4", 12, 7, (1, 10)),),
    inference=Inference(
        Latency(1, 100, 2.0, 1.5, 3.0, 500.0), Latency(9, 9, 8.0, 7.0, None, 8e3), 9, "fp32", "cpu", "2026"
    ),
)

AnswerWith = Callable[..., list[dict[str, Any]]]


@pytest.fixture
def answer_with(monkeypatch: pytest.MonkeyPatch) -> AnswerWith:
    """Return a function that sets the sandbox's answer and returns a list that records the requests."""

    def set_answer(message: dict[str, Any], printed: str = "") -> list[dict[str, Any]]:
        requests: list[dict[str, Any]] = []

        class FakeSandbox:
            def __init__(self, confinement: Confinement) -> None:
                self.confinement = confinement

            def ask(self, request: dict[str, Any], progress: Any) -> SandboxAnswer:
                requests.append(json.loads(json.dumps(request)))
                progress({"task": "counting", "done": 1, "total": 2, "note": "net.py"})
                return SandboxAnswer(json.loads(json.dumps(message)), printed)

            def close(self) -> None:
                pass

        monkeypatch.setattr(file_check, "Sandbox", FakeSandbox)
        return requests

    return set_answer


@pytest.fixture
def net(tmp_path: Path) -> Path:
    path = tmp_path / "net.py"
    path.touch()
    return path


def check(
    file: str | Path,
    benchmark: Benchmark,
    kind: SandboxKind = "bubblewrap",
    trust: bool = False,
    allow_code: bool = False,
) -> tuple[Verdict, str]:
    request = CheckRequest(str(file), benchmark, "cpu", (80, 50), inference_batch=9)
    return check_file(request, FilePolicy(LIMITS, trust, allow_code, kind), silent)


def test_verdict_is_returned_with_the_sandbox(net: Path, tiny: Benchmark, answer_with: AnswerWith) -> None:
    answer_with({"verdict": asdict(VERDICT)}, "hello")
    verdict, printed = check(net, tiny)
    assert verdict == replace(VERDICT, sandbox=describe_sandbox("bubblewrap", LIMITS))
    assert printed == "hello"


def test_request_contains_the_absolute_path(
    net: Path, tiny: Benchmark, answer_with: AnswerWith, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests = answer_with({"verdict": asdict(VERDICT)})
    monkeypatch.chdir(net.parent)
    check("net.py:Net", tiny, allow_code=True)
    (request,) = requests
    assert (request["path"], request["name"]) == (str(net.resolve()), "Net")
    assert (request["device"], request["image_counts"], request["allow_code"]) == ("cpu", [80, 50], True)
    assert request["benchmark"]["name"] == "tiny"
    assert request["inference_batch"] == 9


def test_progress_is_passed_on(net: Path, tiny: Benchmark, answer_with: AnswerWith) -> None:
    answer_with({"verdict": asdict(VERDICT)})
    reports: list[Progress] = []
    check_file(CheckRequest(str(net), tiny, "cpu"), FilePolicy(LIMITS, kind="bubblewrap"), reports.append)
    assert reports == [Progress("counting", 1, 2, "net.py")]


@pytest.mark.parametrize(
    ("message", "error", "expected"),
    [
        ({"input error": "no such name"}, InputError, r"^no such name$"),
        ({"refused": "a program"}, FileRefused, r"^a program$"),
        ({"failed": "RuntimeError: not today"}, FileCheckFailed, r"^RuntimeError: not today$"),
        (
            {"out of memory": "MemoryError"},
            FileCheckFailed,
            r"out of memory.* 1\.0 GiB \(--memory-limit\).*MemoryError",
        ),
        ({"something": "else"}, FileCheckFailed, "no verdict"),
    ],
)
def test_error_of_the_child_is_raised(
    message: dict[str, Any],
    error: type[Exception],
    expected: str,
    net: Path,
    tiny: Benchmark,
    answer_with: AnswerWith,
) -> None:
    answer_with(message)
    with pytest.raises(error, match=expected):
        check(net, tiny)


@pytest.mark.parametrize(
    "forged",
    [
        None,
        "within budget",
        [],
        {},
        {"model": "fake", "problems": []},
        {**asdict(VERDICT), "passed": True},
        {**asdict(VERDICT), "model": 5},
        {**asdict(VERDICT), "problems": "none"},
        {**asdict(VERDICT), "image_size": "8"},
        {**asdict(VERDICT), "cost": {**asdict(COST), "params": 1.5}},
        {**asdict(VERDICT), "cost": {**asdict(COST), "params": True}},
        {**asdict(VERDICT), "cost": {**asdict(COST), "stages": [["c", 1, 2]]}},
        {**asdict(VERDICT), "hours": {"predicted": float("nan"), "low": 0.0, "high": 0.0}},
        {**asdict(VERDICT), "budget": {"max_params": -1, "max_hours": 1.0}},
    ],
    ids=lambda forged: str(forged)[:20],
)
def test_invalid_verdict_is_rejected(forged: Any, net: Path, tiny: Benchmark, answer_with: AnswerWith) -> None:
    answer_with({"verdict": forged})
    with pytest.raises(FileCheckFailed, match="an invalid verdict"):
        check(net, tiny)


@pytest.mark.parametrize("name", ["net.py", "net.ipynb", "net.pt"])
def test_code_is_refused_without_a_sandbox(name: str, tmp_path: Path, tiny: Benchmark, answer_with: AnswerWith) -> None:
    requests = answer_with({"verdict": asdict(VERDICT)})
    (tmp_path / name).touch()
    with pytest.raises(FileRefused, match=r"no sandbox works here.*--trust"):
        check(tmp_path / name, tiny, "none", allow_code=True)
    assert requests == []


@pytest.mark.parametrize(
    ("name", "options"), [("net.py", {"trust": True}), ("net.pt", {}), ("net.pt", {"trust": True, "allow_code": True})]
)
def test_data_and_trusted_code_are_checked_without_a_sandbox(
    name: str, options: dict[str, bool], tmp_path: Path, tiny: Benchmark, answer_with: AnswerWith
) -> None:
    requests = answer_with({"verdict": asdict(VERDICT)})
    (tmp_path / name).touch()
    verdict, _ = check(tmp_path / name, tiny, "none", **options)
    assert verdict.sandbox.startswith("none: code in the file runs with all of your permissions")
    assert len(requests) == 1


@pytest.mark.parametrize(
    ("name", "expected"), [("missing.py:Net", r"there is no file .*missing\.py"), ("folder.py", "is not a file")]
)
def test_path_without_a_file_is_invalid(name: str, expected: str, tmp_path: Path, tiny: Benchmark) -> None:
    (tmp_path / "folder.py").mkdir()
    with pytest.raises(InputError, match=expected):
        check(tmp_path / name, tiny)


def test_only_regular_files_can_be_read(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    (tmp_path / "loose").symlink_to(tmp_path / "missing")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    assert is_regular_file(tmp_path / "file")
    assert is_regular_file(tmp_path / "link")
    others = ("pipe", "loose", "loop", "missing", ".", "x" * 300)
    assert not any(is_regular_file(tmp_path / name) for name in others)
    assert not is_regular_file(Path(os.devnull))


WARM_FILE = """
import os, sys
from pathlib import Path
from torch import nn

left, own = Path.home() / "left", str(os.getpid())
if sys.modules.setdefault("left", own) != own or (left.exists() and left.read_text() != own):
    raise RuntimeError("another file has left something behind")
left.write_text(own)
{action}
def build(): return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
"""


@pytest.mark.slow
@pytest.mark.skipif(kinds.best_sandbox() == "none", reason="needs bubblewrap or sandlock")
def test_files_of_a_project_are_checked_in_one_sandbox(tmp_path: Path, tiny: Benchmark) -> None:
    """Test that a file neither sees what another one has left behind, nor suffers from how it ended."""
    actions = {"first": "", "crash": "os.abort()", "killer": "os.kill(os.getppid(), 9)", "last": ""}
    for name, action in actions.items():
        (tmp_path / f"{name}.py").write_text(WARM_FILE.format(action=action))
    outcomes: dict[str, int | str] = {}
    with FileChecker(FilePolicy(SandboxLimits(60))) as checker:
        for name in actions:
            request = CheckRequest(str(tmp_path / f"{name}.py"), tiny, "cpu")
            try:
                outcomes[name] = checker.check(request, silent)[0].cost.params
            except FileCheckFailed as error:
                outcomes[name] = str(error)
    assert (outcomes["first"], outcomes["last"]) == (650, 650)
    assert "SIGABRT" in str(outcomes["crash"])
    assert (
        outcomes["killer"] == 650
        or "without a result" in str(outcomes["killer"])
        or "killed" in str(outcomes["killer"])
    )
