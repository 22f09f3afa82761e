"""Tests of checks of several models."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.budget.outcome import CheckedModel
from benchmarks.budget.profile import DeviceProfile
from benchmarks.budget.request import CheckRequest, HoursMode
from benchmarks.definition.benchmark import Benchmark
from benchmarks.execution.progress import Progress, silent
from benchmarks.sandbox import kinds
from benchmarks.sandbox.file_check import FilePolicy
from benchmarks.sandbox.kinds import SandboxKind
from benchmarks.sandbox.limits import SandboxLimits
from benchmarks.sandbox.many import check_models

FILES = {
    "good.py": "",
    "error.py": "print('about to fail')\nraise RuntimeError('not today')",
    "killed.py": "import os\nos.kill(os.getppid(), 9)\nos._exit(0)",
    "endless.py": "while True: pass",
    "last.py": "",
}


def check(
    names: list[str], benchmark: Benchmark, kind: SandboxKind | None = None, seconds: float = 60
) -> dict[str, CheckedModel]:
    requests = [CheckRequest(name, benchmark, "cpu") for name in names]
    outcomes = check_models(requests, FilePolicy(SandboxLimits(seconds), trust=True, kind=kind), silent)
    assert [outcome.model for outcome in outcomes] == names
    return {outcome.model: outcome for outcome in outcomes}


@pytest.mark.slow
@pytest.mark.usefixtures("_run_files_without_torch")
@pytest.mark.parametrize("kind", ["bubblewrap", "sandlock", "none"])
def test_failed_file_does_not_stop_the_others(
    kind: SandboxKind, tmp_path: Path, tiny: Benchmark, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not kinds.is_available(kind):
        pytest.skip(f"needs {kind}")
    monkeypatch.chdir(tmp_path)
    for name, content in FILES.items():
        Path(name).write_text(content)
    outcomes = check([*FILES, "missing.py"], tiny, kind, seconds=4)
    for name in ("good.py", "last.py"):
        verdict = outcomes[name].verdict
        assert verdict is not None
        assert verdict.cost.params == 1
    assert "not today" in outcomes["error.py"].reason
    assert "about to fail" in outcomes["error.py"].printed
    assert "exited without a result" in outcomes["killed.py"].reason or "killed" in outcomes["killed.py"].reason
    assert "longer than 4 s" in outcomes["endless.py"].reason
    assert outcomes["missing.py"].failure == "invalid"


@pytest.mark.slow
def test_named_models_are_checked_in_worker_processes(tiny: Benchmark) -> None:
    reports: list[Progress] = []
    requests = [CheckRequest(name, tiny, "cpu") for name in ("resnet8", "timm/vgg11", "timm/resnet10t")]
    outcomes = check_models(requests, FilePolicy(SandboxLimits()), reports.append)
    assert [outcome.failure for outcome in outcomes] == [None, "invalid", None]
    assert [report.done for report in reports] == [1, 2, 3]
    assert outcomes[0].verdict is not None
    assert outcomes[0].verdict.cost.params == 77_754


def test_parallel_checks_share_the_memory() -> None:
    assert FilePolicy(SandboxLimits(memory=7)).share(2).limits.memory == 7
    whole = FilePolicy(SandboxLimits()).share(1).limits.memory
    assert FilePolicy(SandboxLimits()).share(4).limits.memory == pytest.approx(whole / 4, rel=0.2)


def test_sandbox_that_cannot_be_started_is_the_failure_of_its_file(
    tmp_path: Path, tiny: Benchmark, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("benchmarks.sandbox.file_check.Sandbox", start)
    files = [tmp_path / "a.py", tmp_path / "b.py"]
    for file in files:
        file.touch()
    outcomes = check([*map(str, files)], tiny, "none")
    assert [(outcome.failure, "No space" in outcome.reason) for outcome in outcomes.values()] == [("failed", True)] * 2


def test_models_whose_inference_is_measured_are_checked_one_after_the_other(
    tiny: Benchmark, monkeypatch: pytest.MonkeyPatch
) -> None:
    def check_named(requests: object, workers: int) -> Iterator[CheckedModel]:
        numbers.append(workers)
        yield CheckedModel("resnet8")

    numbers: list[int] = []
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    monkeypatch.setattr("benchmarks.sandbox.many._check_named", check_named)
    for batch in (0, 64):
        check_models([CheckRequest("resnet8", tiny, "cpu", inference_batch=batch)], FilePolicy(SandboxLimits()), silent)
    assert numbers == [4, 1]


@pytest.mark.parametrize(("hours", "workers"), [("measured", 1), ("optional", 4)])
def test_models_are_timed_one_after_the_other(
    hours: HoursMode, workers: int, tiny: Benchmark, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers: list[int] = []
    monkeypatch.setattr("os.cpu_count", lambda: 4)

    def check_named(requests: list[CheckRequest], number: int) -> Iterator[CheckedModel]:
        numbers.append(number)
        return (CheckedModel(request.model) for request in requests)

    monkeypatch.setattr("benchmarks.sandbox.many._check_named", check_named)
    profile = DeviceProfile("Some GPU", "fp16", {}, 40, 0.03, 0.1, 0, {"operators": 1e-9}, 2)
    requests = [CheckRequest(name, tiny, "cpu", (80, 50), profile, hours) for name in ("resnet8", "resnet20")]
    check_models(requests, FilePolicy(SandboxLimits()), silent)
    assert numbers == [workers]
