"""Device selection, without loading torch where that is possible."""

import os
import re
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

from arch.errors import InputError
from arch.text import plural
from benchmarks.definition.versions import installed_version
from benchmarks.execution.executor import WorkerFailed
from benchmarks.execution.progress import Report, silent

NVIDIA_DRIVER = (Path("/dev/nvidiactl"), Path("/dev/dxg"))  # Linux, WSL; CUDA is not available if both are missing
AMD_DRIVER = Path("/dev/kfd")  # Linux; ROCm is not available without it
NVIDIA_DRIVER_VERSION = Path("/proc/driver/nvidia/version")  # Linux
MAX_GPU_CHECK_SECONDS = 120.0  # the first use of a GPU may take a minute on a computer with many of them


def _print_warning(line: str) -> None:
    print(line, file=sys.stderr)


def resolve_device(name: str, world_size: int = 1, warn: Callable[[str], None] = _print_warning) -> str:
    """Return the device to train on: `auto` becomes `cuda` if torch can use the GPUs of a run, else `cpu`.

    Args:
        name: `auto`, `cpu`, `cuda` or `cuda:N`.
        world_size: Number of GPUs, starting with the first, or of CPU cores that one run uses.
        warn: Called with one line if there is a GPU, but `auto` becomes `cpu` because torch cannot use it.

    Raises:
        InputError: If the device does not exist, or torch cannot use it.
    """
    check_device_name(name)
    if name == "cpu" or (name == "auto" and not _may_have_gpu()):
        return _checked_cpu(world_size)
    first = int(name.partition(":")[2] or 0)
    count, problem = _examine_gpus(range(first, first + world_size))
    if name == "auto" and (problem or not count):
        if count or _has_nvidia_driver():
            warn(f"--device auto: training on the CPU, because the GPU cannot be used ({problem})")
        return _checked_cpu(world_size)
    if world_size > 1 and (world_size > count or ":" in name):
        raise InputError(
            f"--world-size {world_size} uses cuda:0 to cuda:{world_size - 1}, but torch sees {plural(count, 'GPU')}"
        )
    if first >= count:
        reason = f" ({problem})" if problem else ""
        raise InputError(
            f"--device {name} does not exist: torch sees {plural(count, 'GPU')}{reason}; use cpu, which always works"
        )
    if problem:
        raise InputError(f"--device {name} cannot be used ({problem}); use cpu, which always works")
    return "cuda" if name == "auto" else name


def _has_nvidia_driver() -> bool:
    return any(path.exists() for path in NVIDIA_DRIVER)


def _may_have_gpu() -> bool:
    """Return whether to look for a GPU, for which torch must be loaded."""
    return sys.platform != "linux" or _has_nvidia_driver() or AMD_DRIVER.exists()


def _examine_gpus(indices: Sequence[int]) -> tuple[int, str]:
    """Call `examine_gpus` in a worker process. A GPU whose driver hangs or crashes cannot be used either."""
    from benchmarks.execution.local import LocalExecutor

    function, limit = "benchmarks.execution.device:examine_gpus", MAX_GPU_CHECK_SECONDS
    try:
        found: tuple[int, str] = LocalExecutor().call(function, silent, indices, time_limit=limit)
    except WorkerFailed as error:
        return 0, str(error)
    return found


def check_device_name(name: str) -> None:
    """Raise InputError if the name of a device is invalid, whatever devices this computer has."""
    if name == "mps":
        raise InputError("--device mps: Apple GPUs are not supported; use cpu")
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", name):
        raise InputError(f"unknown --device {name!r}; valid: auto, cpu, cuda, cuda:0, cuda:1...")


def _checked_cpu(world_size: int) -> str:
    if world_size > (os.cpu_count() or 1):
        raise InputError(f"--world-size {world_size} on the CPU, but this computer has {os.cpu_count()} cores")
    return "cpu"


def examine_gpus(report: Report, indices: Sequence[int]) -> tuple[int, str]:
    """Return the number of GPUs, and why torch cannot compute on one of them. Loads torch, so call it in a worker.

    torch also counts a GPU that it cannot use, because the driver is too old for this CUDA version or because torch
    was not built for this generation of GPUs.

    Args:
        report: Unused.
        indices: The GPUs to compute on. Those that do not exist are left out, unless there is no GPU at all.

    Returns:
        The number of GPUs, and the reason in one line; "" if all of them can be used.
    """
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns about what then fails
        count = torch.cuda.device_count()
        for index in [index for index in indices if index < count] or indices[: not count]:
            try:
                (torch.zeros(1, device=f"cuda:{index}") + 1).item()
            except Exception as error:
                return count, (str(error).strip() or type(error).__name__).splitlines()[0]
    return count, ""


def gpu_versions(device: str) -> dict[str, str]:
    """Return the versions of the software that chooses and runs the kernels of a GPU; none for a CPU. Loads torch."""
    if not device.startswith("cuda"):
        return {}
    import torch

    return {
        "cuda": str(torch.version.cuda or f"ROCm {torch.version.hip}"),
        "cudnn": str(torch.backends.cudnn.version()),
        "triton": installed_version("triton"),
        "driver": _driver_version(),
    }


def _driver_version() -> str:
    """Return the version of the NVIDIA driver, such as "580.95.05", or "unknown"."""
    try:
        text = NVIDIA_DRIVER_VERSION.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return "unknown"
    version = re.search(r"Kernel Module.*?\s(\d+(?:\.\d+)+)\s", text)
    return version[1] if version else "unknown"


def use_device(device: str) -> None:
    """Make a GPU the current one of this process. Loads torch.

    Otherwise, events would be recorded on the first GPU, and occupy hundreds of megabytes of its memory.
    """
    import torch

    if device.startswith("cuda:"):
        torch.cuda.set_device(device)


def device_name(device: str) -> str:
    """Return the product name of a GPU, such as `NVIDIA GeForce RTX 3090`, or the CPU's threads. Loads torch."""
    import torch

    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    return f"cpu ({plural(torch.get_num_threads(), 'thread')})"
