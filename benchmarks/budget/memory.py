"""How much memory training takes at its highest, and how much there is."""

import ctypes
import re
from contextlib import suppress
from pathlib import Path

import psutil
import torch
from torch import nn

STATUS, CLEAR_REFS = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class PeakMemory:
    """Watches from its making: bytes of the GPU, or of this process on a CPU under Linux."""

    def __init__(self, model: nn.Module, device: torch.device) -> None:
        self.device = device
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
            return
        with suppress(AttributeError):  # glibc's: gives back what is free, so that it is not taken for used
            ctypes.CDLL(None).malloc_trim(0)
        weights = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
        self.before = psutil.Process().memory_info().rss - weights  # the model is there already, and counts
        try:
            CLEAR_REFS.write_text("5")  # forgets the highest mark so far (man 5 proc)
            self.watches = True
        except OSError:
            self.watches = False

    def bytes(self) -> int | None:
        """The highest so far; None where it cannot be known."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device)
        if not self.watches:
            return None
        highest = re.search(r"VmHWM:\s+(\d+) kB", STATUS.read_text())
        return max(0, int(highest.group(1)) * 1024 - self.before) if highest else None


def free_memory(device: str) -> int:
    """Bytes that training could take here."""
    return torch.cuda.mem_get_info(device)[0] if device.startswith("cuda") else psutil.virtual_memory().available
