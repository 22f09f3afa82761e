"""Tell failures that may pass, such as those of a full GPU, from those that every attempt would repeat."""

import re
import subprocess
from collections.abc import Iterator
from concurrent.futures import BrokenExecutor

from benchmarks.budget.memory import is_out_of_memory
from benchmarks.budget.throughput import DoesNotFit

PASSING_ERRORS = (
    BrokenExecutor,  # a process of the compiler was killed
    DoesNotFit,
    MemoryError,
    TimeoutError,
    subprocess.TimeoutExpired,
)
PASSING_MESSAGES = re.compile(
    r"can(no|')t allocate memory|no space left on device|disk quota exceeded|devices?(\(s\))? (is/)?are busy"
    r"|killed signal",  # of a C++ compiler
    re.IGNORECASE,
)


def is_passing(error: BaseException) -> bool:
    """Return whether the reason for an error may be gone at the next attempt.

    Such reasons are a lack of memory or disk space, a timeout, and a killed process, also of an error that led to this
    one.
    """
    return any(
        isinstance(cause, PASSING_ERRORS) or is_out_of_memory(cause) or bool(PASSING_MESSAGES.search(str(cause)))
        for cause in _chain(error)
    )


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and the errors that led to it."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
