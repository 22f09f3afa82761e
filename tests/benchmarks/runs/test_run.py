import errno
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.definition.benchmark import Split
from benchmarks.execution.executor import WorkerFailed
from benchmarks.records.store import RecordStore, RunRecord
from benchmarks.runs.run import Run, default_time_limit, record_outcome


@pytest.mark.parametrize(("device", "split"), [("cuda:1", "test"), ("cpu", "val")])
def test_the_id_depends_on_the_type_of_device_and_the_split(run: Run, device: str, split: Split) -> None:
    assert replace(run, device=device, split=split).id != run.id


def test_the_id_does_not_depend_on_the_gpu_the_folder_and_the_plan(run: Run) -> None:
    first, second = replace(run, device="cuda:0"), replace(run, device="cuda:1", out=Path("other"), plan="other")
    assert first.id == second.id
    assert first.definition["device"] == "cuda"
    assert json.dumps(first.definition)


def test_the_default_time_limit_grows_with_the_prediction_and_the_runs_per_device() -> None:
    startup = default_time_limit(0.0, 1)
    assert startup > 0
    assert default_time_limit(2.0, 3) - startup == pytest.approx(3 * (default_time_limit(2.0, 1) - startup))
    assert default_time_limit(2.0, 1) > 2 * 3600


@pytest.fixture
def store(run: Run) -> RecordStore:
    store = RecordStore(run.out)
    store.create()
    return store


@pytest.mark.parametrize("num_refusals", [0, 1, 2])
def test_on_a_full_disk_the_checkpoint_makes_room_for_the_record(
    num_refusals: int, run: Run, finished_record: RunRecord, store: RecordStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    run.checkpoint_folder.mkdir(parents=True)
    append: Callable[[RecordStore, RunRecord], None] = RecordStore.append
    had_checkpoint: list[bool] = []

    def refuse_first(self: RecordStore, record: RunRecord) -> None:
        if len(had_checkpoint) < num_refusals:
            had_checkpoint.append(run.checkpoint_folder.exists())
            raise OSError(errno.ENOSPC, "No space left on device")
        append(self, record)

    monkeypatch.setattr(RecordStore, "append", refuse_first)
    if num_refusals == 2:
        with pytest.raises(OSError, match="No space left"):
            record_outcome(store, run, finished_record)
    else:
        record_outcome(store, run, finished_record)
        assert store.records() == [finished_record]
    assert had_checkpoint == [True, False][:num_refusals]
    assert not run.checkpoint_folder.exists()


def test_a_failed_run_is_recorded_and_keeps_its_checkpoint(run: Run, store: RecordStore) -> None:
    run.checkpoint_folder.mkdir(parents=True)
    record_outcome(store, run, WorkerFailed("the loss is nan", "Traceback ..."))
    [failed] = store.failed_runs()
    assert (failed.run_id, failed.reason, failed.details) == (run.id, "the loss is nan", "Traceback ...")
    assert run.checkpoint_folder.exists()
