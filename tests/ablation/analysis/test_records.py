from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from safetensors.numpy import save_file

from ablation.analysis.records import RecordedPlan, RecordQuery, collect, compares_depths, find, unfinished
from ablation.plans.plan import parse_plan
from ablation.report.table_output import make_annotated_table, output_stem
from arch.errors import InputError
from benchmarks.definition.benchmark import Split, identify
from benchmarks.definition.registry import BENCHMARKS
from benchmarks.records.folders import RecordFolders
from benchmarks.records.json_lines import seal
from benchmarks.records.paths import run_file
from benchmarks.records.store import FailedRun, RecordStore, RunRecord
from benchmarks.records.weights_file import digest_of

DIGITS = BENCHMARKS["digits"]
DEFINITION = DIGITS.definition("images", "cpu")
Make = Callable[..., RunRecord]
MakeRecorded = Callable[..., RecordedPlan]
RecordPlan = Callable[[str], RecordStore]


@pytest.fixture
def record_plan(tmp_path: Path, make_record: Make) -> RecordPlan:
    """Return a function that writes one record for each row of a plan."""

    def record(plan: str) -> RecordStore:
        store = RecordStore(tmp_path / "out")
        store.create()
        for row in parse_plan(plan, DIGITS).rows:
            fields = {"plan": plan, "definition": DEFINITION, "benchmark_id": identify(DEFINITION)}
            store.append(RunRecord(**{**vars(make_record(key=row.key, **fields)), "spec": row.spec}))
        return store

    return record


def test_curves_are_not_read_by_default(record_plan: RecordPlan) -> None:
    store = record_plan("compare:resnet8,resnet8@epochs=2")
    assert [record.curve for record in find(store, RecordQuery()).records] == [[], []]
    assert all(record.curve for record in find(store, RecordQuery(), curves=True).records)


@pytest.mark.parametrize("plan", ["datasize(1/2,1):resnet8", "compare:resnet8,resnet8@data=1/2"])
def test_curves_of_a_datasize_study_are_read(record_plan: RecordPlan, plan: str) -> None:
    recorded = find(record_plan(plan), RecordQuery())
    assert (str(recorded.plan), len(recorded.records)) == (plan, 2)
    assert all(record.curve for record in recorded.records)


def test_plan_with_a_weights_file_finds_its_records(record_plan: RecordPlan, tmp_path: Path) -> None:
    file = tmp_path / "w.safetensors"
    save_file({"weight": np.zeros(3, np.float32)}, file)
    plan = f"compare:resnet8,resnet8@init={digest_of(file)}"
    store = record_plan(plan)
    assert str(find(store, RecordQuery(f"compare:resnet8,resnet8@init={file}")).plan) == plan
    file.unlink()
    assert str(find(store, RecordQuery()).plan) == plan


def test_plan_without_records_is_refused_and_recorded_specs_are_named(record_plan: RecordPlan) -> None:
    store = record_plan("compare:resnet8,resnet8@data=1/2")
    with pytest.raises(InputError, match="resnet20@data=1/4 under digits") as error:
        find(store, RecordQuery("resnet20@data=1/4"))
    assert "resnet8, resnet8@data=1/2" in str(error.value)


def test_first_seeds_of_records_and_failed_runs(make_record: Make, make_recorded: MakeRecorded) -> None:
    records = [make_record(seed=seed) for seed in (2, 1, 0)]
    failed_runs = [FailedRun("resnet8", records[0].key, seed, "0123456789ab", "p", "", "", "") for seed in (1, 5)]
    recorded = make_recorded("baseline", records, failed_runs=failed_runs)
    selected = recorded.first_seeds(2)
    assert [run.seed for run in selected.runs(selected.rows[0])] == [0, 1]
    assert list(selected.accuracies(selected.rows[0])) == [0, 1]
    assert ([run.seed for run in selected.failed_runs], selected.seeds) == ([1], 2)
    assert [run.seed for run in recorded.first_seeds(None).runs(recorded.rows[0])] == [0, 1, 2]


def test_failed_runs_count_until_they_succeed(make_record: Make, make_recorded: MakeRecorded) -> None:
    rows = make_recorded("baseline+se+cbam").rows
    failed_runs = [
        FailedRun(rows[row].spec, rows[row].key, seed, "0123456789ab", "p", "", "", "")
        for row, seed in ((0, 0), (0, 1), (1, 0))
    ]
    assert unfinished(rows, [make_record()], failed_runs) == failed_runs[1:]
    assert unfinished(rows[:1], [], failed_runs) == failed_runs[:2]
    assert unfinished(rows, [make_record(benchmark_id="another")], failed_runs) == failed_runs


@pytest.mark.parametrize(
    ("plan", "expected"),
    [
        ("baseline+se+cbam", False),
        ("baseline+width=2", False),
        ("baseline+depth=2", True),
        ("compare:resnet8,resnet20", True),
        ("compare:timm/resnet18,timm/resnet34", True),
        ("compare:timm/resnet18,timm/resnet18@epochs=2", False),
        ("distill:resnet20>resnet8", False),
        ("compare:resnet20", False),
    ],
)
def test_plans_that_compare_depths(plan: str, expected: bool) -> None:
    assert compares_depths(parse_plan(plan, DIGITS).rows) is expected


# selecting records


@pytest.fixture
def two_benchmarks(tmp_path: Path, make_record: Make) -> RecordStore:
    """Return records of `mine`, which no built-in benchmark defines, followed by one of `digits`."""
    store = RecordStore(tmp_path / "out")
    store.create()
    mine = DIGITS.definition("other images", "cpu")
    for name, definition in (("mine", mine), ("digits", DEFINITION)):
        store.append(make_record(benchmark=name, definition=definition, benchmark_id=identify(definition)))
    return store


def test_benchmark_of_a_file_is_selected_by_its_name_or_id(two_benchmarks: RecordStore) -> None:
    mine = two_benchmarks.records()[0]
    queries = [
        RecordQuery(benchmark="mine"),
        RecordQuery(benchmark_id=mine.benchmark_id),
        RecordQuery(benchmark_id=mine.benchmark_id[:6]),
        RecordQuery("baseline+se", "mine", mine.benchmark_id[:8]),
    ]
    for query in queries:
        recorded = find(two_benchmarks, query)
        assert (recorded.benchmark.name, recorded.benchmark_id) == ("mine", mine.benchmark_id)
    assert find(two_benchmarks, RecordQuery()).benchmark.name == "digits"


def test_unknown_benchmark_is_refused_with_the_recorded_names(two_benchmarks: RecordStore) -> None:
    with pytest.raises(InputError, match=r"'mina'.* did you mean 'mine'.* digits, mine"):
        find(two_benchmarks, RecordQuery(benchmark="mina"))
    with pytest.raises(InputError, match=r"no matching records of cifar10; .*mine"):
        find(two_benchmarks, RecordQuery(benchmark="cifar10"))


def test_record_of_another_version_blocks_only_its_benchmark(two_benchmarks: RecordStore, make_record: Make) -> None:
    two_benchmarks.append(make_record(benchmark="old", definition={"recipe": {"gone": 1}}, benchmark_id="old"))
    assert find(two_benchmarks, RecordQuery(benchmark="mine")).benchmark.name == "mine"
    with pytest.raises(InputError, match="does not define its benchmark old"):
        find(two_benchmarks, RecordQuery())


# plans and specs that cannot be read


@pytest.fixture
def with_gone_part(record_plan: RecordPlan, make_record: Make) -> RecordStore:
    store, fields = record_plan("baseline+se"), {"plan": "baseline+simam"}
    for spec, key in (("resnet8", make_record().key), ("resnet8+simam", "gone")):
        record = make_record(seed=1, **fields, definition=DEFINITION, benchmark_id=identify(DEFINITION))
        store.append(RunRecord(**{**vars(record), "spec": spec, "key": key}))
    return store


@pytest.mark.parametrize("plan", [None, "baseline+simam"])
def test_rows_of_a_plan_with_an_unknown_part_are_shown_with_a_note(with_gone_part: RecordStore, plan: str) -> None:
    recorded = find(with_gone_part, RecordQuery(plan))
    assert [row.label for row in recorded.rows] == ["resnet8", "resnet8+simam"]
    assert [len(recorded.runs(row)) for row in recorded.rows] == [2, 1]
    [note] = recorded.notes
    assert "baseline+simam" in note
    assert "simam" in note
    table = make_annotated_table(recorded)
    assert note in table.notes
    assert list(table.frame["n"]) == [2, 1]


def test_unknown_part_does_not_affect_other_plans(with_gone_part: RecordStore) -> None:
    recorded = find(with_gone_part, RecordQuery("baseline+se"))
    assert (recorded.notes, [len(recorded.runs(row)) for row in recorded.rows]) == ((), [2, 1])
    with pytest.raises(InputError, match="simam2"):
        find(with_gone_part, RecordQuery("baseline+simam2"))


# folders without records


def test_empty_folder_says_what_it_contains(tmp_path: Path, make_record: Make) -> None:
    store = RecordStore(tmp_path)
    with pytest.raises(InputError, match=r"no records in .*; create some with `ablate run`"):
        find(store, RecordQuery())
    store.create()
    store.append(make_record())
    (line,) = store.path.read_bytes().splitlines()
    store.path.write_bytes(b"damaged\n" + line.replace(b'"format": 2', b'"format": 1') + b"\n")
    (tmp_path / "checkpoints" / "k-id-seed0").mkdir(parents=True)
    store.append(FailedRun("resnet8+se", "k", 4, "id", "p", "loss is nan", "", ""))
    with pytest.raises(InputError) as error:
        find(store, RecordQuery())
    message = str(error.value)
    for fact in ("damaged lines", ": 1", "1 failed", "resnet8+se seed 4", "loss is nan", "1 unfinished"):
        assert fact in message


def test_other_formats_and_validation_runs_are_told_apart(tmp_path: Path, make_record: Make) -> None:
    store = RecordStore(tmp_path)
    store.create()
    store.path.write_bytes(seal({**asdict(make_record()), "format": 1}) + b"\n")
    store.append(make_record(definition={"split": "val"}))
    with pytest.raises(InputError, match=r"1 record .* format 1; .*1 evaluated on the val split"):
        find(store, RecordQuery())


def test_files_of_runs_are_found_in_all_folders(record_plan: RecordPlan, tmp_path: Path) -> None:
    store = record_plan("baseline")
    [record] = store.records()
    recorded = find(RecordFolders([store.out, tmp_path / "b"]), RecordQuery())
    assert recorded.out == store.out
    assert recorded.run_file("weights", record).parent.parent == store.out / "weights"
    file = run_file(tmp_path / "b", "weights", record.name)
    file.parent.mkdir(parents=True)
    file.touch()
    assert recorded.run_file("weights", record) == file


def test_new_label_is_stored_and_used(record_plan: RecordPlan) -> None:
    store = record_plan("baseline+se")
    for query in (RecordQuery(new_labels=("+se=SENet",)), RecordQuery()):
        assert find(store, query).rows[1].label == "SENet"


def test_a_table_without_records_does_not_replace_that_of_the_other_split(tmp_path: Path) -> None:
    store, plan = RecordStore(tmp_path), parse_plan("baseline", DIGITS)
    store.create()
    stems = [output_stem(collect(store, plan, DIGITS, "0123456789ab", split)).name for split in get_args(Split)]
    assert stems == ["digits_baseline", "digits_val_baseline"]
