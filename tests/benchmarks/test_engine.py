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

import pytest
from filelock import FileLock

from arch.errors import InputError
from benchmarks import engine
from benchmarks.progress import Progress, Report, silent

HERE = Path(__file__).parent
GONE = 30  # seconds a process may take to die

PARENT = """
import sys
from benchmarks import engine

engine.call("test_engine:hold", lambda progress: print(progress.task, flush=True), sys.argv[1])
"""


# What follows runs in children, which import this file as `test_engine`.


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


# What follows runs here.


@pytest.fixture(autouse=True)
def _importable_by_children(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(HERE)


class Watched(engine._Child):
    """A child that is remembered, with how many there are at once."""

    all: ClassVar[list["Watched"]] = []
    alive = most = 0

    def __init__(self, function: str, args: tuple[Any, ...]) -> None:
        super().__init__(function, args)
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
    monkeypatch.setattr(engine, "_Child", Watched)
    return Watched


def ignore(number: int, progress: Progress) -> None:
    pass


def call(name: str, *args: Any, report: Report = silent) -> Any:
    return engine.call(f"test_engine:{name}", report, *args)


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
    with pytest.raises(engine.ChildFailed, match=r"^ZeroDivisionError: the first line$") as raised:
        call("fail")
    assert "Traceback" in raised.value.details
    assert "test_engine.py" in raised.value.details
    assert "and another" in raised.value.details


def test_an_error_without_words_is_named() -> None:
    with pytest.raises(engine.ChildFailed, match=r"^MemoryError"):
        call("fail_without_words")


@pytest.mark.parametrize("name", ["test_engine:missing", "no_such_module:run"])
def test_work_that_is_not_there_fails(name: str) -> None:
    with pytest.raises(engine.ChildFailed, match=r"missing|no_such_module"):
        engine.call(name, silent)


def test_a_value_that_cannot_be_sent_fails() -> None:
    with pytest.raises(engine.ChildFailed, match=r"(?i)pickle"):
        call("give_back_a_function")


@pytest.mark.parametrize(
    ("number", "name"),
    [(signal.SIGKILL, r"SIGKILL \(out of memory\?\)"), (signal.SIGTERM, "SIGTERM")],
)
def test_a_killed_child_is_named_by_its_signal(number: int, name: str) -> None:
    with pytest.raises(engine.ChildFailed, match=f"^its process was killed by {name}$"):
        call("die_of", number)


@pytest.mark.parametrize("code", [3, 0])
def test_a_child_that_leaves_is_named_by_its_exit_code(code: int) -> None:
    with pytest.raises(engine.ChildFailed, match=f"^its process ended with exit code {code}$"):
        call("leave_with", code)


def test_a_child_that_asks_to_exit_has_not_answered() -> None:
    with pytest.raises(engine.ChildFailed, match=r"^SystemExit: 4$"):
        call("exit_with", 4)


def test_an_interrupted_call_leaves_no_child(tmp_path: Path) -> None:
    def interrupt(progress: Progress) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        call("hold", str(tmp_path / "lock"), report=interrupt)
    with FileLock(tmp_path / "lock", timeout=GONE):
        assert not (tmp_path / "lock.ended").exists()


def test_a_child_ignores_the_interrupt_that_its_parent_answers() -> None:
    with pytest.raises(engine.ChildFailed, match="exit code 5"):
        call("survive_interrupt", 5)


def test_a_child_dies_with_a_killed_parent(tmp_path: Path, python: Callable[..., Any]) -> None:
    parent = python(PARENT, tmp_path / "lock", path=HERE)
    assert parent.stdout.readline() == "held\n"
    parent.kill()
    parent.wait()
    with FileLock(tmp_path / "lock", timeout=GONE):
        assert not (tmp_path / "lock.ended").exists()


@pytest.mark.parametrize(("side_by_side", "most"), [(1, 1), (2, 2), (64, 5)])
def test_no_more_children_run_at_once_than_asked_for(side_by_side: int, most: int, watched: type[Watched]) -> None:
    arguments = [(number,) for number in range(5)]
    outcomes = dict(engine.call_each("test_engine:give_back", arguments, side_by_side, ignore))
    assert outcomes == {number: (number,) for number in range(5)}
    assert (watched.most, watched.alive, len(watched.all)) == (most, 0, 5)


def test_outcomes_come_in_the_order_in_which_children_end(tmp_path: Path) -> None:
    locks = [FileLock(tmp_path / name) for name in ("first", "second", "third")]
    for lock in locks:
        lock.acquire()
    arguments = [(lock.lock_file,) for lock in locks]
    outcomes = engine.call_each("test_engine:end_when_free", arguments, 3, ignore)
    for number, name in ((2, "third"), (0, "first"), (1, "second")):
        locks[number].release()
        assert next(outcomes) == (number, name)
    assert list(outcomes) == []


def test_what_fails_takes_its_place_and_the_rest_goes_on() -> None:
    ways = ["fail", "one", "refuse", "die", "two"]
    outcomes = dict(engine.call_each("test_engine:end_as", [(how,) for how in ways], 2, ignore))
    assert (outcomes[1], outcomes[4]) == ("one", "two")
    expected = {
        0: (engine.ChildFailed, "ZeroDivisionError: by nothing"),
        2: (InputError, "no such thing"),
        3: (engine.ChildFailed, "its process ended with exit code 3"),
    }
    assert {number: (type(outcomes[number]), str(outcomes[number])) for number in expected} == expected
    assert "Traceback" in outcomes[0].details


def test_progress_says_whose_it_is() -> None:
    arrived: list[tuple[int, Progress]] = []
    arguments = [(2,), (0,), (3,)]
    list(engine.call_each("test_engine:count_to", arguments, 3, lambda *whose: arrived.append(whose)))
    for number, total in enumerate((2, 0, 3)):
        mine = [progress for whose, progress in arrived if whose == number]
        assert mine == [Progress("counting", done, total, f"at {done}") for done in range(total)]
    assert len(arrived) == 5


def test_nothing_to_do_starts_nobody(watched: type[Watched]) -> None:
    assert list(engine.call_each("test_engine:give_back", [], 2, ignore)) == []
    assert watched.all == []


def test_leaving_early_ends_all_children(tmp_path: Path, watched: type[Watched]) -> None:
    arguments = [(str(tmp_path / "lock"),), ("",), ("",)]
    outcomes = engine.call_each("test_engine:hold_unless_empty", arguments, 2, ignore)
    assert next(outcomes) == (1, None)
    outcomes.close()  # type: ignore[attr-defined]  # it is a generator
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
        list(engine.call_each("test_engine:hold", arguments, 2, interrupt))
    assert [child.process.exitcode for child in watched.all] == [-signal.SIGKILL] * 2
    for name in ("one", "two"):
        with FileLock(tmp_path / name, timeout=GONE):
            assert not (tmp_path / f"{name}.ended").exists()


ANEW = """
import json, os, sys
from benchmarks.engine import CHILD_ENVIRONMENT, take_environment

print("started", sys.argv[1:], flush=True)
take_environment()
print(json.dumps({name: os.environ.get(name) for name in CHILD_ENVIRONMENT}))
"""


def output_anew(environment: dict[str, str]) -> list[str]:
    """What the program above prints, started with an argument and none but these of the children's variables."""
    others = {name: os.environ[name] for name in os.environ.keys() - engine.CHILD_ENVIRONMENT.keys()}
    command = [sys.executable, "-W", "error", "-c", ANEW, "word"]
    root, found = HERE.parent.parent, others | environment
    return subprocess.check_output(command, cwd=root, env=found, text=True, timeout=2 * GONE).splitlines()


def test_a_command_starts_anew_once_with_the_environment_of_children() -> None:
    *starts, found = output_anew({})
    assert starts == ["started ['word']"] * 2
    assert json.loads(found) == engine.CHILD_ENVIRONMENT


def test_a_command_that_has_the_environment_goes_straight_on() -> None:
    assert len(output_anew(engine.CHILD_ENVIRONMENT)) == 2


def test_what_a_person_has_set_stays() -> None:
    own = {"GOMP_SPINCOUNT": "7"}
    *starts, found = output_anew(own)
    assert len(starts) == 2
    assert json.loads(found) == engine.CHILD_ENVIRONMENT | own
