import errno
import subprocess
from concurrent.futures.process import BrokenProcessPool

import pytest
import torch

from benchmarks.budget.passing_errors import is_passing
from benchmarks.budget.throughput import DoesNotFit
from benchmarks.training.compile_mode import CompileModeFailed


def caused_by(cause: Exception) -> CompileModeFailed:
    try:
        raise CompileModeFailed("the reason in one line") from cause
    except CompileModeFailed as error:
        return error


PASSING = [
    DoesNotFit("a batch of 32 does not fit"),
    torch.OutOfMemoryError("CUDA out of memory"),
    RuntimeError("CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate(handle)"),
    RuntimeError("CUDA error: CUDA-capable device(s) is/are busy or unavailable"),
    RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"),
    RuntimeError("C++ compile error\ng++: fatal error: Killed signal terminated program cc1plus"),
    MemoryError(),
    TimeoutError("no answer for 600 s"),
    subprocess.TimeoutExpired("g++", 60),
    BrokenProcessPool("a process was terminated abruptly"),
    OSError(errno.ENOSPC, "No space left on device"),
]
LASTING = [
    RuntimeError("no C++ compiler"),
    CompileModeFailed("3 of 80 values differ from those of eager steps"),
    FileNotFoundError(errno.ENOENT, "No such file or directory", "g++"),
    NotImplementedError(),
]


@pytest.mark.parametrize("error", PASSING, ids=repr)
def test_passing_failures(error: Exception) -> None:
    assert is_passing(error)
    assert is_passing(caused_by(caused_by(error)))


@pytest.mark.parametrize("error", LASTING, ids=repr)
def test_lasting_failures(error: Exception) -> None:
    assert not is_passing(error)
    assert not is_passing(caused_by(error))
