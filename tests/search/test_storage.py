import sqlite3
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from subprocess import Popen

import optuna
import pytest
from optuna.trial import TrialState

from arch.errors import InputError
from search.samplers.registry import successive_halving
from search.storage import open_storage, open_study, storage_errors_as_os_errors

WORK = """
import sys
import optuna
from search.storage import open_storage

optuna.logging.set_verbosity(optuna.logging.ERROR)
sampler = optuna.samplers.RandomSampler()
study = optuna.load_study(study_name="many", storage=open_storage(sys.argv[1]), sampler=sampler)
print("ready", flush=True)
sys.stdin.readline()
for _ in range(int(sys.argv[2])):
    trial = study.ask()
    study.tell(trial, float(trial.suggest_int("x", 0, 10**6)))
"""


def check_that_many_workers_lose_and_double_nothing(
    url: str, python: Callable[..., Popen[str]], workers: int, each: int
) -> None:
    storage = open_storage(url)
    study = optuna.create_study(storage=storage, study_name="many")
    for x in range(20):
        study.enqueue_trial({"x": x})
    started = [python(WORK, url, each) for _ in range(workers)]
    for process in started:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in started:  # all at once
        process.communicate("go\n")
        assert process.returncode == 0
    rows = study.trials
    storage.engine.dispose()
    assert len(rows) == workers * each
    assert {trial.state for trial in rows} == {TrialState.COMPLETE}
    assert len({trial.number for trial in rows}) == len(rows)
    queued = Counter(trial.params["x"] for trial in rows if "fixed_params" in trial.system_attrs)
    assert queued == dict.fromkeys(range(20), 1)


@pytest.mark.slow
def test_eight_workers_on_one_file_lose_no_trial_and_run_none_twice(
    tmp_path: Path, python: Callable[..., Popen[str]]
) -> None:
    check_that_many_workers_lose_and_double_nothing(f"sqlite:///{tmp_path / 'study.db'}", python, 8, 20)


@pytest.mark.slow
def test_workers_on_a_server_lose_no_trial_and_run_none_twice(
    postgresql: str, python: Callable[..., Popen[str]]
) -> None:
    check_that_many_workers_lose_and_double_nothing(postgresql, python, 4, 15)


def open_it(path: Path, resume: bool = False, name: str = "digits-1") -> optuna.Study:
    return open_study(open_storage(f"sqlite:///{path}"), name, ["maximize"], successive_halving(4), resume)


def test_a_study_that_is_there_is_gone_on_with_only_when_asked(tmp_path: Path) -> None:
    study = open_it(tmp_path / "search.db")
    study.tell(study.ask(), 1.0)
    with pytest.raises(InputError, match="the search digits-1 is there already: --resume goes on with it"):
        open_it(tmp_path / "search.db")
    assert len(open_it(tmp_path / "search.db", resume=True).trials) == 1


def test_another_search_is_not_taken_for_the_one_that_is_there(tmp_path: Path) -> None:
    open_it(tmp_path / "search.db", resume=True)  # stopped before it began
    with pytest.raises(InputError, match=r"no search digits-2 to go on with, but digits-1: another benchmark"):
        open_it(tmp_path / "search.db", resume=True, name="digits-2")


@pytest.mark.parametrize(
    "url", ["nonsense", "sqlite:////no/such/folder/x.db", "mysql+nothing://x", "postgresql+psycopg://localhost:1/x"]
)
def test_a_storage_that_cannot_be_opened_is_one_line(url: str) -> None:
    with pytest.raises(InputError) as error:
        open_storage(url)
    assert url in str(error.value)
    assert "\n" not in str(error.value)


def test_a_file_that_is_no_database_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "search.db").write_text("something else" * 100)
    with pytest.raises(InputError, match=r"cannot open --storage .*not a database"):
        open_storage(f"sqlite:///{tmp_path / 'search.db'}")


def write_much(study: optuna.Study) -> None:
    for _ in range(50):
        trial = study.ask()
        trial.set_user_attr("much", "x" * 2000)
        study.tell(trial, 2.0)


def test_on_a_full_disk_the_study_stays_as_it_was_and_goes_on_with_room(
    small_disk: Path, fill: Callable[[], Path]
) -> None:
    url = f"sqlite:///{small_disk / 'search.db'}"
    study = open_it(small_disk / "search.db")
    study.tell(study.ask(), 1.0)
    ballast = fill()
    with (
        pytest.raises(OSError, match=r"the search's storage .* fails: .*(full|disk I/O).*--resume"),
        storage_errors_as_os_errors(url),
    ):
        write_much(study)
    ballast.unlink()
    again = open_it(small_disk / "search.db", resume=True)
    assert again.trials[0].value == 1.0
    again.tell(again.ask(), 3.0)
    assert again.best_value == 3.0
    with sqlite3.connect(small_disk / "search.db") as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
