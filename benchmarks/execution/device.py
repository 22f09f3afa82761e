"""Which device to use, found out without loading torch where that is possible."""

import os
import re
import sys
from pathlib import Path

from arch.errors import InputError
from benchmarks.execution import local
from benchmarks.execution.progress import Report, silent

NVIDIA_DRIVER = (Path("/dev/nvidiactl"), Path("/dev/dxg"))  # on Linux and on WSL: without either there is no CUDA


def resolve_device(name: str, world_size: int = 1) -> str:
    """`auto` becomes `cuda` where a GPU is usable and `cpu` elsewhere; others are checked. Raises InputError.

    world_size: GPUs that one run takes, from the first on, or cores on the CPU.
    """
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", name):
        raise InputError(f"unknown --device {name!r}: valid: auto, cpu, cuda, cuda:0, cuda:1...")
    if name == "cpu" or (name == "auto" and sys.platform == "linux" and not any(p.exists() for p in NVIDIA_DRIVER)):
        return _cpu(world_size)
    count: int = local.call("benchmarks.execution.device:count_gpus", silent)
    if name == "auto" and not count:
        return _cpu(world_size)
    if world_size > 1 and (world_size > count or ":" in name):
        raise InputError(f"--world-size {world_size} takes cuda:0 to cuda:{world_size - 1}: torch sees {count} GPU(s)")
    if name == "auto":
        return "cuda"
    if int(name.partition(":")[2] or 0) >= count:
        raise InputError(f"--device {name} is not there: torch sees {count} GPU(s); cpu always works")
    return name


def _cpu(world_size: int) -> str:
    if world_size > (os.cpu_count() or 1):
        raise InputError(f"--world-size {world_size} on the CPU: this computer has {os.cpu_count()} cores")
    return "cpu"


def count_gpus(report: Report) -> int:
    """GPUs that torch can use; for a child process."""
    import torch

    return torch.cuda.device_count()


def device_name(device: str) -> str:
    """The device as people know it: `NVIDIA GeForce RTX 3090`, or the CPU with its threads. Loads torch."""
    import torch

    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    return f"cpu ({torch.get_num_threads()} threads)"
