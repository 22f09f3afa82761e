import os
import signal
import threading
from multiprocessing.connection import wait

import pytest

from benchmarks.execution.signals import STOP_SIGNALS, StopRequest, Terminated, raising_terminated


def send(number: int) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_deadly_signal_is_raised_and_its_handler_restored(number: int) -> None:
    with pytest.raises(Terminated), raising_terminated():
        send(number)
    assert signal.getsignal(number) is signal.SIG_DFL


def test_ctrl_c_raises_keyboard_interrupt() -> None:
    with pytest.raises(KeyboardInterrupt), raising_terminated():
        send(signal.SIGINT)


def test_an_ignored_signal_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as under `nohup`
    try:
        with raising_terminated(), StopRequest(STOP_SIGNALS) as stop:
            send(signal.SIGHUP)
            assert not stop()
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize(
    ("number", "expected"),
    [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, Terminated), (signal.SIGHUP, Terminated)],
)
def test_the_first_signal_is_recorded_and_the_second_raised(number: int, expected: type[BaseException]) -> None:
    handlers = [signal.getsignal(stop_signal) for stop_signal in STOP_SIGNALS]
    with StopRequest(STOP_SIGNALS) as stop:
        assert not stop()
        assert wait([stop.receiver], 0) == []
        send(number)
        assert stop()
        assert wait([stop.receiver], 0) == [stop.receiver]
        assert type(stop.error()) is expected
        with pytest.raises(expected):
            send(number)
    assert [signal.getsignal(stop_signal) for stop_signal in STOP_SIGNALS] == handlers


def test_a_recorded_request_is_not_raised_at_the_end() -> None:
    with StopRequest([signal.SIGTERM]) as stop:
        send(signal.SIGTERM)
    assert stop()


def test_other_threads_record_no_requests() -> None:
    seen: list[bool] = []

    def work() -> None:
        with raising_terminated(), StopRequest(STOP_SIGNALS) as stop:
            seen.append(stop())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [False]


def test_a_patient_request_records_the_second_signal_too() -> None:
    with StopRequest([signal.SIGTERM], patient=True) as stop:
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGTERM)
        assert stop()
