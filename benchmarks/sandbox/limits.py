"""The limits of a file check."""

from dataclasses import dataclass, replace

import psutil

TIME_LIMIT_SECONDS, UNTIMED_LIMIT_SECONDS = 600, 120  # default limits with and without timing
FREE_MEMORY_SHARE = 0.75  # default memory limit, as a fraction of the free memory


@dataclass(frozen=True)
class SandboxLimits:
    """Limits of one file check, for all its processes together.

    Attributes:
        seconds: Time limit.
        memory: Memory limit in bytes; 0 stands for FREE_MEMORY_SHARE of the free memory.
        processes: Number of processes.
        disk: Bytes in the scratch folder.
        files: Number of files in the scratch folder.
    """

    seconds: float = TIME_LIMIT_SECONDS
    memory: int = 0
    processes: int = 64
    disk: int = 2 * 2**30
    files: int = 20_000

    def with_memory_limit(self) -> "SandboxLimits":
        """Return the same limits with a memory limit in bytes."""
        return replace(self, memory=self.memory or int(FREE_MEMORY_SHARE * psutil.virtual_memory().available))

    def describe_memory_limit(self) -> str:
        """Return the memory limit for a message, with the option that changes it."""
        return f"{self.memory / 2**30:.1f} GiB (--memory-limit)"

    def describe(self) -> str:
        """Return the limits on time, memory and processes for a report."""
        return f"{self.seconds:g} s, {self.memory / 2**30:.1f} GiB, {self.processes} processes"
