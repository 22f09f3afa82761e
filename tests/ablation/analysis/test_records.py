from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from ablation.analysis.records import RecordedPlan, RecordQuery, compares_depths, find, unfinished
from ablation.plans.plan import parse_plan
from arch.errors import InputError
from benchmarks.definition.benchmark import identify
from benchmarks.definition.registry import BENCHMARKS
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
