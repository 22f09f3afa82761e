"""Check any model: a file in a sandbox, or a spec or a timm model in a worker process."""

from dataclasses import replace
from pathlib import Path

from arch.errors import InputError
from benchmarks.budget.model_kind import CHECKPOINT_SUFFIXES, is_python, kind_of, split_file
from benchmarks.budget.request import NO_FILE_OPTIONS, CheckRequest
from benchmarks.budget.verdict import Verdict
from benchmarks.execution.local import LocalExecutor
from benchmarks.execution.progress import Report
from benchmarks.sandbox.file_check import FileChecker


def check_model(request: CheckRequest, checker: FileChecker, report: Report) -> tuple[Verdict, str]:
    """Check a model.

    Args:
        request: What to check.
        checker: Checks model files.
        report: Called with progress updates.

    Returns:
        The verdict, and what the code of a file printed.

    Raises:
        InputError: If there is no such model.
        FileRefused: If a file would run code that is not allowed, or is malicious.
        FileCheckFailed: If a file failed or exceeded a limit.
        WorkerFailed: If the worker process failed.
    """
    is_file = kind_of(request.model) == "file"
    if request.weights:
        _check_weights_option(request, is_file)
    if is_file:
        return checker.check(request, report)
    if request.file_options != NO_FILE_OPTIONS:
        raise InputError("--arg, --classes, --image-size and --output apply to Python files and notebooks only")
    matched = _match_weights(request, checker, report) if request.weights else None
    verdict: Verdict = LocalExecutor().call("benchmarks.budget.models:check_model", report, request)
    if matched is not None:
        verdict = replace(verdict, notes=(*verdict.notes, *matched.notes), sandbox=f"weights in {matched.sandbox}")
    return verdict, ""


def _check_weights_option(request: CheckRequest, is_file: bool) -> None:
    """Raise InputError if the model cannot have weights of its own, or the weights are not in a weights file."""
    if is_file and not is_python(split_file(request.model)[0]):
        raise InputError(
            "--weights needs a MODEL that builds a network: a spec, a timm model, a Python file or a notebook"
        )
    suffixes = (".safetensors", *CHECKPOINT_SUFFIXES)
    if Path(request.weights).suffix not in suffixes:
        raise InputError(f"--weights {request.weights} is not a weights file: valid suffixes are {', '.join(suffixes)}")


def _match_weights(request: CheckRequest, checker: FileChecker, report: Report) -> Verdict:
    """Compare a weights file with a spec or a timm model in a sandbox, and return a verdict with a note on it."""
    shapes = LocalExecutor().call("benchmarks.budget.models:tensor_shapes", report, request)
    return checker.check(replace(request, model=request.weights, weights=""), report, shapes)[0]
