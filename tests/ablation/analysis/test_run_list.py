import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from ablation.analysis.run_list import format_seeds, list_runs
from benchmarks.records.folders import RecordFolders
from benchmarks.records.store import FailedRun, RecordStore, RunRecord

Make = Callable[..., RunRecord]


def test_runs_are_listed_by_benchmark_plan_and_row(tmp_path: Path, make_record: Make) -> None:
    store = RecordStore(tmp_path)
    store.create()
    for seed, top1 in ((2, 90.0), (0, 92.0)):
        store.append(make_record("baseline", seed, top1, definition={"device": "cpu"}, finished=f"2026-01-0{seed + 1}"))
    store.append(make_record("baseline+se", 0, 95.0))
    store.append(make_record("baseline", 0, benchmark_id="another", definition={"device": "cuda", "split": "val"}))
    first, second = list_runs(RecordFolders([tmp_path])).plans
    assert (first.benchmark, first.device, first.plan) == ("digits", "cpu", "baseline+se")
    assert (second.benchmark_id, second.device, second.split) == ("another", "cuda", "val")
    baseline, se = first.rows
    assert (baseline.spec, baseline.seeds, baseline.top1_mean, baseline.last) == ("resnet8", (0, 2), 91.0, "2026-01-03")
    assert baseline.top1_std == pytest.approx(2**0.5)
    assert (se.spec, se.top1_std, se.note) == ("resnet8+se", None, "")


def test_failed_and_unfinished_runs_have_no_record(tmp_path: Path, make_record: Make) -> None:
    a, b = RecordStore(tmp_path / "a"), RecordStore(tmp_path / "b")
    record = make_record()
    for store in (a, b):
        store.create()
    b.append(record)
    for seed in (0, 1):
        a.append(FailedRun(record.spec, record.key, seed, record.benchmark_id, "p", "nan", "", ""))
    for run_id in (record.run_id, "k-id-seed5"):
        (a.out / "checkpoints" / run_id).mkdir(parents=True)
    run_list = list_runs(RecordFolders([a.out, b.out]))
    assert [run.seed for run in run_list.failed] == [1]
    assert [run.seed for run in run_list.unfinished] == [5]
    content = json.loads(json.dumps(run_list.to_json()))
    assert content["unfinished"][0]["run_id"] == "k-id-seed5"
    assert content["failed"][0]["reason"] == "nan"
    assert content["plans"][0]["rows"][0]["seeds"] == [0]


def test_spec_that_cannot_be_read_has_a_note(tmp_path: Path, make_record: Make) -> None:
    store = RecordStore(tmp_path)
    store.create()
    store.append(replace(make_record(), spec="resnet8+simam", key="gone"))
    [row] = list_runs(RecordFolders([tmp_path])).plans[0].rows
    assert row.spec == "resnet8+simam"
    assert "simam" in row.note


@pytest.mark.parametrize(
    ("seeds", "text"), [([0], "0"), ([3, 1, 2, 7], "1-3, 7"), ([0, 2, 4], "0, 2, 4"), ([0, 1, 1], "0-1"), ([], "")]
)
def test_consecutive_seeds_are_a_range(seeds: list[int], text: str) -> None:
    assert format_seeds(seeds) == text
