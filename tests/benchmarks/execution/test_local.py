import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import psutil
import pytest
from filelock import FileLock

from arch.errors import InputError
from benchmarks.execution import local, worker_process
from benchmarks.execution.executor import Future, WorkerFailed
from benchmarks.execution.local import LocalExecutor
from benchmarks.execution.progress import Progress, Report, silent
from benchmarks.execution.signals import Terminated

pytestmark = pytest.mark.slow

FOLDER = Path(__file__).parent
DEATH_TIMEOUT = 30  # seconds that a killed process may take to end

CALLER = """
import sys
from benchmarks.execution import worker_process
from benchmarks.execution.local import LocalExecutor

worker_process.PROCESS_CONTEXT.set_forkserver_preload = lambda names: None  # these functions need no torch
LocalExecutor().call("worker_functions:hold_lock", lambda progress: print(progress.task, flush=True), sys.argv[1])
"""

SESSION = """
import sys
from benchmarks.execution import worker_process
from benchmarks.execution.local import LocalExecutor

worker_process.PROCESS_CONTEXT.set_forkserver_preload = lambda names: None  # these functions need no torch
function, count, *args = sys.argv[1:]
numbers, waiting = {}, list(range(int(count)))

def show(progress):
    print(progress.task, progress.note, flush=True)

try:
    with LocalExecutor().session(2) as session:
        while True:
            while waiting and session.has_capacity:
                numbers[session.submit("worker_functions:" + function, *args, on_progress=show)] = waiting.pop(0)
            finished = session.wait()
            if not finished:
                break
            for future in finished:
                print("outcome", numbers[future], future.outcome, flush=True)
except BaseException as error:
    print(type(error).__name__, flush=True)
"""


class CountedWorker(worker_process.WorkerProcess):
    """Worker process that records all instances and the maximum number of concurrent workers."""

    all: ClassVar[list["CountedWorker"]] = []
    num_alive = max_alive = 0

    def __init__(self, function: str, args: tuple[Any, ...], time_limit: float | None = None) -> None:
        super().__init__(function, args, time_limit)
        CountedWorker.all.append(self)
        CountedWorker.num_alive += 1
        CountedWorker.max_alive = max(CountedWorker.max_alive, CountedWorker.num_alive)

    def kill(self) -> None:
        super().kill()
        CountedWorker.num_alive -= 1


@pytest.fixture
def workers(monkeypatch: pytest.MonkeyPatch) -> type[CountedWorker]:
    monkeypatch.setattr(CountedWorker, "all", [])
    monkeypatch.setattr(CountedWorker, "num_alive", 0)
    monkeypatch.setattr(CountedWorker, "max_alive", 0)
    monkeypatch.setattr(local, "WorkerProcess", CountedWorker)
    return CountedWorker


def call(name: str, *args: Any, report: Report = silent, time_limit: float | None = None) -> Any:
    return LocalExecutor().call(f"worker_functions:{name}", report, *args, time_limit=time_limit)


def call_all(
    name: str,
    arguments: Sequence[Any],
    max_workers: int,
    report: Callable[[int, Progress], None] = lambda number, progress: None,
    time_limit: float | None = None,
) -> dict[int, Any]:
    """Call a function with each argument, at most `max_workers` at once; return outcomes in completion order."""
    numbers: dict[Future, int] = {}
    outcomes: dict[int, Any] = {}
    waiting = list(enumerate(arguments))
    with LocalExecutor().session(max_workers) as session:
        while True:
            while waiting and session.has_capacity:
                number, argument = waiting.pop(0)
                future = session.submit(
                    f"worker_functions:{name}",
                    argument,
                    time_limit=time_limit,
                    on_progress=lambda progress, number=number: report(number, progress),  # type: ignore[misc]
                )
                numbers[future] = number
            finished = session.wait()
            if not finished:
                return outcomes
            outcomes |= {numbers[future]: future.outcome for future in finished}


def assert_gone(pid: int) -> None:
    """Assert that a process ends or becomes a zombie within `DEATH_TIMEOUT` seconds."""
    for _ in range(DEATH_TIMEOUT * 20):
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return
        except psutil.NoSuchProcess:
            return
        time.sleep(0.05)
    raise AssertionError(f"process {pid} still exists")


def lines_until(parent: Any, word: str) -> list[str]:
    """Return the lines that a process prints, up to the first line that begins with the given word."""
    lines = [parent.stdout.readline()]
    while lines[-1] and not lines[-1].startswith(word):
        lines.append(parent.stdout.readline())
    return [line.strip() for line in lines]


# One call


def test_the_returned_value_arrives() -> None:
    assert call("echo", 1, "two", [3.0, None]) == (1, "two", [3.0, None])


def test_a_value_larger_than_a_pipe_arrives() -> None:
    content = os.urandom(1 << 20)
    assert call("echo", content) == (content,)


def test_progress_arrives_in_order() -> None:
    reports: list[Progress] = []
    call("count_to", 3, report=reports.append)
    assert reports == [Progress("counting", done, 3, f"at {done}") for done in range(3)]


def test_each_call_has_its_own_process_with_torch_and_the_cache_folder_of_the_tests(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    first, second = call("describe_process"), call("describe_process")
    assert len({first[0], second[0], os.getpid()}) == 3
    _, has_torch, cache_home = first
    assert has_torch  # before the function imports it
    assert Path(cache_home).is_relative_to(tmp_path_factory.getbasetemp())


def test_two_threads_may_call_at_once() -> None:
    results: list[Any] = []
    threads = [threading.Thread(target=lambda n=n: results.append(call("echo", n))) for n in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == [(1,), (2,)]


def test_the_main_module_is_restored_when_several_threads_hide_it() -> None:
    main = sys.modules["__main__"]
    before, order = (main.__file__, main.__spec__), []

    def hide_again() -> None:
        with worker_process._hidden_main_module():
            order.append("second")

    second = threading.Thread(target=hide_again)
    with worker_process._hidden_main_module():
        second.start()
        second.join(0.2)
        order.append("first")
    second.join()
    assert order == ["first", "second"]
    assert (main.__file__, main.__spec__) == before


def test_an_input_error_is_raised_as_one() -> None:
    with pytest.raises(InputError, match=r"^no such thing: valid: this, that$"):
        call("raise_input_error")


def test_an_error_becomes_one_line_and_a_traceback() -> None:
    with pytest.raises(WorkerFailed, match=r"^ZeroDivisionError: the first line$") as raised:
        call("raise_error")
    assert "Traceback" in raised.value.details
    assert "worker_functions.py" in raised.value.details
    assert "and another" in raised.value.details


def test_an_error_without_a_message_is_named() -> None:
    with pytest.raises(WorkerFailed, match=r"^MemoryError"):
        call("raise_error_without_message")


@pytest.mark.parametrize("name", ["worker_functions:missing", "no_such_module:run"])
def test_a_missing_function_fails(name: str) -> None:
    with pytest.raises(WorkerFailed, match=r"missing|no_such_module"):
        LocalExecutor().call(name, silent)


def test_a_value_that_cannot_be_pickled_fails() -> None:
    with pytest.raises(WorkerFailed, match=r"(?i)pickle|return_a_function"):
        call("return_a_function")


@pytest.mark.parametrize(
    ("number", "name"),
    [(signal.SIGKILL, r"SIGKILL \(out of memory\?\)"), (signal.SIGTERM, "SIGTERM")],
)
def test_the_failure_of_a_killed_worker_names_the_signal(number: int, name: str) -> None:
    with pytest.raises(WorkerFailed, match=f"killed by {name}$"):
        call("kill_itself", number)


@pytest.mark.parametrize("code", [3, 0])
def test_the_failure_of_a_worker_that_leaves_names_the_exit_code(code: int) -> None:
    with pytest.raises(WorkerFailed, match=f"exit code {code}$"):
        call("leave_with", code)


def test_a_worker_that_calls_exit_has_failed() -> None:
    with pytest.raises(WorkerFailed, match=r"^SystemExit: 4$"):
        call("exit_with", 4)


def test_a_worker_ignores_ctrl_c_which_its_parent_handles() -> None:
    with pytest.raises(WorkerFailed, match="exit code 5"):
        call("survive_interrupt", 5)


def test_an_interrupted_call_leaves_no_worker(tmp_path: Path) -> None:
    def interrupt(progress: Progress) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        call("hold_lock", str(tmp_path / "lock"), report=interrupt)
    with FileLock(tmp_path / "lock", timeout=DEATH_TIMEOUT):
        assert not (tmp_path / "lock.ended").exists()


def test_a_worker_dies_with_its_killed_parent(tmp_path: Path, python: Callable[..., Any]) -> None:
    parent = python(CALLER, tmp_path / "lock", path=FOLDER)
    assert parent.stdout.readline() == "held\n"
    parent.kill()
    parent.wait()
    with FileLock(tmp_path / "lock", timeout=DEATH_TIMEOUT):
        assert not (tmp_path / "lock.ended").exists()


# Several calls


@pytest.mark.parametrize(("max_workers", "expected"), [(1, 1), (2, 2), (64, 5)])
def test_the_number_of_workers_is_limited(max_workers: int, expected: int, workers: type[CountedWorker]) -> None:
    outcomes = call_all("echo", range(5), max_workers)
    assert outcomes == {number: (number,) for number in range(5)}
    assert (workers.max_alive, workers.num_alive, len(workers.all)) == (expected, 0, 5)


def test_outcomes_arrive_in_the_order_in_which_workers_end(tmp_path: Path) -> None:
    locks = [FileLock(tmp_path / name) for name in ("first", "second", "third")]
    with LocalExecutor().session(3) as session:
        futures = []
        for lock in locks:
            lock.acquire()
            futures.append(session.submit("worker_functions:end_when_unlocked", lock.lock_file))
        for number, name in ((2, "third"), (0, "first"), (1, "second")):
            locks[number].release()
            assert session.wait() == [futures[number]]
            assert futures[number].result() == name
        assert session.wait() == []


def test_failures_are_outcomes_and_do_not_stop_the_other_calls() -> None:
    outcomes = call_all("end_as", ["fail", "one", "refuse", "die", "two"], 2)
    assert (outcomes[1], outcomes[4]) == ("one", "two")
    expected = {
        0: (WorkerFailed, "ZeroDivisionError: by nothing"),
        2: (InputError, "no such thing"),
        3: (WorkerFailed, "the worker process ended with exit code 3"),
    }
    assert {number: (type(outcomes[number]), str(outcomes[number])) for number in expected} == expected
    assert "Traceback" in outcomes[0].details


def test_progress_reaches_the_callback_of_its_call() -> None:
    reports: list[tuple[int, Progress]] = []
    call_all("count_to", [2, 0, 3], 3, lambda *report: reports.append(report))
    for number, total in enumerate((2, 0, 3)):
        own = [progress for caller, progress in reports if caller == number]
        assert own == [Progress("counting", done, total, f"at {done}") for done in range(total)]
    assert len(reports) == 5


def test_a_session_without_calls_starts_no_worker(workers: type[CountedWorker]) -> None:
    assert call_all("echo", [], 2) == {}
    assert workers.all == []


def test_leaving_a_session_kills_its_workers(tmp_path: Path, workers: type[CountedWorker]) -> None:
    with LocalExecutor().session(2) as session:
        session.submit("worker_functions:hold_lock", str(tmp_path / "lock"))
        empty = session.submit("worker_functions:hold_lock", "")
        assert session.wait() == [empty]
    assert workers.all[0].process.exitcode == -signal.SIGKILL
    assert workers.num_alive == 0
    assert not (tmp_path / "lock.ended").exists()


def test_an_exception_in_a_callback_kills_all_workers(tmp_path: Path, workers: type[CountedWorker]) -> None:
    holding: set[int] = set()

    def interrupt(number: int, progress: Progress) -> None:
        holding.add(number)
        if len(holding) == 2:
            raise KeyboardInterrupt

    names = ("one", "two", "three")
    with pytest.raises(KeyboardInterrupt):
        call_all("hold_lock", [str(tmp_path / name) for name in names], 2, interrupt)
    assert [worker.process.exitcode for worker in workers.all] == [-signal.SIGKILL] * 2
    for name in names[:2]:
        with FileLock(tmp_path / name, timeout=DEATH_TIMEOUT):
            assert not (tmp_path / f"{name}.ended").exists()


# Time limits


def test_a_hung_worker_is_killed_at_its_time_limit_with_what_it_started(workers: type[CountedWorker]) -> None:
    pids: dict[int, int] = {}

    def note(number: int, progress: Progress) -> None:
        pids[number] = int(progress.note)

    call("echo")  # starts the fork server, so that the limit covers only the work
    outcomes = call_all("start_process", ["hang", "two", "three"], 1, note, time_limit=3.0)
    assert isinstance(outcomes[0], WorkerFailed)
    assert "time limit of 0:00:03" in str(outcomes[0])
    assert (outcomes[1], outcomes[2]) == ("two", "three")
    assert len(pids) == 3
    for pid in pids.values():
        assert_gone(pid)
    assert workers.all[1].process.exitcode == -signal.SIGKILL  # other workers may end before they are killed


@pytest.mark.parametrize("function", ["flood", "close_all_files"])
def test_neither_a_flood_of_progress_nor_a_closed_pipe_defeats_the_time_limit(
    function: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_process, "CLOSING_SECONDS", 0.2)
    call("echo")
    with pytest.raises(WorkerFailed):
        call(function, time_limit=0.5)


@pytest.mark.parametrize("time_limit", [3600, 1e9])
def test_a_long_time_limit_has_no_effect(time_limit: float) -> None:
    assert call("echo", 1, time_limit=time_limit) == (1,)


def test_a_changed_clock_ends_no_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.execution.local.time.time", lambda: 1e12)
    assert call("echo", 1, time_limit=3600) == (1,)


def test_processes_of_a_worker_end_with_it() -> None:
    reports: list[Progress] = []
    assert call("start_process", "end", report=reports.append) == "end"
    assert_gone(int(reports[0].note))


def test_processes_of_a_worker_end_with_its_killed_parent(python: Callable[..., Any]) -> None:
    parent = python(SESSION, "start_process", 1, "hang", path=FOLDER)
    pid = int(lines_until(parent, "started")[-1].split()[1])
    assert psutil.pid_exists(pid)
    parent.kill()
    parent.wait()
    assert_gone(pid)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("then", ["end", "die"])
def test_forked_children_of_a_worker_end_with_it(then: str) -> None:
    reports: list[Progress] = []
    if then == "end":
        assert call("fork_process", then, report=reports.append) == then
    else:
        with pytest.raises(WorkerFailed, match="SIGKILL"):
            call("fork_process", then, report=reports.append)
    assert_gone(int(reports[0].note))


# Requests to stop


def is_fork_server(process: psutil.Process) -> bool:
    """Return whether a child is the fork server; unlike it, each worker leads its own process group."""
    return os.getpgid(process.pid) != process.pid


def start_two_workers(python: Callable[..., Any], function: str, setup: str = "") -> tuple[Any, list[psutil.Process]]:
    """Start a process that submits four calls to two workers; return it and its descendants once both are ready."""
    parent = python(SESSION.replace("try:", f"{setup}\ntry:", 1), function, 4, path=FOLDER)
    assert lines_until(parent, "ready") == ["ready"]
    assert lines_until(parent, "ready") == ["ready"]
    return parent, psutil.Process(parent.pid).children(recursive=True)


@pytest.mark.parametrize(
    ("number", "receivers", "expected"),
    [
        (signal.SIGTERM, "parent", "Terminated"),
        (signal.SIGTERM, "all", "Terminated"),
        (signal.SIGINT, "all", "KeyboardInterrupt"),
        (signal.SIGHUP, "parent", "Terminated"),
    ],
)
def test_after_a_stop_signal_workers_may_finish_and_no_call_starts(
    number: int, receivers: str, expected: str, python: Callable[..., Any]
) -> None:
    parent, descendants = start_two_workers(python, "end_when_asked")
    servers = [child.pid for child in descendants if receivers == "all" and is_fork_server(child)]
    for pid in [parent.pid, *servers]:  # terminals, `timeout` and schedulers signal the whole process group
        os.kill(pid, number)
    lines = parent.stdout.read().split("\n")
    assert sorted(lines[:2]) == ["outcome 0 saved", "outcome 1 saved"]
    assert lines[2:] == [expected, ""]
    assert parent.wait() == 0
    for process in descendants:
        assert_gone(process.pid)


def test_the_failure_of_a_stopped_worker_is_no_outcome(python: Callable[..., Any]) -> None:
    parent, _ = start_two_workers(python, "raise_when_asked")
    parent.send_signal(signal.SIGTERM)
    assert parent.stdout.read() == "Terminated\n"


def test_a_worker_that_does_not_stop_is_killed(python: Callable[..., Any]) -> None:
    parent, descendants = start_two_workers(python, "ignore_requests", "worker_process.STOP_SECONDS = 0.2")
    parent.send_signal(signal.SIGTERM)
    assert parent.stdout.read() == "Terminated\n"
    for process in descendants:
        assert_gone(process.pid)


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_the_second_stop_signal_ends_everything_at_once(second: int, python: Callable[..., Any]) -> None:
    parent, descendants = start_two_workers(python, "ignore_requests", "worker_process.STOP_SECONDS = 1000.0")
    parent.send_signal(signal.SIGTERM)
    time.sleep(0.2)  # signals that arrive together count as one
    parent.send_signal(second)
    assert parent.stdout.read() == "Terminated\n"
    for process in descendants:
        assert_gone(process.pid)


def test_a_stopped_call_raises_and_restores_the_signal_handlers() -> None:
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]

    def stop(progress: Progress) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Terminated):
        call("raise_when_asked", report=stop)
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers
    assert call("echo", 1) == (1,)


def test_a_stopped_session_has_no_capacity_and_raises_when_it_is_left() -> None:
    def use_session() -> None:
        with LocalExecutor().session() as session:
            assert session.has_capacity
            os.kill(os.getpid(), signal.SIGTERM)
            assert not session.has_capacity
            assert session.wait() == []

    with pytest.raises(Terminated):
        use_session()
