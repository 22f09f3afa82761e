import sqlite3
from collections.abc import Callable
from pathlib import Path
from subprocess import Popen

import optuna
import pytest
from filelock import FileLock, Timeout
from optuna.exceptions import StorageInternalError

from arch.errors import InputError
from search.journal_file import JournalFile
from search.storage import open_storage

HOLDER = """
import sys, time
from pathlib import Path
from search.journal_file import JournalFile
with JournalFile(Path(sys.argv[1]))._file_lock:
    print("locked", flush=True)
    time.sleep(3600)
"""


def create_study(path: Path) -> optuna.Study:
    study = optuna.create_study(storage=open_storage(str(path)), study_name="study")
    study.enqueue_trial({"x": 1})
    return study


def load_study(path: Path) -> optuna.Study:
    return optuna.load_study(storage=open_storage(str(path)), study_name="study")


@pytest.mark.parametrize("num_bytes", [1, 5, 40])
def test_incomplete_last_line_is_removed(tmp_path: Path, num_bytes: int) -> None:
    path = tmp_path / "study.journal"
    open_study = create_study(path)
    complete = path.read_bytes()
    path.write_bytes(complete + complete.splitlines()[-1][:num_bytes])
    assert len(load_study(path).trials) == 1
    open_study.tell(open_study.ask(), 1.0)  # by a process that has read the file before the line was written
    assert path.read_bytes().startswith(complete)
    assert [trial.value for trial in load_study(path).trials] == [1.0]


def test_journal_whose_only_line_is_incomplete_is_started_anew(tmp_path: Path) -> None:
    path = tmp_path / "study.journal"
    path.write_bytes(b'{"op_co')
    assert len(create_study(path).trials) == 1


def test_lock_of_a_killed_process_is_released(tmp_path: Path, python: Callable[..., Popen[str]]) -> None:
    path = tmp_path / "study.journal"
    study = create_study(path)
    holder = python(HOLDER, path)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "locked\n"
    lock = FileLock(f"{path}.lock")
    with pytest.raises(Timeout):
        lock.acquire(blocking=False)
    holder.kill()
    holder.wait()
    lock.acquire(blocking=False)
    lock.release()
    study.tell(study.ask(), 1.0)


@pytest.mark.parametrize("content", [b"[1, 2]\n", b"3\n", b"not JSON\n", b"\xff\xfe\n", b'{"a": 1}\n'])
def test_other_file_is_not_a_journal(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "study.journal"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"cannot open --storage .*study\.journal: it is not a journal of Optuna"):
        open_storage(str(path))
    assert path.read_bytes() == content


def test_sqlite_file_is_recognized(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "study.db") as database:
        database.execute("CREATE TABLE numbers (x INTEGER)")
    with pytest.raises(InputError, match=rf"it is an SQLite file: use sqlite:///{tmp_path}/study\.db"):
        open_storage(str(tmp_path / "study.db"))


@pytest.mark.parametrize(
    "damage", [b"#####\n", b'{"op_code": 5}\n', b"{}\n", b"[]\n", b'{"op_code": 99, "worker_id": 1}\n']
)
def test_damaged_line_is_reported(tmp_path: Path, damage: bytes) -> None:
    path = tmp_path / "study.journal"
    create_study(path)
    first, *others = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(first + damage + b"".join(others))
    with pytest.raises(InputError, match=r"cannot open --storage .*line of it is damaged"):
        open_storage(str(path))


def test_deleted_journal_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "study.journal"
    study = create_study(path)
    path.unlink()
    with pytest.raises(StorageInternalError, match=r"study\.journal"):
        study.set_user_attr("a", 1)
    assert not path.exists()


def test_several_threads_append(tmp_path: Path) -> None:
    study = create_study(tmp_path / "study.journal")
    study.optimize(lambda trial: float(trial.suggest_int("x", 0, 9)), n_trials=20, n_jobs=4)
    assert len(load_study(tmp_path / "study.journal").trials) == 20


def test_opening_creates_the_file(tmp_path: Path) -> None:
    JournalFile(tmp_path / "new.journal").check_format()
    assert (tmp_path / "new.journal").read_bytes() == b""
