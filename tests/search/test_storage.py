import sqlite3
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from subprocess import Popen

import optuna
import pytest
from optuna.storages import RDBStorage
from optuna.trial import TrialState

from arch.errors import InputError
from search.storage import LIMITS, open_storage, open_study, storage_errors_as_os_errors

WORKER = """
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
NUM_QUEUED = 20
FILES = ["{}/study.journal", "sqlite:///{}/study.db"]


def check_that_no_trial_is_lost_or_run_twice(
    location: str, python: Callable[..., Popen[str]], num_workers: int, trials_per_worker: int
) -> None:
    storage = open_storage(location)
    study = optuna.create_study(storage=storage, study_name="many")
    for x in range(NUM_QUEUED):
        study.enqueue_trial({"x": x})
    workers = [python(WORKER, location, trials_per_worker) for _ in range(num_workers)]
    for worker in workers:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "ready\n"
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write("go\n")
        worker.stdin.flush()
    for worker in workers:
        worker.communicate()
        assert worker.returncode == 0
    trials = study.trials
    if isinstance(storage, RDBStorage):
        storage.engine.dispose()
    assert len(trials) == num_workers * trials_per_worker
    assert {trial.state for trial in trials} == {TrialState.COMPLETE}
    assert len({trial.number for trial in trials}) == len(trials)
    queued = Counter(trial.params["x"] for trial in trials if "fixed_params" in trial.system_attrs)
    assert queued == dict.fromkeys(range(NUM_QUEUED), 1)


@pytest.mark.slow
@pytest.mark.parametrize("location", FILES)
def test_workers_on_a_file_lose_no_trial_and_run_none_twice(
    location: str, tmp_path: Path, python: Callable[..., Popen[str]]
) -> None:
    check_that_no_trial_is_lost_or_run_twice(location.format(tmp_path), python, 4, 10)


@pytest.mark.slow
def test_workers_on_a_server_lose_no_trial_and_run_none_twice(
    postgresql: str, python: Callable[..., Popen[str]]
) -> None:
    check_that_no_trial_is_lost_or_run_twice(postgresql, python, 4, 10)


def open_study_in(location: Path | str, resume: bool = False, name: str = "digits-1") -> optuna.Study:
    return open_study(open_storage(str(location)), name, ["maximize"], resume)


def test_existing_study_is_continued_only_with_resume(tmp_path: Path) -> None:
    study = open_study_in(tmp_path / "search.journal")
    study.tell(study.ask(), 1.0)
    with pytest.raises(InputError, match=r"study digits-1 already exists.*--resume"):
        open_study_in(tmp_path / "search.journal")
    assert len(open_study_in(tmp_path / "search.journal", resume=True).trials) == 1


def test_resume_does_not_continue_another_study(tmp_path: Path) -> None:
    open_study_in(tmp_path / "search.journal", resume=True)  # creates the study, because the file contains none
    with pytest.raises(InputError, match=r"study digits-2 does not exist, only digits-1.* benchmark"):
        open_study_in(tmp_path / "search.journal", resume=True, name="digits-2")


def test_message_about_another_study_contains_its_limits(tmp_path: Path) -> None:
    study = open_study_in(tmp_path / "search.journal")
    study.set_user_attr(LIMITS, "2.0 h each, predicted for a GPU")
    with pytest.raises(InputError, match=r"only digits-1 \(2\.0 h each, predicted for a GPU\).*--device-profile"):
        open_study_in(tmp_path / "search.journal", resume=True, name="digits-2")


@pytest.mark.parametrize(
    "url",
    [
        "no/such/folder/x.journal",
        "nonsense://",
        "sqlite://:memory:",
        "sqlite:////no/such/folder/x.db",
        "mysql+nothing://x",
        "postgresql+psycopg://localhost:1/x",
    ],
)
def test_storage_that_cannot_be_opened_is_refused_in_one_line(url: str) -> None:
    with pytest.raises(InputError) as error:
        open_storage(url)
    assert url in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("url", "driver", "advice"),
    [
        ("mysql://user@host/x", "mysqldb", "mysql+DRIVER://"),
        ("mysql+pymysql://user@host/x", "pymysql", "mysql+DRIVER://"),
        ("postgresql+psycopg2://user@host/x", "psycopg2", "pip install 'timm-ablate[postgresql]'"),
    ],
)
def test_missing_driver_is_named_with_advice_for_its_database(
    url: str, driver: str, advice: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("MySQLdb", "pymysql", "psycopg2"):
        monkeypatch.setitem(sys.modules, module, None)  # as if it were not installed
    with pytest.raises(InputError) as error:
        open_storage(url)
    message = str(error.value)
    assert f"driver {driver} of" in message
    assert advice in message
    assert ("timm-ablate[postgresql]" in message) == url.startswith("postgresql")


def test_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "search.db").write_text("something else" * 100)
    with pytest.raises(InputError, match=r"cannot open --storage .*not a database"):
        open_storage(f"sqlite:///{tmp_path / 'search.db'}")


@pytest.mark.slow
@pytest.mark.parametrize("location", FILES)
def test_study_survives_a_full_disk(location: str, small_disk: Path, fill: Callable[[], Path]) -> None:
    location = location.format(small_disk)
    study = open_study_in(location)
    study.tell(study.ask(), 1.0)
    ballast = fill()
    with (
        pytest.raises(OSError, match=r"storage .* failed: .*(full|disk I/O|No space).*--resume"),
        storage_errors_as_os_errors(location),
    ):
        _add_large_trials(study)
    ballast.unlink()
    resumed = open_study_in(location, resume=True)
    assert resumed.trials[0].value == 1.0
    resumed.tell(resumed.ask(), 3.0)
    assert resumed.best_value == 3.0
    if location.startswith("sqlite"):
        with sqlite3.connect(small_disk / "study.db") as database:
            assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def _add_large_trials(study: optuna.Study) -> None:
    for _ in range(50):
        trial = study.ask()
        trial.set_user_attr("text", "x" * 2000)
        study.tell(trial, 2.0)
