"""Merge output folders: copy the records of other folders, and the files of their runs, into one folder."""

import os
import shutil
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.records.atomic_write import replace_file
from benchmarks.records.lock import FolderLock
from benchmarks.records.paths import RUN_FILE_KINDS, initial_weights_file, run_file
from benchmarks.records.store import RecordStore, RunRecord, describe_conflict


@dataclass
class MergeResult:
    """What a merge added.

    Attributes:
        records: The number of added records.
        failed_runs: The number of added failed runs.
        files: The number of added weights and predictions files.
        known: The number of records that the target already contained.
        warnings: Sentences about lines that were ignored, and about runs with different results.
    """

    records: int = 0
    failed_runs: int = 0
    files: int = 0
    known: int = 0
    warnings: list[str] = field(default_factory=list)


def merge(sources: Sequence[Path], target: RecordStore) -> MergeResult:
    """Add the records, weights and predictions of other folders to a folder that this command has locked.

    Records are copied unchanged, ordered by date. Of two records of one run, the first is kept.

    Args:
        sources: The folders to read, which are not changed.
        target: The folder to write to.

    Raises:
        InputError: If another command is writing to a source.
        OSError: If a file cannot be written. Repeating the merge completes it.
    """
    with ExitStack() as locks:
        for folder in sources:
            if os.access(folder, os.W_OK):  # no command can be writing to a read-only folder on this computer
                locks.enter_context(FolderLock(folder))
        return _merge(sources, target)


def _merge(sources: Sequence[Path], target: RecordStore) -> MergeResult:
    target.repair()
    result = MergeResult()
    known, failed_lines = target.lines()
    first = {run_id: (record, target.out) for run_id, (record, _) in known.items()}
    new: list[tuple[RunRecord, bytes]] = []
    new_failed: dict[bytes, None] = {}
    for folder in sources:
        store = RecordStore(folder)
        records, failed = store.lines()
        result.warnings += store.warnings()
        for run_id, (record, line) in records.items():
            kept, kept_in = first.setdefault(run_id, (record, folder))
            if kept is record:
                new.append((record, line))
            else:
                result.known += 1
                result.warnings += describe_conflict(kept, kept_in, record, folder)
            if kept.numbers() == record.numbers():
                is_new = kept is record  # files without a record may be those of a removed run with other results
                result.files += _copy_run_files(record, folder, target.out, is_new)
        new_failed |= dict.fromkeys(line for line in failed if line not in failed_lines)
        result.files += _copy_initial_weights(folder, target.out)
    new.sort(key=lambda pair: pair[0].finished)
    target.append_lines([line for _, line in new], list(new_failed))
    result.records, result.failed_runs = len(new), len(new_failed)
    return result


def _copy_run_files(record: RunRecord, source: Path, target: Path, replace: bool) -> int:
    """Copy the weights and predictions of a run, and return the number of copied files.

    Args:
        record: The record of the run.
        source: The folder to copy from.
        target: The folder to copy to.
        replace: Whether to replace files that the target has already.
    """
    pairs = [(run_file(source, kind, record.name), run_file(target, kind, record.name)) for kind in RUN_FILE_KINDS]
    for file, copy in pairs:
        if replace and copy.exists() and not (file.exists() and file.samefile(copy)):
            copy.unlink()
    return sum(_link_or_copy(file, copy) for file, copy in pairs)


def _copy_initial_weights(source: Path, target: Path) -> int:
    number = 0
    for file in sorted((source / "initial").glob("*.safetensors")):
        name, _, digest = file.stem.rpartition("_")
        number += _link_or_copy(file, initial_weights_file(target, digest, name))
    return number


def _link_or_copy(file: Path, copy: Path) -> bool:
    """Create a hard link to a file, or a copy on another file system. Return whether the file was missing."""
    if copy.exists() or not file.is_file():
        return False
    copy.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(file, copy)
    except OSError:  # another file system, or one without links
        replace_file(copy, lambda path: shutil.copyfile(file, path))
    return True
