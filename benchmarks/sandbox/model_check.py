"""Check any model: a file in a sandbox, or a spec or a timm model in a worker process."""

from arch.errors import InputError
from benchmarks.budget.model_kind import kind_of
from benchmarks.budget.request import NO_FILE_OPTIONS, CheckRequest
from benchmarks.budget.verdict import Verdict
from benchmarks.execution.local import LocalExecutor
from benchmarks.execution.progress import Report
from benchmarks.sandbox.file_check import FilePolicy, check_file


def check_model(request: CheckRequest, policy: FilePolicy, report: Report) -> tuple[Verdict, str]:
    """Check a model.

    Args:
        request: What to check.
        policy: What a model file may do.
        report: Called with progress updates.

    Returns:
        The verdict, and what the code of a file printed.

    Raises:
        InputError: If there is no such model.
        FileRefused: If a file would run code that is not allowed, or is malicious.
        FileCheckFailed: If a file failed or exceeded a limit.
        WorkerFailed: If the worker process failed.
    """
    if kind_of(request.model) == "file":
        return check_file(request, policy, report)
    if request.file_options != NO_FILE_OPTIONS:
        raise InputError("--arg, --classes, --image-size and --output apply to Python files only")
    verdict: Verdict = LocalExecutor().call("benchmarks.budget.models:check_model", report, request)
    return verdict, ""
