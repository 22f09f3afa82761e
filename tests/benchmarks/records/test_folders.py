from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.records.folders import RecordFolders
from benchmarks.records.store import FailedRun, RecordStore, RunRecord

Make = Callable[..., RunRecord]


@pytest.fixture
def stores(tmp_path: Path) -> tuple[RecordStore, RecordStore]:
    stores = RecordStore(tmp_path / "a"), RecordStore(tmp_path / "b")
    for store in stores:
        store.create()
    return stores


def test_records_of_all_folders_are_sorted_by_date(stores: tuple[RecordStore, RecordStore], make_record: Make) -> None:
    a, b = stores
    for store, seed in ((a, 2), (b, 1), (a, 0), (b, 3)):
        store.append(make_record(seed))
    folders = RecordFolders([a.out, b.out, a.out])
    assert [record.seed for record in folders.records()] == [0, 1, 2, 3]
    assert folders.outs == (a.out, b.out)
    assert folders.warnings() == []


def test_run_in_two_folders_counts_once(stores: tuple[RecordStore, RecordStore], make_record: Make) -> None:
    a, b = stores
    a.append(make_record(0, 80.0))
    b.append(replace(make_record(0, 80.0), hours=9.0, finished="2025"))
    b.append(make_record(1))
    folders = RecordFolders([a.out, b.out])
    assert [(record.seed, record.hours) for record in folders.records(curves=False)] == [(0, 0.02), (1, 0.02)]
    assert folders.warnings() == []


def test_different_results_of_one_run_are_reported(stores: tuple[RecordStore, RecordStore], make_record: Make) -> None:
    a, b = stores
    a.append(make_record(0, 80.0))
    b.append(make_record(0, 81.5))
    folders = RecordFolders([a.out, b.out])
    assert [record.top1 for record in folders.records()] == [80.0]
    [warning] = folders.warnings()
    for fact in ("resnet8 seed 0", "80.00", "81.50", str(a.out), str(b.out)):
        assert fact in warning


def test_folder_without_records_is_reported(stores: tuple[RecordStore, RecordStore], make_record: Make) -> None:
    stores[0].append(make_record())
    folders = RecordFolders([stores[0].out, stores[1].out.with_name("typo")])
    assert len(folders.records()) == 1
    assert "typo" in folders.warnings()[0]


def test_last_failure_of_all_folders_counts(stores: tuple[RecordStore, RecordStore]) -> None:
    for store, day, reason in ((stores[0], 2, "later"), (stores[1], 1, "earlier")):
        store.append(FailedRun("resnet8", "k", 0, "id", "p", reason, "", f"2026-01-0{day}"))
    [run] = RecordFolders([store.out for store in stores]).failed_runs()
    assert run.reason == "later"
