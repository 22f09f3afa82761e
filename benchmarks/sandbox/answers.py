"""Validate the answers of the child, which may be hostile."""

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from arch.errors import InputError
from benchmarks.budget.performance import Energy, Inference, Latency, PeakThroughput, TrainingEnergy, Utilization
from benchmarks.budget.verdict import LayerCost, ModelCost, PredictedHours, Speed, StageCost, Throughput, Verdict
from benchmarks.definition.benchmark import Budget
from benchmarks.definition.validation import strict_adapter
from benchmarks.execution.progress import Progress
from benchmarks.sandbox.errors import FileCheckFailed, FileRefused
from benchmarks.sandbox.limits import SandboxLimits
from benchmarks.sandbox.messages import MAX_STRING_LENGTH, SandboxAnswer

NESTED_IN_VERDICT = (
    *(Budget, ModelCost, StageCost, LayerCost, Throughput, Speed, PredictedHours),
    *(Energy, Inference, Latency, PeakThroughput, TrainingEnergy, Utilization),
)
MAX_PROGRESS_TOTAL = 1_000_000  # largest amount of work that a child may report


def read_verdict(answer: SandboxAnswer, limits: SandboxLimits) -> Verdict:
    """Return the verdict of an answer, or raise the error that the child has reported."""
    message = answer.message
    if "input error" in message:
        raise InputError(str(message["input error"])[:MAX_STRING_LENGTH])
    if "refused" in message:
        raise FileRefused(str(message["refused"])[:MAX_STRING_LENGTH])
    if "out of memory" in message:
        error = str(message["out of memory"])[:MAX_STRING_LENGTH]
        limit = limits.describe_memory_limit()
        raise FileCheckFailed(f"it ran out of memory, with a limit of {limit}: {error}", answer.printed)
    if "verdict" not in message:
        reason = str(message.get("failed", "the process that loads the model returned no verdict"))[:MAX_STRING_LENGTH]
        raise FileCheckFailed(reason, answer.printed)
    from pydantic import ValidationError

    adapter = strict_adapter(Verdict, *NESTED_IN_VERDICT)
    try:
        verdict: Verdict = adapter.validate_json(json.dumps(message["verdict"]))
    except ValidationError as error:
        raise FileCheckFailed("the process that loads the model returned an invalid verdict") from error
    return replace(verdict, utilization=None, energy=None)  # only the parent process adds these


def read_listing(answer: SandboxAnswer) -> tuple[list[str], list[str]]:
    """Return the models and notes of an answer."""
    message = answer.message
    models, notes = message.get("models"), message.get("notes")
    if not isinstance(models, list) or not isinstance(notes, list):
        raise FileCheckFailed(str(message.get("failed", "the process that lists the models returned no list")))
    safe = [str(model) for model in models if not os.path.isabs(str(model)) and ".." not in Path(str(model)).parts]
    return safe, [str(note) for note in notes]


def read_progress(content: Any) -> Progress:
    """Return a progress message; an invalid one is replaced."""
    from pydantic import ValidationError

    unknown = Progress("checking the file", 0, 1)
    try:
        progress: Progress = strict_adapter(Progress).validate_json(json.dumps(content))
    except ValidationError:
        return unknown
    return progress if 0 <= progress.done <= progress.total <= MAX_PROGRESS_TOTAL else unknown
