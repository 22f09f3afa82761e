import sqlite3
from pathlib import Path

import optuna
import pytest
from optuna.exceptions import StorageInternalError
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from arch.errors import InputError
from search.journal_file import JournalFile
from search.storage import open_storage


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


@pytest.mark.parametrize("start", [b"", b"{", b'{"op_code":0,"wor'])
def test_journal_whose_only_line_is_incomplete_is_started_anew(tmp_path: Path, start: bytes) -> None:
    path = tmp_path / "study.journal"
    path.write_bytes(start)
    assert len(create_study(path).trials) == 1


@pytest.mark.slow
def test_lock_of_a_killed_process_is_released(tmp_path: Path) -> None:
    path = tmp_path / "study.journal"
    study = create_study(path)
    (tmp_path / "study.journal.lock").symlink_to(path)
    study.tell(study.ask(), 1.0)
    assert not (tmp_path / "study.journal.lock").is_symlink()


def test_other_programs_may_append_with_optuna(tmp_path: Path) -> None:
    study = create_study(tmp_path / "study.journal")
    other = JournalStorage(JournalFileBackend(str(tmp_path / "study.journal")))
    optuna.load_study(storage=other, study_name="study").set_user_attr("note", "written by optuna")
    study.tell(study.ask(), 1.0)
    assert study.user_attrs == {"note": "written by optuna"}
    assert other.get_trial(0).value == 1.0


def test_all_names_of_a_file_have_the_same_lock(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("study.journal")
    (tmp_path / "other").symlink_to(tmp_path)
    names = ["study.journal", "link", "other/study.journal"]
    assert {JournalFile(tmp_path / name).path for name in names} == {tmp_path / "study.journal"}


@pytest.mark.parametrize(
    "content", [b"[1, 2]\n", b"my notes without newline", b"not JSON\n", b"\x80\x02}q\x00", b'{"a": 1}']
)
def test_other_file_is_not_a_journal(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "study.journal"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"cannot open --storage .*study\.journal: it is not a journal of Optuna"):
        open_storage(str(path))
    assert path.read_bytes() == content


def test_folder_and_device_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"it is a folder: give a file"):
        open_storage(str(tmp_path))
    with pytest.raises(InputError, match=r"cannot open --storage /dev/null: it is not a regular file"):
        open_storage("/dev/null")


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
    with pytest.raises(StorageInternalError, match=r"No such file"):
        study.set_user_attr("a", 1)
    assert not path.exists()


@pytest.mark.parametrize("damage", [b"", b"{\n" * 2000, b"\xff" * 5000])
def test_journal_that_another_program_overwrites_is_reported(tmp_path: Path, damage: bytes) -> None:
    path = tmp_path / "study.journal"
    study = create_study(path)
    path.write_bytes(damage)
    with pytest.raises(StorageInternalError, match=r"truncated|damaged"):
        study.set_user_attr("a", 1)


def test_several_threads_append(tmp_path: Path) -> None:
    study = create_study(tmp_path / "study.journal")
    study.optimize(lambda trial: float(trial.suggest_int("x", 0, 9)), n_trials=20, n_jobs=4)
    assert len(load_study(tmp_path / "study.journal").trials) == 20


def test_opening_creates_the_file(tmp_path: Path) -> None:
    JournalFile(tmp_path / "new.journal")
    assert (tmp_path / "new.journal").read_bytes() == b""
