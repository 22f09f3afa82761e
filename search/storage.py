"""Where a study is kept: a file of SQLite, or a server's database for several computers."""

import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, Literal

import optuna
from filelock import FileLock
from optuna.exceptions import DuplicatedStudyError, StorageInternalError
from optuna.pruners import BasePruner
from optuna.storages import RDBStorage
from sqlalchemy import event, make_url
from sqlalchemy.exc import IntegrityError, ProgrammingError, SQLAlchemyError

from arch.errors import InputError

ATTEMPTS = 3  # at connecting to an empty database
BUSY_SECONDS = 60  # that one worker waits while another writes


def open_storage(url: str) -> RDBStorage:
    """url: `sqlite:///file.db`, `postgresql+psycopg://user@host/database`. Raises InputError in one line."""
    shown = without_password(url)
    try:
        parsed = make_url(url)
        file = Path(parsed.database) if parsed.get_backend_name() == "sqlite" and parsed.database else None
        if file and not file.parent.is_dir():
            raise InputError(f"cannot open --storage {shown}: there is no folder {file.parent}")
        # the tables are made by one worker, while the others wait
        with FileLock(f"{file}.lock") if file else nullcontext():
            storage = _connect(url, {"connect_args": {"timeout": BUSY_SECONDS}} if file else {"pool_pre_ping": True})
    except ImportError as error:
        raise InputError(f"--storage {shown}: {_line(error)} (pip install 'timm-ablate[postgresql]')") from error
    except (SQLAlchemyError, OSError, ValueError, RuntimeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"cannot open --storage {shown}: {_line(error)}") from error
    if file:
        _begin_immediately(storage)
    return storage


def _connect(url: str, options: dict[str, Any]) -> RDBStorage:
    """Tries again where another worker makes the tables at the same moment."""
    for _ in range(ATTEMPTS - 1):
        try:
            return RDBStorage(url, engine_kwargs=options)
        except (IntegrityError, ProgrammingError):
            time.sleep(1)
    return RDBStorage(url, engine_kwargs=options)


def without_password(url: str) -> str:
    """Fit for a log."""
    try:
        return make_url(url).render_as_string(hide_password=True)
    except SQLAlchemyError:
        return url


def _begin_immediately(storage: RDBStorage) -> None:
    """Takes SQLite's write lock at the start of each transaction: two workers that have both read before either
    writes would otherwise take the same waiting trial, or lose one.
    """
    event.listen(storage.engine, "connect", _leave_transactions_to_us)
    event.listen(storage.engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
    storage.engine.dispose()  # connections from before


def _leave_transactions_to_us(connection: Any, _: object) -> None:
    """Sets a fresh connection up. A log ahead of the file is safe without waiting for the disk at each transaction."""
    connection.isolation_level = None
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")


def open_study(
    storage: RDBStorage, name: str, directions: list[Literal["maximize", "minimize"]], pruner: BasePruner, resume: bool
) -> optuna.Study:
    """A new study, or with `resume` the one of that name.

    Raises InputError where it is there and not asked for, or where it is asked for and only others are there.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    names = optuna.get_all_study_names(storage)
    if resume and names and name not in names:
        what = "another benchmark, space (or version of its parts), budget or objective is another search"
        raise InputError(f"--resume: there is no search {name} to go on with, but {', '.join(names)}: {what}")
    if name in names and not resume:
        raise InputError(f"the search {name} is there already: --resume goes on with it, another --out starts anew")
    try:
        return optuna.create_study(
            storage=storage,
            study_name=name,
            directions=directions,
            pruner=pruner,
            load_if_exists=resume,
        )
    except DuplicatedStudyError as error:  # by another command, a moment ago
        raise InputError(f"the search {name} has just been started by another command: --resume joins it") from error


@contextmanager
def naming_the_storage(url: str) -> Iterator[None]:
    """Lets an error of the database be one line, as an OSError."""
    shown = without_password(url)
    try:
        yield
    except (StorageInternalError, SQLAlchemyError) as error:
        cause = error.__cause__ or error
        raise OSError(
            None, f"the search's storage {shown} fails: {_line(cause)}; --resume goes on from there"
        ) from error


def _line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
