"""Environment variables of the worker processes that train models."""

import os
import platform
import sys
from contextlib import suppress

from platformdirs import user_cache_path

WORKER_ENVIRONMENT = {  # read when the libraries load, so it must be set before the workers start
    "CUBLAS_WORKSPACE_CONFIG": ":4096:8",  # deterministic matrix products on a GPU
    "PYTHONSAFEPATH": "1",  # a file such as random.py in the current folder does not hide a module
    "GOMP_SPINCOUNT": "10000",  # idle OpenMP threads sleep early, so two runs on a CPU do not starve each other
    # glibc keeps freed memory instead of requesting fresh, zeroed pages at every layer: on a CPU, training is 5 to 25%
    # faster and evaluation up to twice as fast (benchmarks/results/), for 15% more memory
    "MALLOC_MMAP_THRESHOLD_": str(2**32),
    "MALLOC_TRIM_THRESHOLD_": str(2**34),
}


def set_worker_environment() -> None:
    """Set the variables for child processes, except for variables that the user has already set.

    Compiled models are kept in the user's cache, where the next command finds them.
    """
    for name, value in WORKER_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    if "TORCHINDUCTOR_CACHE_DIR" not in os.environ:
        folder = (
            user_cache_path("timm-ablate") / "compiled" / platform.node()
        )  # the cache may be shared by nodes with other CPUs
        with suppress(OSError):  # torch then uses its default, a folder for temporary files, which may be short-lived
            folder.mkdir(parents=True, exist_ok=True)
            os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(folder)


def restart_with_worker_environment() -> None:
    """Restart a command that trains in its own process, if the worker environment is not set."""
    if not WORKER_ENVIRONMENT.keys() <= os.environ.keys():
        set_worker_environment()
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
