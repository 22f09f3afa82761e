"""Storage of a study: a journal file, an SQLite file, or a database server for several computers."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import optuna
from filelock import FileLock
from optuna.exceptions import DuplicatedStudyError, StorageInternalError
from optuna.storages import BaseStorage, RDBStorage
from optuna.storages.journal import JournalStorage
from sqlalchemy import event, make_url
from sqlalchemy.exc import IntegrityError, ProgrammingError, SQLAlchemyError

from arch.errors import InputError
from search.journal_file import JournalFile, check_regular_file

CONNECT_ATTEMPTS = 3  # for an empty database whose tables another worker may be creating
CONNECT_RETRY_SECONDS = 1
LIMITS = "limits"  # user attribute of a study: the limits on its candidates
BUSY_TIMEOUT_SECONDS = 60  # time to wait while another worker writes to an SQLite file


def open_storage(location: str) -> BaseStorage:
    """Open a storage, and create it if it is a file that does not exist or an empty database.

    Args:
        location: The path of a journal, `sqlite:///file.db`, or `postgresql+psycopg://user@host/database`.

    Raises:
        InputError: If the storage cannot be opened, with a one-line message.
    """
    shown = without_password(location)
    try:
        return _open_database(location) if "://" in location else _open_journal(Path(location))
    except ImportError as error:
        raise InputError(f"cannot open --storage {shown}: {_missing_driver(location)}") from error
    except OSError as error:
        raise InputError(f"cannot open --storage {shown}: {error.strerror or error}") from error
    except (InputError, SQLAlchemyError, ValueError, RuntimeError) as error:
        raise InputError(f"cannot open --storage {shown}: {_first_line(error)}") from error


def _open_journal(path: Path) -> JournalStorage:
    journal = JournalFile(path)
    try:
        return JournalStorage(journal)
    except (AssertionError, LookupError, TypeError, StorageInternalError) as error:  # raised by Optuna while it reads
        advice = "move it away to start anew; runs that are already recorded are not repeated"
        raise InputError(f"a line of it is damaged: {advice}") from error


def _open_database(url: str) -> RDBStorage:
    try:
        parsed = make_url(url)
    except ValueError as error:
        raise InputError("the port is not a number") from error
    if parsed.get_backend_name() != "sqlite":
        return _connect(url, {"pool_pre_ping": True})
    if parsed.database in (None, "", ":memory:"):
        raise InputError("a database in memory is lost when the search ends: give a file, sqlite:///FILE")
    check_regular_file(Path(str(parsed.database)))
    with FileLock(f"{parsed.database}.lock"):  # one worker creates the tables of a file while the others wait
        storage = _connect(url, {"connect_args": {"timeout": BUSY_TIMEOUT_SECONDS}})
    _use_immediate_transactions(storage)
    return storage


def _connect(url: str, options: dict[str, Any]) -> RDBStorage:
    """Connect, and try again if another worker creates the tables at the same moment."""
    for _ in range(CONNECT_ATTEMPTS - 1):
        try:
            return RDBStorage(url, engine_kwargs=options)
        except (IntegrityError, ProgrammingError):
            time.sleep(CONNECT_RETRY_SECONDS)
    return RDBStorage(url, engine_kwargs=options)


def _missing_driver(url: str) -> str:
    """Describe the database driver of a URL, which is not installed, and how to install one."""
    parsed = make_url(url)
    backend, driver = parsed.get_backend_name(), parsed.get_driver_name()
    if backend == "postgresql":
        advice = "pip install 'timm-ablate[postgresql]' and use postgresql+psycopg://"
    else:
        advice = f"install it, or name an installed driver of {backend}, as in {backend}+DRIVER://"
    return f"the driver {driver} of {backend} is not installed: {advice}"


def without_password(location: str) -> str:
    """Return the path, or the URL with its password hidden, for messages."""
    if "://" not in location:
        return location
    try:
        return make_url(location).render_as_string(hide_password=True)
    except (SQLAlchemyError, ValueError):  # ValueError: the port is not a number
        return location.rpartition("@")[2]


def _use_immediate_transactions(storage: RDBStorage) -> None:
    """Take SQLite's write lock at the start of each transaction.

    Otherwise two workers that both read before either of them writes would take the same waiting trial, or lose one.
    """
    event.listen(storage.engine, "connect", _configure_connection)
    event.listen(storage.engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
    storage.engine.dispose()  # closes connections that were opened without these listeners


def _configure_connection(connection: Any, _: object) -> None:
    """Let SQLAlchemy begin transactions, and use a write-ahead log, which is safe without a sync per transaction."""
    connection.isolation_level = None
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")


def open_study(
    storage: BaseStorage, name: str, directions: list[Literal["maximize", "minimize"]], resume: bool
) -> optuna.Study:
    """Create a study, or load it if `resume` is set and it exists.

    Args:
        storage: Where the study is stored.
        name: The name of the study.
        directions: One direction per objective.
        resume: Whether to continue an existing study; if it does not exist, it is created.

    Raises:
        InputError: If the study exists and `resume` is not set, or if `resume` is set and the storage only contains
            other studies.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    existing = optuna.get_all_study_names(storage)
    if resume and existing and name not in existing:
        described = ", ".join(_describe_study(storage, other) for other in existing)
        raise InputError(
            f"--resume: study {name} does not exist, only {described}; the name of a study depends on the benchmark, "
            "the space, the version of its parts, the budget, the device of its hours (--device-profile) and the "
            "objective"
        )
    if name in existing and not resume:
        raise InputError(f"study {name} already exists: use --resume to continue it, or another --out to start anew")
    try:
        return optuna.create_study(
            storage=storage,
            study_name=name,
            directions=directions,
            load_if_exists=resume,
        )
    except DuplicatedStudyError as error:  # another command created it a moment ago
        raise InputError(f"another command has just started study {name}: use --resume to join it") from error


def _describe_study(storage: BaseStorage, name: str) -> str:
    """Return the name of a study, and the limits on its candidates if they are stored."""
    limits = storage.get_study_user_attrs(storage.get_study_id_from_name(name)).get(LIMITS)
    return f"{name} ({limits})" if limits else name


@contextmanager
def storage_errors_as_os_errors(location: str) -> Iterator[None]:
    """Raise errors of the storage as an OSError with a one-line message that names the storage."""
    shown = without_password(location)
    try:
        yield
    except (StorageInternalError, SQLAlchemyError) as error:
        cause = error.__cause__ or error
        message = f"storage {shown} failed: {_first_line(cause)}; use --resume to continue when it is available again"
        raise OSError(None, message) from error


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
