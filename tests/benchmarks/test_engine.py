import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

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


# What follows runs here.


@pytest.fixture(autouse=True)
def _importable_by_children(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(HERE)


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
