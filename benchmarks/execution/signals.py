"""Ctrl-C, SIGTERM and a closed terminal as a request to end soon: what runs keeps its state first."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import Pipe
from types import FrameType, TracebackType
from typing import Any, Self

# to a command; its children answer to SIGTERM alone, which it sends them
STOP_SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


class Terminated(BaseException):
    """The command was asked to end by a signal other than Ctrl-C."""


@contextmanager
def raising_terminated() -> Iterator[None]:
    """Within it a signal that would kill the process raises Terminated instead, wherever it is."""

    def end(number: int, frame: FrameType | None) -> None:
        raise Terminated

    before = {}
    if threading.current_thread() is threading.main_thread():
        taken = [number for number in STOP_SIGNALS if signal.getsignal(number) is signal.SIG_DFL]
        before = {number: signal.signal(number, end) for number in taken}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class StopRequest:
    """Within it the first of these signals is noted, and the second ends the work at once, as an exception.

    numbers: of the signals; those that the caller's caller has chosen to ignore, as `nohup` does, stay ignored.
    patient: the second one is only noted too: for a child, which may be sent one by its parent and by a scheduler.
    """

    def __init__(self, numbers: list[int], patient: bool = False) -> None:
        self.numbers, self.patient = numbers, patient
        self.received = 0
        self.receiver, self._sender = Pipe(duplex=False)  # to be waited for among other sources
        os.set_blocking(self._sender.fileno(), False)
        self._before: dict[int, Any] = {}
        self._wakeup_before: int | None = None

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():  # in another thread Python allows no handlers
            for number in self.numbers:
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._note)
            # the system's own handler writes to the pipe: one of Python's may have to wait until we no longer wait
            self._wakeup_before = signal.set_wakeup_fd(self._sender.fileno(), warn_on_full_buffer=False)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._wakeup_before is not None:
            signal.set_wakeup_fd(self._wakeup_before)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self.receiver.close()
        self._sender.close()

    def __call__(self) -> bool:
        """Whether a request has come."""
        return self.received != 0

    def drain(self) -> None:
        """Takes what signals have written, once the receiver is ready, so that it is ready for the next ones only."""
        os.read(self.receiver.fileno(), 4096)

    def error(self) -> BaseException:
        """What the request is as an exception."""
        return KeyboardInterrupt() if self.received == signal.SIGINT else Terminated()

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.received and not self.patient:
            raise self.error()
        self.received = number
