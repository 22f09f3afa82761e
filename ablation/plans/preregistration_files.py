"""The preregistrations of an output folder: one file each, named after its hash, which is never overwritten."""

import json
import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from ablation.plans.preregistration import (
    EditedPreregistration,
    Preregistration,
    latest,
    parse_preregistration,
)
from arch.errors import InputError
from arch.text import plural
from benchmarks.records.atomic_write import replace_file
from benchmarks.records.store import RecordStore, make_run_id
from benchmarks.records.unfinished import unfinished_runs

FOLDER = "preregistrations"
MAX_FILE_BYTES = 10_000_000


def preregistration_file(out: Path, preregistration: Preregistration) -> Path:
    """Return the file of a preregistration."""
    return out / FOLDER / f"{preregistration.short_hash}.json"


def store_preregistration(store: RecordStore, preregistration: Preregistration) -> Preregistration:
    """Write a preregistration, unless the folder contains the same one already.

    Args:
        store: The records of the output folder.
        preregistration: The preregistration.

    Returns:
        The earlier preregistration that declares the same, or this one.

    Raises:
        InputError: If the folder contains results of the declared runs, or cannot be read or written.
    """
    from filelock import FileLock  # imported late: commands that read need no lock

    folder = store.out / FOLDER
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / ".lock"):
            stored, _ = _read_folder(store.out)
            if same := [other for other in latest(stored) if other.declares_the_same(preregistration)]:
                return same[-1]
            _check_no_results(store, preregistration)
            _write(preregistration_file(store.out, preregistration), preregistration)
    except OSError as error:
        raise InputError(f"cannot write to {folder}: {error.strerror or error}") from error
    return preregistration


def _write(file: Path, preregistration: Preregistration) -> None:
    if file.exists():
        raise InputError(f"{file} exists and was edited: restore it or move it away")
    content = json.dumps(preregistration.to_json(), indent=1) + "\n"
    replace_file(file, lambda path: path.write_text(content, encoding="ascii", newline="\n"))


def _check_no_results(store: RecordStore, preregistration: Preregistration) -> None:
    """Raise InputError if a declared run has results: a record, also a removed one, or checkpoints."""
    declared = {
        make_run_id(row.key, seed, preregistration.benchmark.id): f"{row.spec} seed {seed}"
        for row in preregistration.rows
        for seed in range(preregistration.seeds)
    }
    seen = [record.run_id for record in (*store.records(curves=False), *store.removed_records())]
    seen += [run.run_id for run in unfinished_runs(store.out)]
    if known := [name for run_id, name in declared.items() if run_id in {*seen}]:
        raise InputError(
            f"a preregistration must precede the first run: {len(known)} of {plural(len(declared), 'declared run')} "
            f"already started in {store.out}, such as {known[0]}; declare rows that have no runs yet"
        )


def read_preregistrations(outs: Sequence[Path]) -> tuple[list[Preregistration], list[str]]:
    """Return the preregistrations of output folders, the latest first, and one sentence for each invalid file.

    A file that was edited, or whose name is not the start of its hash, is invalid.
    """
    results = [_read_folder(out) for out in dict.fromkeys(outs)]
    stored = latest(preregistration for preregistrations, _ in results for preregistration in preregistrations)
    return stored, [problem for _, problems in results for problem in problems]


def _read_folder(out: Path) -> tuple[list[Preregistration], list[str]]:
    stored: list[Preregistration] = []
    problems: list[str] = []
    try:
        files = sorted(path for path in (out / FOLDER).iterdir() if path.suffix == ".json")
    except FileNotFoundError:
        files = []
    except OSError as error:
        return [], [f"The preregistrations in {out / FOLDER} cannot be read: {error.strerror or error}."]
    for file in files:
        try:
            stored.append(_read_file(file))
        except EditedPreregistration:
            problems.append(f"The preregistration {file} was edited or renamed: it does not match its SHA-256 hash.")
        except OSError as error:
            problems.append(f"The preregistration {file} cannot be read: {error.strerror or error}.")
        except (ValueError, TypeError, RecursionError):
            problems.append(f"The preregistration {file} is damaged, or another version wrote it.")
    return stored, problems


def _read_file(file: Path) -> Preregistration:
    if not file.is_file() or file.stat().st_size > MAX_FILE_BYTES:
        raise ValueError("not a regular file of limited size")
    preregistration = parse_preregistration(file.read_bytes())
    if file.stem != preregistration.short_hash:
        raise EditedPreregistration
    return preregistration


def merge_preregistrations(sources: Sequence[Path], target: Path) -> list[str]:
    """Copy the preregistrations of other folders, as they are, to a folder. Files that it contains already are kept.

    Args:
        sources: The folders to copy from.
        target: The folder to copy to.

    Returns:
        One sentence for each file that differs from the file of the same name in `target`.

    Raises:
        OSError: If a file cannot be read or written.
    """
    warnings = []
    files = [file for source in sources for file in sorted((source / FOLDER).glob("*.json")) if file.is_file()]
    for file in files:
        copy = target / FOLDER / file.name
        if not copy.exists():
            replace_file(copy, partial(shutil.copyfile, file))
        elif copy.read_bytes() != file.read_bytes():
            warnings.append(f"{file} differs from {copy}, which is kept")
    return warnings
