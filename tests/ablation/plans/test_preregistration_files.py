import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from ablation.plans.plan import parse_plan
from ablation.plans.preregistration import DeclaredTest, Preregistration, declare_benchmark, preregister
from ablation.plans.preregistration_files import (
    FOLDER,
    merge_preregistrations,
    preregistration_file,
    read_preregistrations,
    store_preregistration,
)
from arch.errors import InputError
from benchmarks.definition.registry import BENCHMARKS
from benchmarks.records.store import RecordStore, RunRecord

DIGITS = BENCHMARKS["digits"]
NOW, LATER = "2026-06-01T12:00:00+00:00", "2026-06-02T12:00:00+00:00"


@pytest.fixture
def declared() -> Preregistration:
    benchmark = declare_benchmark(DIGITS, "images", "cpu")
    return preregister(parse_plan("baseline+se", DIGITS), 6, DeclaredTest("unpaired", None, 0.05), benchmark, NOW)


@pytest.fixture
def store(tmp_path: Path) -> RecordStore:
    store = RecordStore(tmp_path / "out")
    store.create()
    return store


def test_the_same_is_declared_once(store: RecordStore, declared: Preregistration) -> None:
    assert store_preregistration(store, declared) is declared
    file = preregistration_file(store.out, declared)
    content = file.read_bytes()
    assert json.loads(content)["sha256"].startswith(file.stem)
    assert store_preregistration(store, replace(declared, declared=LATER)) == declared
    assert file.read_bytes() == content
    other = replace(declared, declared=LATER, seeds=8)
    assert store_preregistration(store, other) == other
    assert read_preregistrations([store.out, store.out]) == ([other, declared], [])


def test_concurrent_commands_declare_the_same_once(store: RecordStore, declared: Preregistration) -> None:
    times = [f"2026-06-01T12:00:0{second}+00:00" for second in range(8)]
    with ThreadPoolExecutor(8) as pool:
        stored = set(
            pool.map(lambda time: store_preregistration(store, replace(declared, declared=time)).sha256, times)
        )
    assert len(stored) == 1
    assert len(list((store.out / FOLDER).glob("*.json"))) == 1


@pytest.mark.parametrize("kind", ["record", "removed record", "checkpoint"])
def test_runs_that_have_started_cannot_be_declared(
    kind: str, store: RecordStore, declared: Preregistration, make_record: Callable[..., RunRecord]
) -> None:
    record = make_record("baseline+se", 5, benchmark_id=declared.benchmark.id)
    if kind == "checkpoint":
        (store.out / "checkpoints" / record.run_id).mkdir(parents=True)
    else:
        store.append(record)
    if kind == "removed record":
        assert store.remove({record.run_id}) == 1
    with pytest.raises(InputError, match=r"1 of 12 .*resnet8\+se seed 5") as info:
        store_preregistration(store, declared)
    assert "\n" not in str(info.value)
    assert list((store.out / FOLDER).glob("*.json")) == []


def test_runs_of_other_benchmarks_seeds_and_rows_can_exist(
    store: RecordStore, declared: Preregistration, make_record: Callable[..., RunRecord]
) -> None:
    store.append(make_record("baseline+se", 0))
    store.append(make_record("baseline+se", 6, benchmark_id=declared.benchmark.id))
    store.append(make_record("baseline+cbam", 0, benchmark_id=declared.benchmark.id))
    assert store_preregistration(store, declared) is declared


def test_the_same_is_found_after_the_runs(
    store: RecordStore, declared: Preregistration, make_record: Callable[..., RunRecord]
) -> None:
    store_preregistration(store, declared)
    store.append(make_record("baseline+se", 0, benchmark_id=declared.benchmark.id))
    assert store_preregistration(store, replace(declared, declared=LATER)) == declared


def test_edited_renamed_and_damaged_files_are_reported(store: RecordStore, declared: Preregistration) -> None:
    store_preregistration(store, declared)
    folder, file = store.out / FOLDER, preregistration_file(store.out, declared)
    (folder / "renamed.json").write_bytes(file.read_bytes())
    file.write_text(file.read_text().replace('"seeds": 6', '"seeds": 5'))
    (folder / "damaged.json").write_text("{")
    (folder / "deep.json").write_text("[" * 100_000)
    (folder / "folder.json").mkdir()
    stored, problems = read_preregistrations([store.out])
    assert stored == []
    assert len(problems) == 5
    for name, word in [("damaged", "damaged"), ("deep", "damaged"), ("folder", "damaged"), ("renamed", "edited")]:
        [problem] = [problem for problem in problems if f"{name}.json" in problem]
        assert word in problem
    [problem] = [problem for problem in problems if file.name in problem]
    assert "edited" in problem


def test_an_edited_file_is_not_overwritten(store: RecordStore, declared: Preregistration) -> None:
    file = preregistration_file(store.out, declared)
    file.parent.mkdir()
    file.write_text("{}")
    with pytest.raises(InputError, match=file.name):
        store_preregistration(store, declared)
    assert file.read_text() == "{}"


def test_a_folder_that_cannot_be_read_or_written(store: RecordStore, declared: Preregistration) -> None:
    (store.out / FOLDER).write_text("a file")
    stored, [problem] = read_preregistrations([store.out])
    assert stored == []
    assert FOLDER in problem
    with pytest.raises(InputError, match=FOLDER):
        store_preregistration(store, declared)


def test_merging_copies_the_files_as_they_are(store: RecordStore, declared: Preregistration, tmp_path: Path) -> None:
    store_preregistration(store, declared)
    file, target = preregistration_file(store.out, declared), tmp_path / "target"
    target.mkdir()
    assert merge_preregistrations([store.out, tmp_path / "none"], target) == []
    copy = preregistration_file(target, declared)
    assert copy.read_bytes() == file.read_bytes()
    assert merge_preregistrations([store.out], target) == []
    file.write_text("edited")
    [warning] = merge_preregistrations([store.out], target)
    assert file.name in warning
    assert read_preregistrations([target]) == ([declared], [])
