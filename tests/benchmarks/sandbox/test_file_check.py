"""What this process believes of a child's answer."""

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from arch.errors import InputError
from benchmarks.budget.verdict import ModelCost, PredictedHours, Speed, StageCost, Throughput, Verdict
from benchmarks.definition.benchmark import Benchmark, Budget
from benchmarks.execution.progress import Progress, silent
from benchmarks.sandbox import sandbox
from benchmarks.sandbox.file_check import FileRefused, check_file
from benchmarks.sandbox.sandbox import FileCheckFailed, SandboxAnswer, SandboxKind, SandboxLimits

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
    Throughput(Speed(2.0, 1.0, 3.0), Speed(20.0, 10.0, 30.0), 32, 100),
    PredictedHours(0.2, 0.1, 0.3),
    "cpu (1 threads)",
    {"torch": "2.10"},
    notes=("first",),
)

Answers = Callable[..., list[dict[str, Any]]]


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Answers:
    """Lets the sandbox answer so; returns where the requests will stand."""

    def answer_with(message: dict[str, Any], printed: str = "") -> list[dict[str, Any]]:
        requests: list[dict[str, Any]] = []

        def judge(
            request: dict[str, Any], path: Path, limits: SandboxLimits, kind: SandboxKind, progress: Any
        ) -> SandboxAnswer:
            requests.append(json.loads(json.dumps(request)))
            progress({"task": "counting", "done": 1, "total": 2, "note": "net.py"})
            return SandboxAnswer(json.loads(json.dumps(message)), printed)

        monkeypatch.setattr(sandbox, "judge", judge)
        return requests

    return answer_with


@pytest.fixture
def net(tmp_path: Path) -> Path:
    path = tmp_path / "net.py"
    path.touch()
    return path


def checked(
    text: str | Path,
    benchmark: Benchmark,
    kind: SandboxKind = "bubblewrap",
    trust: bool = False,
    allow_code: bool = False,
) -> tuple[Verdict, str]:
    return check_file(
        str(text), benchmark, "cpu", (80, 50), silent, LIMITS, trust=trust, allow_code=allow_code, kind=kind
    )


def test_a_verdict_comes_back_as_it_was_with_what_held_the_file(net: Path, tiny: Benchmark, answers: Answers) -> None:
    answers({"verdict": asdict(VERDICT)}, "hello")
    verdict, printed = checked(net, tiny)
    assert verdict == replace(VERDICT, sandbox=sandbox.words("bubblewrap", LIMITS))
    assert printed == "hello"


def test_a_file_is_asked_for_by_its_full_path(
    net: Path, tiny: Benchmark, answers: Answers, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests = answers({"verdict": asdict(VERDICT)})
    monkeypatch.chdir(net.parent)
    checked("net.py:Net", tiny, allow_code=True)
    assert (requests[0]["path"], requests[0]["name"]) == (str(net.resolve()), "Net")
    assert (requests[0]["device"], requests[0]["counts"], requests[0]["allow_code"]) == ("cpu", [80, 50], True)
    assert requests[0]["benchmark"]["name"] == "tiny"


def test_progress_is_passed_on(net: Path, tiny: Benchmark, answers: Answers) -> None:
    answers({"verdict": asdict(VERDICT)})
    reports: list[Progress] = []
    check_file(str(net), tiny, "cpu", None, reports.append, LIMITS, kind="bubblewrap")
    assert reports == [Progress("counting", 1, 2, "net.py")]


@pytest.mark.parametrize(
    ("message", "error", "expected"),
    [
        ({"input error": "no such name"}, InputError, r"^no such name$"),
        ({"refused": "a program"}, FileRefused, r"^a program$"),
        ({"failed": "RuntimeError: not today"}, FileCheckFailed, r"^RuntimeError: not today$"),
        ({"something": "else"}, FileCheckFailed, r"^it gave no verdict$"),
    ],
)
def test_what_the_child_could_not_raise_here_is_raised(
    message: dict[str, Any],
    error: type[Exception],
    expected: str,
    net: Path,
    tiny: Benchmark,
    answers: Answers,
) -> None:
    answers(message)
    with pytest.raises(error, match=expected):
        checked(net, tiny)


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
def test_what_is_no_verdict_is_not_believed(forged: Any, net: Path, tiny: Benchmark, answers: Answers) -> None:
    answers({"verdict": forged})
    with pytest.raises(FileCheckFailed, match=r"^its answer is not a verdict$"):
        checked(net, tiny)


@pytest.mark.parametrize("name", ["net.py", "net.pt"])
def test_without_a_sandbox_no_code_is_run(name: str, tmp_path: Path, tiny: Benchmark, answers: Answers) -> None:
    requests = answers({"verdict": asdict(VERDICT)})
    (tmp_path / name).touch()
    with pytest.raises(FileRefused, match="no sandbox works here"):
        checked(tmp_path / name, tiny, "none", allow_code=True)
    assert requests == []


@pytest.mark.parametrize(
    ("name", "options"), [("net.py", {"trust": True}), ("net.pt", {}), ("net.pt", {"trust": True, "allow_code": True})]
)
def test_without_a_sandbox_what_runs_no_code_or_is_trusted_is_judged(
    name: str, options: dict[str, bool], tmp_path: Path, tiny: Benchmark, answers: Answers
) -> None:
    requests = answers({"verdict": asdict(VERDICT)})
    (tmp_path / name).touch()
    verdict, _ = checked(tmp_path / name, tiny, "none", **options)
    assert verdict.sandbox.startswith("none: its code could do what you can")
    assert len(requests) == 1


@pytest.mark.parametrize(
    ("name", "expected"), [("missing.py:Net", r"^there is no file .*missing\.py$"), ("folder.py", "is not a file$")]
)
def test_what_is_no_file_is_bad_input(name: str, expected: str, tmp_path: Path, tiny: Benchmark) -> None:
    (tmp_path / "folder.py").mkdir()
    with pytest.raises(InputError, match=expected):
        checked(tmp_path / name, tiny)
