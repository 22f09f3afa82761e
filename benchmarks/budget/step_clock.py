"""Time the single steps of a measurement, and how much they vary."""

import time
from collections.abc import Callable, Sequence

import numpy as np
import torch

from benchmarks.budget.verdict import Speed

MIN_BLOCK_SECONDS = 0.1  # shorter steps are averaged, because the clock and the operating system affect each of them
QUANTILES = (0.1, 0.9)  # of the blocks; these bound the speed


class StepClock:
    """Measures the time between calls of `mark`, by the GPU's own clock if the steps run on a GPU."""

    def __init__(self, device: torch.device) -> None:
        self.is_cuda = device.type == "cuda"
        self._events: list[torch.cuda.Event] = []
        self._times: list[float] = []
        self.mark()

    def mark(self) -> None:
        """End a step, and start the next one."""
        if self.is_cuda:
            self._events.append(torch.cuda.Event(enable_timing=True))
            self._events[-1].record()
        else:
            self._times.append(time.perf_counter())

    def seconds(self) -> list[float]:
        """Return the seconds of each step."""
        if not self.is_cuda:
            return [after - before for before, after in zip(self._times, self._times[1:], strict=False)]
        self._events[-1].synchronize()
        pairs = zip(self._events, self._events[1:], strict=False)
        return [float(before.elapsed_time(after)) / 1000 for before, after in pairs]


def time_once(work: Callable[[], object], device: torch.device) -> float:
    """Return the seconds that `work` takes."""
    clock = StepClock(device)
    work()
    clock.mark()
    return sum(clock.seconds())


def block_means(step_seconds: Sequence[float]) -> list[float]:
    """Return the mean seconds per step in blocks of consecutive steps, each of at least MIN_BLOCK_SECONDS.

    The last steps are left out if they are too short for a block, unless there is no other.
    """
    means: list[float] = []
    block: list[float] = []
    for seconds in step_seconds:
        block.append(seconds)
        if sum(block) >= MIN_BLOCK_SECONDS:
            means.append(sum(block) / len(block))
            block = []
    return means or [sum(block) / len(block)]


def speed(windows: Sequence[float], blocks: Sequence[float], images: int) -> Speed:
    """Return the images per second, with the range that the measurements allow for.

    The median is that of the windows. The range contains all windows and the middle 80% of the blocks, because a window
    averages out the times at which other processes used the computer, but these may be longer than all windows.

    Args:
        windows: Mean seconds per step in each window.
        blocks: Mean seconds per step in each block.
        images: Images per step.
    """
    fastest, slowest = np.quantile(blocks, QUANTILES)
    return Speed(
        median=images / float(np.median(windows)),
        slowest=images / max(float(slowest), *windows),
        fastest=images / min(float(fastest), *windows),
    )
