"""Ctrl-C, SIGTERM and a closed terminal as requests to stop soon, after running work has saved its state."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any, Self

# Signals that ask a command to stop. Its workers respond only to SIGTERM, which the command sends to them.
STOP_SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


class Terminated(BaseException):
    """A signal other than Ctrl-C asked the command to stop."""


@contextmanager
def raising_terminated() -> Iterator[None]:
    """Raise `Terminated` wherever the code is when a signal arrives that would otherwise kill the process."""

    def terminate(number: int, frame: FrameType | None) -> None:
        raise Terminated

    previous_handlers = {}
    if threading.current_thread() is threading.main_thread():
        unhandled = [number for number in STOP_SIGNALS if signal.getsignal(number) is signal.SIG_DFL]
        previous_handlers = {number: signal.signal(number, terminate) for number in unhandled}
    try:
        yield
    finally:
        for number, handler in previous_handlers.items():
            signal.signal(number, handler)


class StopRequest:
    """Context manager that records the first stop signal, and raises an exception on the second.

    Outside of the main thread, where Python allows no signal handlers, it records nothing.

    Args:
        numbers: The stop signals. Those that the process ignores, as under `nohup`, stay ignored.
        patient: Record all signals and raise nothing: for a worker, which may receive one from its command and
            another from a scheduler.
    """

    def __init__(self, numbers: list[int], patient: bool = False) -> None:
        from multiprocessing import Pipe  # imported late, because every command imports this module to print its help

        self.numbers, self.patient = numbers, patient
        self.received = 0  # number of the latest signal
        self.receiver, self._sender = Pipe(duplex=False)  # `receiver` becomes ready when a signal arrives
        os.set_blocking(self._sender.fileno(), False)
        self._previous_handlers: dict[int, Any] = {}
        self._previous_wakeup: int | None = None

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in self.numbers:
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._previous_handlers[number] = signal.signal(number, self._record)
            # A Python handler cannot end a blocking wait, which is resumed after it (PEP 475). The interpreter writes
            # to this pipe in its C-level handler, which makes `receiver` ready.
            self._previous_wakeup = signal.set_wakeup_fd(self._sender.fileno(), warn_on_full_buffer=False)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._previous_wakeup is not None:
            signal.set_wakeup_fd(self._previous_wakeup)
        for number, handler in self._previous_handlers.items():
            signal.signal(number, handler)
        self.receiver.close()
        self._sender.close()

    def __call__(self) -> bool:
        """Return whether a signal has arrived."""
        return self.received != 0

    def drain(self) -> None:
        """Empty the pipe, once `receiver` is ready, so that it becomes ready again only at the next signal."""
        os.read(self.receiver.fileno(), 4096)

    def error(self) -> BaseException:
        """Return the exception that corresponds to the request."""
        return KeyboardInterrupt() if self.received == signal.SIGINT else Terminated()

    def _record(self, number: int, frame: FrameType | None) -> None:
        if self.received and not self.patient:
            raise self.error()
        self.received = number
