"""Check several models, in parallel where cores allow. A model that fails does not stop the others."""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from queue import SimpleQueue

from arch.errors import InputError
from benchmarks.budget.model_kind import kind_of
from benchmarks.budget.outcome import CheckedModel, FailureKind
from benchmarks.budget.request import CheckRequest
from benchmarks.execution.executor import Future, WorkerFailed
from benchmarks.execution.local import LocalExecutor
from benchmarks.execution.progress import Progress, Report, silent
from benchmarks.sandbox.errors import FileCheckFailed, FileRefused
from benchmarks.sandbox.file_check import FileChecker, FilePolicy

MAX_WORKERS = 8  # each imports torch, which takes about 0.5 GiB


def check_models(requests: Sequence[CheckRequest], policy: FilePolicy, report: Report) -> list[CheckedModel]:
    """Check several models.

    Args:
        requests: What to check. If one of them is to be timed, the models are checked one after the other.
        policy: What model files may do.
        report: Called after each model.

    Returns:
        The outcomes, in the order of the requests.
    """
    is_timed = any(r.inference_batch or (r.image_counts and r.hours == "measured") for r in requests)
    workers = 1 if is_timed else min(MAX_WORKERS, os.cpu_count() or 1)
    files = [request for request in requests if _is_file(request)]
    named = [request for request in requests if not _is_file(request)]
    outcomes: dict[str, CheckedModel] = {}
    for stream in (_check_named(named, workers), _check_files(files, policy, workers)):
        for outcome in stream:
            outcomes[outcome.model] = outcome
            report(Progress("checking models", len(outcomes), len(requests), outcome.model))
    return [outcomes[request.model] for request in requests]


def _is_file(request: CheckRequest) -> bool:
    try:
        return kind_of(request.model) == "file"
    except InputError:  # reported by the check
        return False


def _check_named(requests: Sequence[CheckRequest], workers: int) -> Iterator[CheckedModel]:
    """Check specs and timm models, each in a worker process."""
    if not requests:
        return
    waiting = list(reversed(requests))
    models: dict[Future, str] = {}
    with LocalExecutor().session(workers) as session:
        while waiting or models:
            while waiting and session.has_capacity:
                request = waiting.pop()
                models[session.submit("benchmarks.budget.models:check_model", request)] = request.model
            finished = session.wait()
            if not finished:
                return
            for future in finished:
                yield _outcome(models.pop(future), future)


def _outcome(model: str, future: Future) -> CheckedModel:
    try:
        return CheckedModel(model, future.result())
    except (InputError, WorkerFailed) as error:
        return _failed(model, error)


def _failed(model: str, error: Exception) -> CheckedModel:
    """Return the outcome of a model whose check has raised an error."""
    kind: FailureKind = "failed"
    if isinstance(error, InputError):
        kind = "invalid"
    elif isinstance(error, FileRefused):
        kind = "refused"
    printed = error.printed if isinstance(error, FileCheckFailed) else ""
    return CheckedModel(model, failure=kind, reason=str(error), printed=printed)


def _check_files(requests: Sequence[CheckRequest], policy: FilePolicy, workers: int) -> Iterator[CheckedModel]:
    """Check model files in sandboxes, one per worker."""
    if not requests:
        return
    if FileChecker(policy).kind != "bubblewrap":
        workers = 1  # the other sandboxes adopt orphaned processes, and would adopt those of each other
    checkers = [FileChecker(policy.share(workers)) for _ in range(workers)]
    free: SimpleQueue[FileChecker] = SimpleQueue()
    for checker in checkers:
        free.put(checker)

    def check(request: CheckRequest) -> CheckedModel:
        checker = free.get()
        try:
            return _check_file(request, checker)
        finally:
            free.put(checker)

    pool = ThreadPoolExecutor(workers)
    try:
        for future in as_completed([pool.submit(check, request) for request in requests]):
            yield future.result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        for checker in checkers:
            checker.close()  # ends the checks in progress if the command is interrupted
        pool.shutdown()


def _check_file(request: CheckRequest, checker: FileChecker) -> CheckedModel:
    try:
        verdict, printed = checker.check(request, silent)
    except (InputError, FileRefused, FileCheckFailed, OSError) as error:  # OSError: such as a full disk
        return _failed(request.model, error)
    return CheckedModel(request.model, verdict, printed=printed)
