from collections.abc import Callable
from dataclasses import replace

import pytest

from ablation.analysis.records import RecordedPlan
from ablation.analysis.study_progress import StudyProgress, recorded_ids, study_progress
from benchmarks.definition.benchmark import identify
from benchmarks.definition.registry import BENCHMARKS
from benchmarks.records.store import RunRecord

Make = Callable[..., RunRecord]
MakeRecorded = Callable[..., RecordedPlan]
DIGITS = BENCHMARKS["digits"]


def test_recorded_and_missing_runs(make_record: Make, make_recorded: MakeRecorded) -> None:
    records = [
        make_record("baseline+se", 0, hours=0.5),
        make_record(seed=1, hours=2.0, runs_per_device=2),
        make_record(seed=0, hours=3.0),
        make_record(seed=7, hours=100.0),
        make_record("baseline+eca", 0, hours=100.0),
    ]
    progress = study_progress(make_recorded("baseline+se", records), 3)
    assert [(run.spec, run.seed) for run in progress.recorded] == [("resnet8", 0), ("resnet8", 1), ("resnet8+se", 0)]
    assert [(row.spec, seed) for row, seed in progress.missing] == [
        ("resnet8+se", 1),
        ("resnet8", 2),
        ("resnet8+se", 2),
    ]
    assert progress.hours_recorded == pytest.approx(5.5)
    assert dict(progress.hours_per_run) == {records[0].key: pytest.approx(0.5), records[1].key: pytest.approx(2.5)}
    alone = dict(progress.hours_per_missing_run)  # two runs shared a device for two hours, so each took one
    assert alone == {records[0].key: pytest.approx(0.5), records[1].key: pytest.approx(2.0)}
    assert progress.unmeasured_rows == []
    assert progress.describe_missing() == "+se (seeds 1-2); baseline (resnet8) (seed 2)"
    text = progress.describe()
    assert all(word in text for word in ("3 runs recorded", "5.5 h", "3 missing", "3.0 h left"))


def test_teachers_that_are_not_rows_are_runs(make_record: Make, make_recorded: MakeRecorded) -> None:
    recorded = make_recorded("compare:resnet8,resnet8@teacher=(resnet20)")
    progress = study_progress(recorded, 1)
    assert [row.spec for row, _ in progress.missing] == ["resnet8", "resnet20", "resnet8@teacher=(resnet20)"]
    assert [row.spec for row in progress.unmeasured_rows] == ["resnet8", "resnet20", "resnet8@teacher=(resnet20)"]


def test_hours_that_are_unknown_are_not_counted_as_zero(make_recorded: MakeRecorded) -> None:
    progress = study_progress(make_recorded("baseline+se"), 1)
    assert "hours of 2 runs are not predicted" in progress.describe()
    [(first, _), _] = progress.missing
    text = replace(progress, predicted_hours={first.key: 2.0}).describe()
    assert "2.0 h left" in text
    assert "besides 1 run without predicted hours" in text
    assert "none missing" in StudyProgress([], []).describe()


def test_records_are_found_under_each_id_of_the_benchmark(make_record: Make, make_recorded: MakeRecorded) -> None:
    rows = make_recorded("baseline+se").rows
    changed = replace(DIGITS, recipe=replace(DIGITS.recipe, epochs=7))

    def record(spec: str, benchmark: object, fingerprint: str, device: str) -> RunRecord:
        definition = (changed if benchmark == "changed" else DIGITS).definition(fingerprint, device)
        return make_record(spec, definition=definition, benchmark_id=identify(definition))

    cpu = record("baseline", "digits", "a", "cpu")
    cuda = record("baseline+se", "digits", "a", "cuda")
    others = record("baseline", "digits", "b", "cpu")
    ignored = [
        record("baseline", "changed", "a", "cpu"),
        record("baseline+eca", "digits", "c", "cpu"),
        make_record(definition={"data": 1}),
    ]
    ids = recorded_ids([cpu, *ignored, cuda, cpu, others], rows, DIGITS)
    assert ids == [cpu.benchmark_id, cuda.benchmark_id, others.benchmark_id]
