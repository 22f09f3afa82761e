import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from arch.errors import InputError
from benchmarks.records.store import (
    FailedRun,
    RecordStore,
    RunRecord,
    differing_fields,
    make_run_id,
    records_of_one_benchmark,
)

RESULT = RunRecord(
    spec="resnet8+se",
    key="0123",
    seed=0,
    benchmark="digits",
    benchmark_id="abcd",
    definition={"protocol": 1, "data": {"fingerprint": "f0"}, "recipe": {"lr": 0.1}, "device": "cpu"},
    baseline="resnet8",
    plan="baseline+se",
    params=79_682,
    macs=776_320,
    predicted_hours=0.01,
    hours=0.02,
    images_per_second=1234.5,
    images_seen=128,
    top1=81.25,
    top5=99.0,
    per_class={"null": 80.0, "eins": 82.5},
    curve=[{"epoch": 1, "loss": 0.1 + 0.2}],
    device="cpu (2 threads)",
    versions={"torch": "2.10"},
    commit="",
    finished="2025-01-01T00:00:00+00:00",
)

FAILURE = FailedRun(
    spec="resnet8+se",
    key="0123",
    seed=0,
    benchmark_id="abcd",
    plan="baseline+se",
    reason="the loss is nan after epoch 3",
    details="Traceback ...",
    finished="2025-01-01T00:00:00+00:00",
)

HOLD = """
import sys, time
from pathlib import Path
from benchmarks.records.store import RecordStore

with RecordStore(Path(sys.argv[1])).lock():
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def store(tmp_path: Path) -> RecordStore:
    store = RecordStore(tmp_path / "runs")
    store.create()
    return store


def seeds(store: RecordStore) -> list[int]:
    return [result.seed for result in store.results()]


def write(store: RecordStore, content: bytes) -> None:
    with store.path.open("ab") as file:
        file.write(content)


def test_a_record_comes_back_as_it_was(store: RecordStore) -> None:
    store.append(RESULT)
    store.append(replace(RESULT, seed=1))
    assert RecordStore(store.out).results() == [RESULT, replace(RESULT, seed=1)]
    assert len(store.path.read_text().splitlines()) == 2


def test_a_folder_without_records_has_none(tmp_path: Path) -> None:
    store = RecordStore(tmp_path / "missing")
    assert store.results() == []
    assert not store.out.exists()


def test_create_keeps_what_is_recorded(store: RecordStore) -> None:
    store.append(RESULT)
    store.create()
    assert store.results() == [RESULT]


def test_the_unit_is_variant_benchmark_and_seed() -> None:
    assert RESULT.run_id == make_run_id("0123", 0, "abcd")
    others = [replace(RESULT, key="4567"), replace(RESULT, seed=1), replace(RESULT, benchmark_id="ef01")]
    assert len({result.run_id for result in [RESULT, *others]}) == 4


def test_of_two_records_of_one_unit_the_first_counts(store: RecordStore) -> None:
    for top1 in (50.0, 60.0):
        store.append(replace(RESULT, top1=top1))
    store.append(replace(RESULT, seed=1))
    assert [result.top1 for result in store.results()] == [50.0, 81.25]
    assert store.damaged == []


def test_a_torn_last_line_makes_room_for_the_next_record(store: RecordStore) -> None:
    store.append(RESULT)
    write(store, json.dumps(asdict(replace(RESULT, seed=1))).encode()[:100])
    assert seeds(store) == [0]
    assert store.damaged == [f"{store.path}: 2"]
    [said] = store.repair()
    assert said == f"the last line of {store.path} was cut off in the middle of a write: its run goes on"
    assert store.repair() == []
    store.append(replace(RESULT, seed=2))
    assert seeds(store) == [0, 2]
    assert store.damaged == []
    assert (store.out / "records.torn").read_bytes().startswith(b'{"spec": "resnet8+se"')


def test_torn_lines_of_both_files_are_told_of(store: RecordStore) -> None:
    store.append(RESULT)
    store.append(FAILURE)
    for name in ("records.jsonl", "failures.jsonl"):
        path = store.out / name
        path.write_bytes(path.read_bytes()[:-20])
    assert ["records.jsonl" in line or "failures.jsonl" in line for line in store.repair()] == [True, True]
    assert (store.results(), store.failures()) == ([], [])
    assert {file.name for file in store.out.glob("*.torn")} == {"records.torn", "failures.torn"}


@pytest.mark.parametrize(
    "line",
    [
        b"not JSON",
        b"{}",
        b"[1, 2]",
        b"null",
        b'"text"',
        b"\xff\xfe",
        b"\x00" * 50,
        json.dumps(asdict(RESULT)).encode(),  # without its sha256
        json.dumps({**asdict(RESULT), "sha256": "0" * 64}).encode(),
    ],
)
def test_a_line_that_is_no_record_is_numbered(store: RecordStore, line: bytes) -> None:
    store.append(RESULT)
    write(store, line + b"\n")
    store.append(replace(RESULT, seed=1))
    for _ in range(2):  # each reading counts anew
        assert seeds(store) == [0, 1]
        assert store.damaged == [f"{store.path}: 2"]


def test_an_empty_line_is_no_damage(store: RecordStore) -> None:
    store.append(RESULT)
    write(store, b"\n")
    store.append(replace(RESULT, seed=1))
    assert seeds(store) == [0, 1]
    assert store.damaged == []


@pytest.mark.parametrize(
    "spoilt",
    [replace(RESULT, top1=float("nan")), replace(RESULT, curve=[{"loss": float("inf")}])],
)
def test_a_number_that_is_none_is_not_recorded(store: RecordStore, spoilt: RunRecord) -> None:
    store.append(RESULT)
    with pytest.raises(ValueError, match="JSON compliant"):
        store.append(spoilt)
    assert store.results() == [RESULT]
    assert store.damaged == []


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"cannot write to --out .*file/runs: Not a directory"):
        RecordStore(tmp_path / "file" / "runs").create()


def test_a_file_in_place_of_the_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"cannot write to --out .*file: "):
        RecordStore(tmp_path / "file").create()


def test_another_process_keeps_the_folder_until_it_is_killed(store: RecordStore, python: Callable[..., Any]) -> None:
    holder = python(HOLD, store.out)
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(InputError, match=rf"another run \(pid {holder.pid} on .*\) is writing to"), store.lock():
        pass
    holder.kill()
    holder.wait()
    with store.lock():
        store.append(RESULT)
    assert store.results() == [RESULT]


def test_the_lock_is_free_again_after_an_error(store: RecordStore) -> None:
    with pytest.raises(ZeroDivisionError), store.lock():
        raise ZeroDivisionError
    with store.lock():
        pass


def test_one_that_was_taken_over_records_nothing_more(store: RecordStore) -> None:
    store.append(RESULT)
    before = store.path.read_bytes()
    holder = store.out / ".holder.json"
    with store.lock():
        store.append(replace(RESULT, seed=1))
        mine = holder.read_text()
        holder.write_text(json.dumps({**json.loads(mine), "host": "elsewhere"}))
        for record in (replace(RESULT, seed=2), FAILURE):
            with pytest.raises(InputError, match=r"another run has taken .* over.*: it was not recorded"):
                store.append(record)
    assert seeds(store) == [0, 1]
    assert store.path.read_bytes().startswith(before)
    assert not (store.out / "failures.jsonl").exists()
    assert "elsewhere" in holder.read_text()


def test_the_last_failure_of_each_run_counts(store: RecordStore) -> None:
    assert store.failures() == []
    again, other = replace(FAILURE, reason="its process was killed"), replace(FAILURE, seed=1)
    for failure in (FAILURE, other, again):
        store.append(failure)
    assert store.failures() == [again, other]
    assert store.results() == []
    assert store.lines() == 0


def test_a_run_that_failed_and_the_one_that_made_it_good_are_the_same_unit(store: RecordStore) -> None:
    store.append(FAILURE)
    store.append(RESULT)
    assert [failure.run_id for failure in store.failures()] == [result.run_id for result in store.results()]


def test_a_damaged_failure_is_numbered_in_its_own_file(store: RecordStore) -> None:
    store.append(RESULT)
    store.append(FAILURE)
    path = store.out / "failures.jsonl"
    path.write_bytes(path.read_bytes().replace(b"epoch 3", b"epoch 4"))
    assert (store.results(), store.failures()) == ([RESULT], [])
    assert store.damaged == [f"{path}: 1"]


def test_a_full_disk_is_named_and_nothing_recorded_is_lost(small_disk: Path, fill: Callable[[], Path]) -> None:
    store = RecordStore(small_disk)
    store.create()
    long = replace(RESULT, commit="c" * 5000)
    with store.lock():
        store.append(long)
        before, ballast = store.path.read_bytes(), fill()
        for record, name in ((replace(long, seed=1), "records"), (FAILURE, "failures")):
            with pytest.raises(OSError, match=f"cannot write {small_disk}/{name}.jsonl: No space left on device"):
                store.append(record)
        assert store.path.read_bytes() == before
        assert (store.results(), store.failures(), store.damaged) == ([long], [], [])
        ballast.unlink()
        store.append(replace(long, seed=1))
        store.append(FAILURE)
    assert (seeds(store), store.failures()) == ([0, 1], [FAILURE])


def test_a_folder_on_a_full_disk_cannot_be_held_and_with_room_it_can(
    small_disk: Path, fill: Callable[[], Path]
) -> None:
    store, ballast = RecordStore(small_disk), fill()
    with pytest.raises(InputError, match=rf"cannot write to --out {small_disk}: No space left"), store.lock():
        pass
    assert not (small_disk / ".holder.json").exists()
    ballast.unlink()
    with store.lock():
        store.append(RESULT)
    assert seeds(store) == [0]


def with_lr(lr: float, benchmark_id: str) -> RunRecord:
    return replace(RESULT, definition={**RESULT.definition, "recipe": {"lr": lr}}, benchmark_id=benchmark_id)


def test_results_of_other_benchmarks_are_left_out() -> None:
    others = [replace(RESULT, benchmark="cifar10", benchmark_id="ef01"), replace(RESULT, seed=1)]
    assert records_of_one_benchmark([RESULT, *others], "digits") == [RESULT, replace(RESULT, seed=1)]


def test_several_ids_of_one_name_are_told_apart_by_their_fields() -> None:
    results = [with_lr(0.1, "first"), with_lr(0.2, "second")]
    with pytest.raises(
        InputError, match=r"several ids \(first, second\) that differ in recipe\.lr \(0.1, 0.2\): .*--id"
    ):
        records_of_one_benchmark(results, "digits")


def test_an_id_chooses_among_several() -> None:
    results = [with_lr(0.1, "first"), with_lr(0.2, "second")]
    assert records_of_one_benchmark(results, "digits", "second") == results[1:]


ON_GPU = replace(RESULT, definition={**RESULT.definition, "device": "cuda"}, benchmark_id="gpu")
OF_OTHER_IMAGES = replace(RESULT, definition={**RESULT.definition, "data": {"fingerprint": "f1"}}, benchmark_id="other")


@pytest.mark.parametrize(("device", "expected"), [("cpu", RESULT), ("cuda", ON_GPU), ("cuda:1", ON_GPU)])
def test_a_kind_of_device_chooses_among_several(device: str, expected: RunRecord) -> None:
    assert records_of_one_benchmark([RESULT, ON_GPU], "digits", device=device) == [expected]


def test_images_choose_among_several() -> None:
    assert records_of_one_benchmark([RESULT, OF_OTHER_IMAGES], "digits", fingerprint="f1") == [OF_OTHER_IMAGES]


def test_a_choice_that_leaves_several_is_refused() -> None:
    with pytest.raises(InputError, match=r"several ids \(abcd, other\) that differ in data\.fingerprint"):
        records_of_one_benchmark([RESULT, ON_GPU, OF_OTHER_IMAGES], "digits", device="cpu")


@pytest.mark.parametrize(
    ("name", "benchmark_id", "fingerprint", "device"),
    [
        ("cifar10", None, None, None),
        ("digits", "ef01", None, None),
        ("cifar10", "abcd", None, None),
        ("digits", None, "f2", None),
        ("digits", None, None, "cuda"),
    ],
)
def test_what_is_not_recorded_lists_what_is(
    name: str, benchmark_id: str | None, fingerprint: str | None, device: str | None
) -> None:
    with pytest.raises(InputError, match=rf"no such records of {name}: recorded are digits abcd \(cpu\)$"):
        records_of_one_benchmark([RESULT], name, benchmark_id, fingerprint, device)


@pytest.mark.parametrize(
    ("definitions", "expected"),
    [
        ([{"a": 1}, {"a": 1}], []),
        ([{"a": 1, "b": 1}, {"a": 2, "b": 1}], ["a (1, 2)"]),
        ([{"a": {"b": 1, "c": 2}}, {"a": {"b": 1, "c": 3}}], ["a.c (2, 3)"]),
        ([{"a": 1}, {"a": 1, "b": 2}], ["b (None, 2)"]),
        ([{"a": {"b": 1}}, {"a": 1}], ["a ({'b': 1}, 1)"]),
        ([{"a": 1}, {"a": 1}, {"a": 2}], ["a (1, 1, 2)"]),
        ([{"a": {"b": {"c": 1}}}, {"a": {"b": {"c": 2}}}], ["a.b.c (1, 2)"]),
    ],
)
def test_fields_that_differ_are_named(definitions: list[dict[str, Any]], expected: list[str]) -> None:
    assert differing_fields(definitions) == expected


def test_lines_are_counted_whatever_is_in_them(store: RecordStore, tmp_path: Path) -> None:
    assert RecordStore(tmp_path / "nowhere").lines() == 0
    store.append(RESULT)
    assert store.lines() == 1
    write(store, b"no record\n\n")
    assert store.lines() == store.path.read_bytes().count(b"\n") >= 2
