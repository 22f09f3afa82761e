"""Device selection, without loading torch where that is possible."""

import os
import re
import sys
from pathlib import Path

from arch.errors import InputError
from benchmarks.execution.progress import Report, silent

NVIDIA_DRIVER = (Path("/dev/nvidiactl"), Path("/dev/dxg"))  # Linux, WSL; CUDA is not available if both are missing


def resolve_device(name: str, world_size: int = 1) -> str:
    """Return the device to train on: `auto` becomes `cuda` if torch can use a GPU, else `cpu`.

    Args:
        name: `auto`, `cpu`, `cuda` or `cuda:N`.
        world_size: Number of GPUs, starting with the first, or of CPU cores that one run uses.

    Raises:
        InputError: If the device does not exist.
    """
    check_device_name(name)
    if name == "cpu" or (name == "auto" and sys.platform == "linux" and not any(p.exists() for p in NVIDIA_DRIVER)):
        return _checked_cpu(world_size)

    from benchmarks.execution.local import LocalExecutor

    count: int = LocalExecutor().call("benchmarks.execution.device:count_gpus", silent)
    if name == "auto" and not count:
        return _checked_cpu(world_size)
    if world_size > 1 and (world_size > count or ":" in name):
        raise InputError(
            f"--world-size {world_size} uses cuda:0 to cuda:{world_size - 1}, but torch sees {count} GPU(s)"
        )
    if name == "auto":
        return "cuda"
    if int(name.partition(":")[2] or 0) >= count:
        raise InputError(f"--device {name} does not exist: torch sees {count} GPU(s); use cpu, which always works")
    return name


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


def count_gpus(report: Report) -> int:
    """Return the number of GPUs that torch can use. Loads torch, so it is called in a worker process."""
    import torch

    return torch.cuda.device_count()


def device_name(device: str) -> str:
    """Return the product name of a GPU, such as `NVIDIA GeForce RTX 3090`, or the CPU's threads. Loads torch."""
    import torch

    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    return f"cpu ({torch.get_num_threads()} threads)"
