from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from ablation.analysis.records import RecordQuery, find
from ablation.plans.plan import read_plan
from arch.errors import InputError
from benchmarks.definition.benchmark import BENCHMARKS, identify
from benchmarks.records.store import RecordStore, RunRecord
from benchmarks.records.weights_file import digest_of

DIGITS = BENCHMARKS["digits"]
DEFINITION = DIGITS.definition("images", "cpu")
Recorded = Callable[[str], RecordStore]


@pytest.fixture
def recorded(tmp_path: Path, make_result: Callable[..., RunRecord]) -> Recorded:
    """A folder with one run of each row of a plan."""

    def record(plan: str) -> RecordStore:
        store = RecordStore(tmp_path / "out")
        store.create()
        for row in read_plan(plan, DIGITS):
            fields = {"plan": plan, "definition": DEFINITION, "benchmark_id": identify(DEFINITION)}
            result = make_result(key=row.key, **fields)
            store.append(RunRecord(**{**vars(result), "spec": row.spec}))
        return store

    return record


def test_of_most_studies_the_curves_are_left_where_they_are(recorded: Recorded) -> None:
    store = recorded("compare:resnet8,resnet8@epochs=2")
    assert [result.curve for result in find(store, RecordQuery()).results] == [[], []]
    assert all(result.curve for result in find(store, RecordQuery(), curves=True).results)


@pytest.mark.parametrize("plan", ["datasize(1/2,1):resnet8", "compare:resnet8,resnet8@data=1/2"])
def test_of_a_study_of_data_size_the_curves_are_read(recorded: Recorded, plan: str) -> None:
    found = find(recorded(plan), RecordQuery())
    assert (found.plan, len(found.results)) == (plan, 2)
    assert all(result.curve for result in found.results)


def test_records_are_found_by_the_file_whose_weights_they_started_from(recorded: Recorded, tmp_path: Path) -> None:
    file = tmp_path / "w.safetensors"
    save_file({"weight": np.zeros(3, np.float32)}, file)
    plan = f"compare:resnet8,resnet8@init={digest_of(file)}"
    store = recorded(plan)
    assert find(store, RecordQuery(f"compare:resnet8,resnet8@init={file}")).plan == plan
    file.unlink()
    assert find(store, RecordQuery()).plan == plan


def test_what_is_recorded_is_named_where_nothing_is_found(recorded: Recorded) -> None:
    store = recorded("compare:resnet8,resnet8@data=1/2")
    with pytest.raises(
        InputError, match="no records of resnet20@data=1/4 under digits: recorded are resnet8, resnet8@"
    ):
        find(store, RecordQuery("resnet20@data=1/4"))
