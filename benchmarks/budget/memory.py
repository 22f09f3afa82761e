"""Measure the peak memory of training and the free memory of a device."""

import ctypes
import re
from contextlib import suppress
from pathlib import Path

import psutil
import torch
from torch import nn

STATUS, CLEAR_REFS = Path("/proc/self/status"), Path("/proc/self/clear_refs")

# Errors of the libraries that torch calls on a GPU whose memory is full.
OUT_OF_MEMORY = re.compile(
    r"CU(BLAS|DNN)_STATUS_ALLOC_FAILED|unable to find an engine|unable to find a valid cuDNN algorithm"
    r"|(CUDA|HIP)( driver)? error: out of memory",
    re.IGNORECASE,
)


class PeakMemory:
    """The peak memory since this object was created: of the GPU, or of this process on a CPU (Linux only)."""

    def __init__(self, model: nn.Module, device: torch.device) -> None:
        self.device = device
        if device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(device)
            return
        with suppress(AttributeError):  # glibc only: returns free memory to the system, so that it is not counted
            ctypes.CDLL(None).malloc_trim(0)
        weights = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
        self.bytes_before = psutil.Process().memory_info().rss - weights  # already loaded, but part of the peak
        try:
            CLEAR_REFS.write_text("5", encoding="utf-8")  # resets the peak of the resident set size (man 5 proc)
            self.is_supported = True
        except OSError:
            self.is_supported = False

    def bytes(self, has_graph: bool = False) -> int | None:
        """Return the peak in bytes, or None if the system does not report it.

        Args:
            has_graph: Whether a CUDA graph was captured, whose memory stays reserved for its next replay.
        """
        if self.device.type == "cuda":
            peak_of = torch.cuda.max_memory_reserved if has_graph else torch.cuda.max_memory_allocated
            return peak_of(self.device)
        if not self.is_supported:
            return None
        peak = re.search(r"VmHWM:\s+(\d+) kB", STATUS.read_text(encoding="utf-8"))
        return max(0, int(peak.group(1)) * 1024 - self.bytes_before) if peak else None


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether the reason for an error is that the memory of a GPU is full."""
    return isinstance(error, torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and bool(OUT_OF_MEMORY.search(str(error)))
    )


def free_memory(device: str) -> int:
    """Return the number of bytes that training on `device` could use."""
    return torch.cuda.mem_get_info(device)[0] if device.startswith("cuda") else psutil.virtual_memory().available
