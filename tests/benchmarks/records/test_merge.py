from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from arch.errors import InputError
from benchmarks.records.lock import FolderLock
from benchmarks.records.merge import merge
from benchmarks.records.paths import initial_weights_file, run_file
from benchmarks.records.store import FailedRun, RecordStore, RunRecord

Make = Callable[..., RunRecord]
FAILED_RUN = FailedRun("resnet8", "k", 0, "id", "p", "nan", "", "2026-01-01")


@pytest.fixture
def stores(tmp_path: Path) -> list[RecordStore]:
    stores = [RecordStore(tmp_path / name) for name in "abc"]
    for store in stores:
        store.create()
    return stores


def add(store: RecordStore, record: RunRecord, content: str = "weights") -> RunRecord:
    store.append(record)
    file = run_file(store.out, "weights", record.name)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content)
    return record


def test_records_and_files_of_all_folders_are_combined(stores: list[RecordStore], make_record: Make) -> None:
    a, b, target = stores
    for store, seeds in ((a, (2, 0)), (b, (1, 0))):
        for seed in seeds:
            add(store, make_record(seed))
        store.append(FAILED_RUN)
    initial = initial_weights_file(a.out, "f" * 16, "mine")
    initial.parent.mkdir()
    initial.write_text("initial")
    lines = a.path.read_bytes().splitlines() + b.path.read_bytes().splitlines()
    result = merge([a.out, b.out], target)
    assert (result.records, result.known, result.failed_runs, result.files, result.warnings) == (3, 1, 1, 4, [])
    assert [record.seed for record in target.records()] == [0, 1, 2]
    assert set(target.path.read_bytes().splitlines()) <= set(lines)  # unchanged
    assert run_file(target.out, "weights", make_record(1).name).read_text() == "weights"
    assert initial_weights_file(target.out, "f" * 16).name == initial.name
    again = merge([a.out, b.out], target)
    assert (again.records, again.failed_runs, again.files, again.known) == (0, 0, 0, 4)


def test_first_record_is_kept_and_different_results_are_reported(stores: list[RecordStore], make_record: Make) -> None:
    a, b, target = stores
    add(a, make_record(0, 80.0), "of a")
    add(b, make_record(0, 81.5), "of b")
    result = merge([a.out, b.out], target)
    assert [record.top1 for record in target.records()] == [80.0]
    assert run_file(target.out, "weights", make_record().name).read_text() == "of a"
    [warning] = result.warnings
    assert "80.00" in warning
    assert "81.50" in warning


def test_missing_weights_of_a_known_record_are_added(stores: list[RecordStore], make_record: Make) -> None:
    a, _, target = stores
    add(a, make_record())
    target.append(replace(make_record(), hours=5.0))
    assert merge([a.out], target).files == 1
    assert target.records()[0].hours == 5.0


def test_files_without_a_record_are_replaced(stores: list[RecordStore], make_record: Make) -> None:
    a, _, target = stores
    record = add(a, make_record(0))
    left_over = run_file(target.out, "weights", record.name)
    left_over.parent.mkdir(parents=True)
    left_over.write_text("of a removed run")
    assert merge([a.out], target).files == 1
    assert left_over.read_text() == "weights"


def test_files_are_copied_if_links_are_impossible(
    stores: list[RecordStore], make_record: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr("os.link", refuse)
    add(stores[0], make_record())
    merge([stores[0].out], stores[2])
    assert run_file(stores[2].out, "weights", make_record().name).read_text() == "weights"


def test_source_that_a_command_writes_to_is_refused(stores: list[RecordStore], make_record: Make) -> None:
    add(stores[0], make_record())
    with FolderLock(stores[0].out), pytest.raises(InputError, match=str(stores[0].out)):
        merge([stores[0].out], stores[2])
    assert stores[2].records() == []
