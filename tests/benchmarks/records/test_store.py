import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from arch.errors import InputError
from benchmarks.records.json_lines import seal
from benchmarks.records.store import FailedRun, RecordStore, RunRecord, make_run_id

RECORD = RunRecord(
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

FAILED_RUN = FailedRun(
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
    return [record.seed for record in store.records()]


def write(store: RecordStore, content: bytes) -> None:
    with store.path.open("ab") as file:
        file.write(content)


def test_records_are_read_as_they_were_appended(store: RecordStore) -> None:
    store.append(RECORD)
    store.append(replace(RECORD, seed=1))
    assert RecordStore(store.out).records() == [RECORD, replace(RECORD, seed=1)]
    assert len(store.path.read_text().splitlines()) == 2


def test_missing_folder_has_no_records(tmp_path: Path) -> None:
    store = RecordStore(tmp_path / "missing")
    assert store.records() == []
    assert not store.out.exists()


def test_create_keeps_existing_records(store: RecordStore) -> None:
    store.append(RECORD)
    store.create()
    assert store.records() == [RECORD]


def test_run_id_depends_on_key_seed_and_benchmark() -> None:
    assert RECORD.run_id == make_run_id("0123", 0, "abcd")
    others = [replace(RECORD, key="4567"), replace(RECORD, seed=1), replace(RECORD, benchmark_id="ef01")]
    assert len({record.run_id for record in [RECORD, *others]}) == 4


def test_numbers_do_not_depend_on_the_names_of_the_classes() -> None:
    named, renamed, other = (
        replace(RECORD, per_class=per_class)
        for per_class in ({"n01": 50.0, "n02": 75.0}, {"goldfish": 50.0, "crane": 75.0}, {"n01": 75.0, "n02": 50.0})
    )
    assert named.numbers() == renamed.numbers()
    assert named.numbers() != other.numbers()


def test_first_record_of_a_run_counts(store: RecordStore) -> None:
    for top1 in (50.0, 60.0):
        store.append(replace(RECORD, top1=top1))
    store.append(replace(RECORD, seed=1))
    assert [record.top1 for record in store.records()] == [50.0, 81.25]
    assert len(store.warnings()) == 1


def test_different_results_of_a_run_are_reported(store: RecordStore) -> None:
    for record in (RECORD, replace(RECORD, hours=1.0), replace(RECORD, top1=99.0)):
        store.append(record)
        records = store.records(curves=False)
    assert [record.top1 for record in records] == [81.25]
    [warning] = store.warnings()
    assert "resnet8+se seed 0" in warning
    assert "81.25" in warning
    assert "99.00" in warning
    assert len(store.warnings()) == 1


def test_incomplete_last_line_is_repaired(store: RecordStore) -> None:
    store.append(RECORD)
    write(store, json.dumps(asdict(replace(RECORD, seed=1))).encode()[:100])
    assert seeds(store) == [0]
    assert store.warnings() == [f"damaged lines in {store.path} are ignored: 2"]
    [message] = store.repair()
    assert f"the last line of {store.path}" in message
    assert "records.torn" in message
    assert store.repair() == []
    store.append(replace(RECORD, seed=2))
    assert seeds(store) == [0, 2]
    assert store.warnings() == []
    assert (store.out / "records.torn").read_bytes().startswith(b'{"format": 2, "spec": "resnet8+se"')


def test_incomplete_lines_of_both_files_are_repaired(store: RecordStore) -> None:
    store.append(RECORD)
    store.append(FAILED_RUN)
    for name in ("records.jsonl", "failed_runs.jsonl"):
        path = store.out / name
        path.write_bytes(path.read_bytes()[:-20])
    assert ["records.jsonl" in line or "failed_runs.jsonl" in line for line in store.repair()] == [True, True]
    assert (store.records(), store.failed_runs()) == ([], [])
    assert {file.name for file in store.out.glob("*.torn")} == {"records.torn", "failed_runs.torn"}


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
        json.dumps(asdict(RECORD)).encode(),  # missing sha256
        json.dumps({**asdict(RECORD), "sha256": "0" * 64}).encode(),
    ],
)
def test_line_that_is_not_a_record_is_reported_by_number(store: RecordStore, line: bytes) -> None:
    store.append(RECORD)
    write(store, line + b"\n")
    store.append(replace(RECORD, seed=1))
    for _ in range(2):  # reading twice does not count it twice
        assert seeds(store) == [0, 1]
        assert store.warnings() == [f"damaged lines in {store.path} are ignored: 2"]


def test_empty_line_is_not_reported(store: RecordStore) -> None:
    store.append(RECORD)
    write(store, b"\n")
    store.append(replace(RECORD, seed=1))
    assert seeds(store) == [0, 1]
    assert store.warnings() == []


@pytest.mark.parametrize(
    "invalid",
    [replace(RECORD, top1=float("nan")), replace(RECORD, curve=[{"loss": float("inf")}])],
)
def test_nan_and_infinity_are_rejected(store: RecordStore, invalid: RunRecord) -> None:
    store.append(RECORD)
    with pytest.raises(ValueError, match="JSON compliant"):
        store.append(invalid)
    assert store.records() == [RECORD]
    assert store.warnings() == []


def test_folder_that_cannot_be_created_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"cannot write to --out .*file/runs: Not a directory"):
        RecordStore(tmp_path / "file" / "runs").create()


def test_file_in_place_of_the_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"cannot write to --out .*file: "):
        RecordStore(tmp_path / "file").create()


def test_folder_is_locked_until_its_process_is_killed(store: RecordStore, python: Callable[..., Any]) -> None:
    holder = python(HOLD, store.out)
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(InputError, match=rf"another run \(pid {holder.pid} on .*\) is writing to"), store.lock():
        pass
    holder.kill()
    holder.wait()
    with store.lock():
        store.append(RECORD)
    assert store.records() == [RECORD]


def test_error_releases_the_lock(store: RecordStore) -> None:
    with pytest.raises(ZeroDivisionError), store.lock():
        raise ZeroDivisionError
    with store.lock():
        pass


def test_replaced_command_cannot_append(store: RecordStore) -> None:
    store.append(RECORD)
    before = store.path.read_bytes()
    holder = store.out / ".holder.json"
    with store.lock():
        store.append(replace(RECORD, seed=1))
        holder.write_text(json.dumps({**json.loads(holder.read_text()), "host": "elsewhere"}))
        for record in (replace(RECORD, seed=2), FAILED_RUN):
            with pytest.raises(InputError, match=r"another command has taken over .* not recorded"):
                store.append(record)
    assert seeds(store) == [0, 1]
    assert store.path.read_bytes().startswith(before)
    assert not (store.out / "failed_runs.jsonl").exists()
    assert "elsewhere" in holder.read_text()


def test_last_failure_of_a_run_counts(store: RecordStore) -> None:
    assert store.failed_runs() == []
    latest, other = replace(FAILED_RUN, reason="its process was killed"), replace(FAILED_RUN, seed=1)
    for failed_run in (FAILED_RUN, other, latest):
        store.append(failed_run)
    assert store.failed_runs() == [latest, other]
    assert store.records() == []
    assert store.num_lines() == 0


def test_failed_run_has_the_run_id_of_its_record(store: RecordStore) -> None:
    store.append(FAILED_RUN)
    store.append(RECORD)
    assert [failed.run_id for failed in store.failed_runs()] == [record.run_id for record in store.records()]


def test_damaged_failed_run_is_reported_in_its_file(store: RecordStore) -> None:
    store.append(RECORD)
    store.append(FAILED_RUN)
    path = store.out / "failed_runs.jsonl"
    path.write_bytes(path.read_bytes().replace(b"epoch 3", b"epoch 4"))
    assert (store.records(), store.failed_runs()) == ([RECORD], [])
    assert store.warnings() == [f"damaged lines in {path} are ignored: 1"]


def test_full_disk_is_reported_and_no_record_is_lost(small_disk: Path, fill: Callable[[], Path]) -> None:
    store = RecordStore(small_disk)
    store.create()
    long = replace(RECORD, commit="c" * 5000)
    with store.lock():
        store.append(long)
        before, ballast = store.path.read_bytes(), fill()
        for record, name in ((replace(long, seed=1), "records"), (FAILED_RUN, "failed_runs")):
            with pytest.raises(OSError, match=f"cannot write {small_disk}/{name}.jsonl: No space left on device"):
                store.append(record)
        assert store.path.read_bytes() == before
        assert (store.records(), store.failed_runs(), store.warnings()) == ([long], [], [])
        ballast.unlink()
        store.append(replace(long, seed=1))
        store.append(FAILED_RUN)
    assert (seeds(store), store.failed_runs()) == ([0, 1], [FAILED_RUN])


def test_locking_a_folder_needs_free_disk_space(small_disk: Path, fill: Callable[[], Path]) -> None:
    store, ballast = RecordStore(small_disk), fill()
    with pytest.raises(InputError, match=rf"cannot write to --out {small_disk}: No space left"), store.lock():
        pass
    assert not (small_disk / ".holder.json").exists()
    ballast.unlink()
    with store.lock():
        store.append(RECORD)
    assert seeds(store) == [0]


def test_num_lines_counts_all_lines(store: RecordStore, tmp_path: Path) -> None:
    assert RecordStore(tmp_path / "missing").num_lines() == 0
    store.append(RECORD)
    assert store.num_lines() == 1
    write(store, b"no record\n\n")
    assert store.num_lines() == store.path.read_bytes().count(b"\n") >= 2


def test_other_record_formats_are_reported_and_ignored(store: RecordStore) -> None:
    old_record = {"execution": "eager", "side_by_side": 1, "spec": "resnet8"}
    store.path.write_bytes(2 * (seal(old_record) + b"\n"))
    (store.out / "failed_runs.jsonl").write_bytes(seal({"format": 3, "spec": "resnet8"}) + b"\n")
    store.append(RECORD)
    store.append(FAILED_RUN)
    assert (store.records(), store.failed_runs()) == ([RECORD], [FAILED_RUN])
    of_records, of_failed_runs = store.warnings()
    assert f"2 records in {store.path} were written in record format 1; this version reads format 2" in of_records
    assert "failed_runs.jsonl was written in record format 3" in of_failed_runs


def test_readme_is_written_once(store: RecordStore) -> None:
    readme = store.out / "README.md"
    assert "records.jsonl" in readme.read_text()
    readme.write_text("mine")
    store.create()
    assert readme.read_text() == "mine"


def test_removed_runs_are_kept_in_other_files(store: RecordStore) -> None:
    for seed in range(3):
        store.append(replace(RECORD, seed=seed))
        store.append(replace(FAILED_RUN, seed=seed))
    with store.lock():
        assert store.remove({RECORD.run_id, "unknown"}) == 2
    assert seeds(store) == [1, 2]
    assert [run.seed for run in store.failed_runs()] == [1, 2]
    assert [record.run_id for record in store.removed_records()] == [RECORD.run_id]
    assert (store.out / "removed_failed_runs.jsonl").read_text().count("\n") == 1
    store.append(RECORD)
    assert seeds(store) == [1, 2, 0]


def test_record_without_a_budget_is_read(store: RecordStore) -> None:
    content = asdict(RECORD)
    del content["budget"]
    store.path.write_bytes(seal(content) + b"\n")
    assert (store.records(), store.warnings()) == ([RECORD], [])
    assert store.records(curves=False) == [replace(RECORD, curve=[])]


def test_folder_without_records_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--out"):
        RecordStore(tmp_path).require_records()


def test_records_without_energy_and_inference_are_read(store: RecordStore) -> None:
    fields = {name: value for name, value in asdict(RECORD).items() if name not in ("energy", "inference")}
    write(store, seal(fields) + b"\n")
    assert store.records() == [RECORD]
    assert (RECORD.energy, RECORD.inference) == ({}, {})


def test_energy_and_inference_are_read_as_they_were_appended(store: RecordStore) -> None:
    inference = {"single": {"p50": 1.5, "p99": None}, "batch": {"batch_size": 64}, "precision": "fp32"}
    record = replace(RECORD, energy={"joules": 0.5, "source": "RAPL"}, inference=inference)
    store.append(record)
    assert store.records() == [record]
    assert store.records(curves=False) == [replace(record, curve=[], architecture=[])]
