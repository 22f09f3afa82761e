"""Has a model file judged in the sandbox, and believes only what it can check. Knows no torch."""

import json
import os
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from arch.errors import InputError
from benchmarks.budget.model_kind import split_file
from benchmarks.budget.profile import DeviceProfile
from benchmarks.budget.verdict import ModelCost, PredictedHours, Speed, StageCost, Throughput, Verdict
from benchmarks.definition.benchmark import Benchmark, Budget, strict_adapter
from benchmarks.execution.progress import Progress, Report
from benchmarks.sandbox import sandbox
from benchmarks.sandbox.sandbox import SandboxKind, SandboxLimits

MOST = 1_000_000  # pieces of work that a child may speak of


class FileRefused(RuntimeError):
    """A file was not opened: it would run code that nothing holds, or is built to do harm."""


def check_file(
    text: str,
    benchmark: Benchmark,
    device: str,
    counts: tuple[int, int] | None,
    report: Report,
    limits: SandboxLimits,
    profile: DeviceProfile | None = None,
    *,
    trust: bool = False,
    allow_code: bool = False,
    kind: SandboxKind | None = None,
) -> tuple[Verdict, str]:
    """Judges FILE or FILE.py:NAME. Returns the verdict, and what the file's code printed.

    profile: of another device, for its hours.
    trust: run its code even where no sandbox holds it. allow_code: open TorchScript, `.pt2` and pickled modules.
    kind: the sandbox; None takes the best that works here.
    Raises InputError, FileRefused, and `sandbox.FileCheckFailed` where it could not be judged.
    """
    file, name = split_file(text)
    path = Path(file)
    if not sandbox.is_regular(path):
        raise InputError(f"{file} is not a file" if os.path.exists(path) else f"there is no file {file}")
    given, path = path.suffix, path.resolve()
    if path.suffix != given:
        raise InputError(f"{file} is a link to a {path.suffix or 'nameless'} file: name that")
    kind = kind or sandbox.best_sandbox()
    if kind == "none" and not trust and (path.suffix == ".py" or allow_code):
        raise FileRefused(
            "it would run code, and no sandbox works here (bubblewrap, sandlock): --trust runs it all the same"
        )
    limits = sandbox.with_memory(limits)
    request = {
        "path": str(path),
        "name": name,
        "benchmark": asdict(benchmark),
        "device": device,
        "counts": counts,
        "allow_code": allow_code,
        "profile": asdict(profile) if profile else None,
    }
    answer = sandbox.judge(request, path, limits, kind, lambda content: report(_progress(content)))
    verdict = _verdict(answer)
    return replace(verdict, sandbox=sandbox.words(kind, limits)), answer.printed


def _verdict(answer: sandbox.SandboxAnswer) -> Verdict:
    """The answer as a verdict; raises what the child could not raise here."""
    message = answer.message
    if "input error" in message:
        raise InputError(str(message["input error"])[:2000])
    if "refused" in message:
        raise FileRefused(str(message["refused"])[:2000])
    if "verdict" not in message:
        raise sandbox.FileCheckFailed(str(message.get("failed", "it gave no verdict"))[:2000], answer.printed)
    from pydantic import ValidationError

    adapter = strict_adapter(Verdict, Budget, ModelCost, StageCost, Throughput, Speed, PredictedHours)
    try:
        verdict: Verdict = adapter.validate_json(json.dumps(message["verdict"]))
    except ValidationError as error:
        raise sandbox.FileCheckFailed("its answer is not a verdict") from error
    return verdict


def _progress(content: Any) -> Progress:
    from pydantic import ValidationError

    try:
        progress: Progress = strict_adapter(Progress).validate_json(json.dumps(content))
    except ValidationError:
        return Progress("judging the file", 0, 1)
    return progress if 0 <= progress.done <= progress.total <= MOST else Progress("judging the file", 0, 1)
