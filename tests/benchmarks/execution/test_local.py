import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import psutil
import pytest
from filelock import FileLock

from arch.errors import InputError
from benchmarks.execution import local
from benchmarks.execution.progress import Progress, Report, silent
from benchmarks.execution.signals import StopRequest, Terminated

HERE = Path(__file__).parent
GONE = 30  # seconds a process may take to die

PARENT = """
import sys
from benchmarks.execution import local

local.call("test_local:hold", lambda progress: print(progress.task, flush=True), sys.argv[1])
"""

GUARDIAN = """
import sys
from benchmarks.execution import local

local.CONTEXT.set_forkserver_preload = lambda names: None  # none of this needs torch

def say(number, progress):
    print(progress.task, progress.note, flush=True)

try:
    for number, outcome in local.call_each("test_local:" + sys.argv[1], [("",)] * int(sys.argv[2]), 2, say):
        print("outcome", number, outcome, flush=True)
except BaseException as error:
    print(type(error).__name__, flush=True)
"""


# What follows runs in children, which import this file as `test_local`.


def give_back(report: Report, *args: Any) -> tuple[Any, ...]:
    return args


def count_to(report: Report, total: int) -> None:
    for done in range(total):
        report(Progress("counting", done, total, f"at {done}"))


def refuse(report: Report) -> None:
    raise InputError("no such thing: valid: this, that")


def fail(report: Report) -> None:
    raise ZeroDivisionError("the first line\nand another")


def fail_without_words(report: Report) -> None:
    raise MemoryError


def give_back_a_function(report: Report) -> Callable[[], None]:
    return lambda: None


def die_of(report: Report, number: int) -> None:
    os.kill(os.getpid(), number)
    time.sleep(60)


def leave_with(report: Report, code: int) -> None:
    os._exit(code)


def exit_with(report: Report, code: int) -> None:
    sys.exit(code)


def survive_interrupt(report: Report, code: int) -> None:
    os.kill(os.getpid(), signal.SIGINT)
    os._exit(code)


def whoami(report: Report) -> tuple[int, bool, str]:
    return os.getpid(), "torch" in sys.modules, os.environ["XDG_CACHE_HOME"]


def hold(report: Report, path: str) -> None:
    """Keeps a lock for as long as this process lives."""
    with FileLock(path):
        report(Progress("held", 0, 1))
        time.sleep(40)
        Path(path).with_suffix(".ended").touch()


def end_as(report: Report, how: str) -> str:
    if how == "fail":
        raise ZeroDivisionError("by nothing")
    if how == "refuse":
        raise InputError("no such thing")
    if how == "die":
        os._exit(3)
    return how


def end_when_free(report: Report, path: str) -> str:
    """Ends when nobody else holds a lock any more."""
    with FileLock(path, timeout=GONE):
        return Path(path).name


def hold_unless_empty(report: Report, path: str) -> None:
    if path:
        hold(report, path)


def start_another(report: Report, then: str) -> str:
    """Starts a process of its own and tells its pid."""
    another = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"])
    report(Progress("started", 0, 1, str(another.pid)))
    if then == "hang":
        time.sleep(300)
    return then


def end_when_asked(report: Report, path: str) -> str:
    """Ends by itself on SIGTERM, a moment later."""
    with StopRequest([signal.SIGTERM]) as stop:
        report(Progress("ready", 0, 1))
        while not stop():
            time.sleep(0.01)
        time.sleep(0.3)
        return "its last word"


def raise_when_asked(report: Report, path: str) -> None:
    end_when_asked(report, path)
    raise RuntimeError("stopped")


def be_deaf(report: Report, path: str) -> None:
    """Does not end on SIGTERM."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    report(Progress("ready", 0, 1))
    time.sleep(300)


def flood(report: Report) -> None:
    while True:
        report(Progress("flooding", 0, 1, "x" * 1000))


def close_everything(report: Report) -> None:
    """Cannot say anything any more, and does not end."""
    os.closerange(3, 256)
    time.sleep(300)


# What follows runs here.


@pytest.fixture(autouse=True)
def _importable_by_children(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(HERE)


class Watched(local._Child):
    """A child that is remembered, with how many there are at once."""

    all: ClassVar[list["Watched"]] = []
    alive = most = 0

    def __init__(self, function: str, args: tuple[Any, ...], time_limit: float | None = None) -> None:
        super().__init__(function, args, time_limit)
        Watched.all.append(self)
        Watched.alive += 1
        Watched.most = max(Watched.most, Watched.alive)

    def end(self) -> None:
        super().end()
        Watched.alive -= 1


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> type[Watched]:
    monkeypatch.setattr(Watched, "all", [])
    monkeypatch.setattr(Watched, "alive", 0)
    monkeypatch.setattr(Watched, "most", 0)
    monkeypatch.setattr(local, "_Child", Watched)
    return Watched


def ignore(number: int, progress: Progress) -> None:
    pass


def call(name: str, *args: Any, report: Report = silent) -> Any:
    return local.call(f"test_local:{name}", report, *args)


def test_the_value_comes_back() -> None:
    assert call("give_back", 1, "two", [3.0, None]) == (1, "two", [3.0, None])


def test_more_than_a_pipe_holds_comes_back() -> None:
    content = os.urandom(1 << 20)
    assert call("give_back", content) == (content,)


def test_progress_arrives_in_order() -> None:
    arrived: list[Progress] = []
    call("count_to", 3, report=arrived.append)
    assert arrived == [Progress("counting", done, 3, f"at {done}") for done in range(3)]


def test_each_call_has_a_process_of_its_own() -> None:
    assert len({call("whoami")[0], call("whoami")[0], os.getpid()}) == 3


def test_a_child_has_torch_and_the_cache_of_the_tests(tmp_path_factory: pytest.TempPathFactory) -> None:
    _, torch_is_there, cache_home = call("whoami")
    assert torch_is_there  # before the work asks for it
    assert Path(cache_home).is_relative_to(tmp_path_factory.getbasetemp())


def test_two_calls_may_run_at_once() -> None:
    results: list[Any] = []
    threads = [threading.Thread(target=lambda n=n: results.append(call("give_back", n))) for n in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == [(1,), (2,)]


def test_bad_input_crosses_over() -> None:
    with pytest.raises(InputError, match=r"^no such thing: valid: this, that$"):
        call("refuse")


def test_an_error_crosses_over_as_a_line_and_a_traceback() -> None:
    with pytest.raises(local.WorkerFailed, match=r"^ZeroDivisionError: the first line$") as raised:
        call("fail")
    assert "Traceback" in raised.value.details
    assert "test_local.py" in raised.value.details
    assert "and another" in raised.value.details


def test_an_error_without_words_is_named() -> None:
    with pytest.raises(local.WorkerFailed, match=r"^MemoryError"):
        call("fail_without_words")


@pytest.mark.parametrize("name", ["test_local:missing", "no_such_module:run"])
def test_work_that_is_not_there_fails(name: str) -> None:
    with pytest.raises(local.WorkerFailed, match=r"missing|no_such_module"):
        local.call(name, silent)


def test_a_value_that_cannot_be_sent_fails() -> None:
    with pytest.raises(local.WorkerFailed, match=r"(?i)pickle"):
        call("give_back_a_function")


@pytest.mark.parametrize(
    ("number", "name"),
    [(signal.SIGKILL, r"SIGKILL \(out of memory\?\)"), (signal.SIGTERM, "SIGTERM")],
)
def test_a_killed_child_is_named_by_its_signal(number: int, name: str) -> None:
    with pytest.raises(local.WorkerFailed, match=f"^its process was killed by {name}$"):
        call("die_of", number)


@pytest.mark.parametrize("code", [3, 0])
def test_a_child_that_leaves_is_named_by_its_exit_code(code: int) -> None:
    with pytest.raises(local.WorkerFailed, match=f"^its process ended with exit code {code}$"):
        call("leave_with", code)


def test_a_child_that_asks_to_exit_has_not_answered() -> None:
    with pytest.raises(local.WorkerFailed, match=r"^SystemExit: 4$"):
        call("exit_with", 4)


def test_an_interrupted_call_leaves_no_child(tmp_path: Path) -> None:
    def interrupt(progress: Progress) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        call("hold", str(tmp_path / "lock"), report=interrupt)
    with FileLock(tmp_path / "lock", timeout=GONE):
        assert not (tmp_path / "lock.ended").exists()


def test_a_child_ignores_the_interrupt_that_its_parent_answers() -> None:
    with pytest.raises(local.WorkerFailed, match="exit code 5"):
        call("survive_interrupt", 5)


def test_a_child_dies_with_a_killed_parent(tmp_path: Path, python: Callable[..., Any]) -> None:
    parent = python(PARENT, tmp_path / "lock", path=HERE)
    assert parent.stdout.readline() == "held\n"
    parent.kill()
    parent.wait()
    with FileLock(tmp_path / "lock", timeout=GONE):
        assert not (tmp_path / "lock.ended").exists()


@pytest.mark.parametrize(("runs_per_device", "most"), [(1, 1), (2, 2), (64, 5)])
def test_no_more_children_run_at_once_than_asked_for(runs_per_device: int, most: int, watched: type[Watched]) -> None:
    arguments = [(number,) for number in range(5)]
    outcomes = dict(local.call_each("test_local:give_back", arguments, runs_per_device, ignore))
    assert outcomes == {number: (number,) for number in range(5)}
    assert (watched.most, watched.alive, len(watched.all)) == (most, 0, 5)


def test_outcomes_come_in_the_order_in_which_children_end(tmp_path: Path) -> None:
    locks = [FileLock(tmp_path / name) for name in ("first", "second", "third")]
    for lock in locks:
        lock.acquire()
    arguments = [(lock.lock_file,) for lock in locks]
    outcomes = local.call_each("test_local:end_when_free", arguments, 3, ignore)
    for number, name in ((2, "third"), (0, "first"), (1, "second")):
        locks[number].release()
        assert next(outcomes) == (number, name)
    assert list(outcomes) == []


def test_what_fails_takes_its_place_and_the_rest_goes_on() -> None:
    ways = ["fail", "one", "refuse", "die", "two"]
    outcomes = dict(local.call_each("test_local:end_as", [(how,) for how in ways], 2, ignore))
    assert (outcomes[1], outcomes[4]) == ("one", "two")
    expected = {
        0: (local.WorkerFailed, "ZeroDivisionError: by nothing"),
        2: (InputError, "no such thing"),
        3: (local.WorkerFailed, "its process ended with exit code 3"),
    }
    assert {number: (type(outcomes[number]), str(outcomes[number])) for number in expected} == expected
    assert "Traceback" in outcomes[0].details


def test_progress_says_whose_it_is() -> None:
    arrived: list[tuple[int, Progress]] = []
    arguments = [(2,), (0,), (3,)]
    list(local.call_each("test_local:count_to", arguments, 3, lambda *whose: arrived.append(whose)))
    for number, total in enumerate((2, 0, 3)):
        mine = [progress for whose, progress in arrived if whose == number]
        assert mine == [Progress("counting", done, total, f"at {done}") for done in range(total)]
    assert len(arrived) == 5


def test_nothing_to_do_starts_nobody(watched: type[Watched]) -> None:
    assert list(local.call_each("test_local:give_back", [], 2, ignore)) == []
    assert watched.all == []


def test_leaving_early_ends_all_children(tmp_path: Path, watched: type[Watched]) -> None:
    arguments = [(str(tmp_path / "lock"),), ("",), ("",)]
    outcomes = local.call_each("test_local:hold_unless_empty", arguments, 2, ignore)
    assert next(outcomes) == (1, None)
    outcomes.close()
    assert watched.all[0].process.exitcode == -signal.SIGKILL
    assert len(watched.all) == 2
    assert not (tmp_path / "lock.ended").exists()


def test_an_interrupt_ends_all_children(tmp_path: Path, watched: type[Watched]) -> None:
    holding: set[int] = set()

    def interrupt(number: int, progress: Progress) -> None:
        holding.add(number)
        if len(holding) == 2:
            raise KeyboardInterrupt

    arguments = [(str(tmp_path / name),) for name in ("one", "two", "three")]
    with pytest.raises(KeyboardInterrupt):
        list(local.call_each("test_local:hold", arguments, 2, interrupt))
    assert [child.process.exitcode for child in watched.all] == [-signal.SIGKILL] * 2
    for name in ("one", "two"):
        with FileLock(tmp_path / name, timeout=GONE):
            assert not (tmp_path / f"{name}.ended").exists()


def assert_gone(pid: int) -> None:
    """Waits until there is no such process, or only what nobody has asked for the end of."""
    for _ in range(GONE * 20):
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return
        except psutil.NoSuchProcess:
            return
        time.sleep(0.05)
    raise AssertionError(f"process {pid} is still there")


def test_a_child_that_hangs_is_ended_at_its_time_limit_and_the_rest_goes_on(watched: type[Watched]) -> None:
    arguments = [("hang",), ("two",), ("three",)]
    pids: dict[int, int] = {}

    def note(number: int, progress: Progress) -> None:
        pids[number] = int(progress.note)

    call("give_back")  # the server has started, so that the limit is the work's alone
    outcomes = dict(local.call_each("test_local:start_another", arguments, 1, note, time_limit=12.0))
    assert isinstance(outcomes[0], local.WorkerFailed)
    assert str(outcomes[0]) == "it was ended after its time limit of 0:00:12"
    assert (outcomes[1], outcomes[2]) == ("two", "three")
    for pid in pids.values():
        assert_gone(pid)
    assert watched.all[1].process.exitcode == -signal.SIGKILL  # the others may have been so too, once they had said all


@pytest.mark.parametrize("work", ["flood", "close_everything"])
def test_neither_a_flood_of_progress_nor_a_closed_pipe_outlives_the_time_limit(
    work: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "CLOSING_SECONDS", 0.2)
    call("give_back")
    [(_, outcome)] = local.call_each(f"test_local:{work}", [()], 1, ignore, time_limit=0.5)
    assert isinstance(outcome, local.WorkerFailed)


def test_work_that_takes_less_than_its_time_limit_is_not_hindered() -> None:
    assert list(local.call_each("test_local:give_back", [(1,)], 1, ignore, time_limit=3600)) == [(0, (1,))]


def test_a_clock_that_is_set_ends_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.execution.local.time.time", lambda: 1e12)
    assert list(local.call_each("test_local:give_back", [(1,)], 1, ignore, time_limit=3600)) == [(0, (1,))]


def test_what_a_child_has_started_ends_with_it() -> None:
    arrived: list[Progress] = []
    assert call("start_another", "end", report=arrived.append) == "end"
    assert_gone(int(arrived[0].note))


def lines_until(parent: Any, word: str) -> list[str]:
    """What it prints up to the line that begins with this word."""
    lines = [parent.stdout.readline()]
    while lines[-1] and not lines[-1].startswith(word):
        lines.append(parent.stdout.readline())
    return [line.strip() for line in lines]


def test_what_a_child_has_started_ends_with_a_killed_parent(python: Callable[..., Any]) -> None:
    script = GUARDIAN.replace('("",)', '("hang",)')
    parent = python(script, "start_another", 1, path=HERE)
    pid = int(lines_until(parent, "started")[-1].split()[1])
    assert psutil.pid_exists(pid)
    parent.kill()
    parent.wait()
    assert_gone(pid)


def assert_no_orphan(children: list[psutil.Process]) -> None:
    for child in children:
        assert_gone(child.pid)


@pytest.mark.parametrize(
    ("number", "expected"),
    [(signal.SIGTERM, "Terminated"), (signal.SIGINT, "KeyboardInterrupt"), (signal.SIGHUP, "Terminated")],
)
@pytest.mark.parametrize("whom", ["parent", "all"])
def test_asked_to_stop_children_have_their_last_word_and_nothing_more_is_begun(
    number: int, expected: str, whom: str, python: Callable[..., Any]
) -> None:
    parent = python(GUARDIAN, "end_when_asked", 4, path=HERE)
    assert lines_until(parent, "ready") == ["ready"]
    assert lines_until(parent, "ready") == ["ready"]
    children = psutil.Process(parent.pid).children(recursive=True)
    for process in [parent.pid, *(child.pid for child in children if whom == "all" and is_server(child))]:
        os.kill(process, number)  # a terminal, `timeout` and schedulers tell it to the whole group
    rest = parent.stdout.read().split("\n")
    assert sorted(rest[:2]) == ["outcome 0 its last word", "outcome 1 its last word"]
    assert rest[2:] == [expected, ""]
    assert parent.wait() == 0
    assert_no_orphan(children)


def is_server(process: psutil.Process) -> bool:
    """Whether it is none of the children, which have groups of their own."""
    return os.getpgid(process.pid) != process.pid


def test_a_failure_while_stopping_is_no_outcome(python: Callable[..., Any]) -> None:
    parent = python(GUARDIAN, "raise_when_asked", 1, path=HERE)
    assert lines_until(parent, "ready") == ["ready"]
    parent.send_signal(signal.SIGTERM)
    assert parent.stdout.read() == "Terminated\n"


def test_a_child_that_does_not_stop_when_asked_to_is_killed(python: Callable[..., Any]) -> None:
    script = GUARDIAN.replace("try:", "local.STOP_SECONDS = 0.2\ntry:")
    parent = python(script, "be_deaf", 3, path=HERE)
    assert lines_until(parent, "ready") == ["ready"]
    assert lines_until(parent, "ready") == ["ready"]
    children = psutil.Process(parent.pid).children(recursive=True)
    parent.send_signal(signal.SIGTERM)
    assert parent.stdout.read() == "Terminated\n"
    assert_no_orphan(children)


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_asked_twice_it_ends_at_once(second: int, python: Callable[..., Any]) -> None:
    script = GUARDIAN.replace("try:", "local.STOP_SECONDS = 1000.0\ntry:")
    parent = python(script, "be_deaf", 2, path=HERE)
    assert lines_until(parent, "ready") == ["ready"]
    assert lines_until(parent, "ready") == ["ready"]
    children = psutil.Process(parent.pid).children(recursive=True)
    parent.send_signal(signal.SIGTERM)
    time.sleep(0.2)  # two that arrive together are one
    parent.send_signal(second)
    assert parent.stdout.read() == "Terminated\n"
    assert_no_orphan(children)


def test_a_call_that_is_asked_to_stop_raises_and_the_handlers_are_as_before() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]

    def ask(progress: Progress) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Terminated):
        call("raise_when_asked", "", report=ask)
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
    assert call("give_back", 1) == (1,)


ANEW = """
import json, os, sys
from benchmarks.execution.local import CHILD_ENVIRONMENT, take_environment

print("started", sys.argv[1:], flush=True)
take_environment()
print(json.dumps({name: os.environ.get(name) for name in CHILD_ENVIRONMENT}))
"""


def output_anew(environment: dict[str, str]) -> list[str]:
    """What the program above prints, started with an argument and none but these of the children's variables."""
    others = {name: os.environ[name] for name in os.environ.keys() - local.CHILD_ENVIRONMENT.keys()}
    command = [sys.executable, "-W", "error", "-c", ANEW, "word"]
    root, found = HERE.parent.parent, others | environment
    return subprocess.check_output(command, cwd=root, env=found, text=True, timeout=2 * GONE).splitlines()


def test_a_command_starts_anew_once_with_the_environment_of_children() -> None:
    *starts, found = output_anew({})
    assert starts == ["started ['word']"] * 2
    assert json.loads(found) == local.CHILD_ENVIRONMENT


def test_a_command_that_has_the_environment_goes_straight_on() -> None:
    assert len(output_anew(local.CHILD_ENVIRONMENT)) == 2


def test_what_a_person_has_set_stays() -> None:
    own = {"GOMP_SPINCOUNT": "7"}
    *starts, found = output_anew(own)
    assert len(starts) == 2
    assert json.loads(found) == local.CHILD_ENVIRONMENT | own


def test_a_limit_of_many_years_is_one(watched: type[Watched]) -> None:
    assert dict(local.call_each("test_local:give_back", [(1,)], 1, ignore, time_limit=1e9)) == {0: (1,)}
