"""Capture computations on a GPU as a CUDA graph, which one call on the host then repeats."""

from collections.abc import Callable
from typing import TypeVar

import torch

T = TypeVar("T")


class CudaGraph:
    """A CUDA graph of one computation.

    A replay computes with the memory that the computation used during the capture, and with the same numbers from the
    host. Only random draws are new: from the device's default generator, and from one other generator.

    See https://docs.pytorch.org/docs/stable/notes/cuda.html#whole-network-capture.

    Args:
        generator: The other generator, on the device of the computation.
    """

    def __init__(self, generator: torch.Generator) -> None:
        self.device = generator.device
        self._graph = torch.cuda.CUDAGraph()
        self._graph.register_generator_state(generator)

    def warm_up(self, work: Callable[[], T]) -> T:
        """Call `work` on another stream. The libraries that it uses allocate memory at its first call."""
        current, side = torch.cuda.current_stream(self.device), torch.cuda.Stream(self.device)
        side.wait_stream(current)
        with torch.cuda.stream(side):
            result = work()
        current.wait_stream(side)
        return result

    def capture(self, work: Callable[[], T]) -> T:
        """Capture `work` without computing anything, and return its result, which each replay computes.

        Raises:
            RuntimeError: If `work` waits for the device, or does something else that cannot be captured.
        """
        # A data loader's thread may allocate pinned memory meanwhile, which the default mode would not allow.
        capturing = torch.cuda.graph(self._graph, capture_error_mode="thread_local")
        try:
            with torch.cuda.stream(torch.cuda.current_stream(self.device)), capturing:
                return work()  # the outer context restores the stream if torch.cuda.graph fails to
        except BaseException:
            _replace_default_generator(self.device)
            raise

    def replay(self) -> None:
        """Repeat the computation. Returns before the device has finished."""
        self._graph.replay()


def _replace_default_generator(device: torch.device) -> None:
    """Give the default generator a new state: after a failed capture, it waits forever for the capture to end."""
    generator = torch.cuda.default_generators[torch.cuda.current_device() if device.index is None else device.index]
    generator.graphsafe_set_state(torch.Generator(device).graphsafe_get_state())
