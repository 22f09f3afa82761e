import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from ablation.cli import main
from benchmarks.definition.benchmark import Benchmark
from benchmarks.records.store import RecordStore, RunRecord

ErrorLine = Callable[..., str]


@pytest.mark.slow
def test_row_is_trained_again_with_the_same_result(trained_copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = RecordStore(trained_copy)
    before = {record.run_id: record for record in store.records()}
    arguments = ["redo", "+se", "--out", str(trained_copy), "--json"]
    assert main([*arguments, "--seed", "1"]) == 0
    content = json.loads(capsys.readouterr().out)
    [run] = content["runs"]
    assert (run["spec"], run["seed"], run["top1"]) == ("resnet8+se", 1, run["top1_before"])
    [removed] = store.removed_records()
    after = {record.run_id: record for record in store.records()}
    assert after.keys() == before.keys()
    assert after[removed.run_id].numbers() == before[removed.run_id].numbers()
    assert after[removed.run_id].finished >= before[removed.run_id].finished
    assert after[removed.run_id].budget == {"max_params": 200_000, "max_hours": 0.5, "device": None}
    assert sum(record != before[run_id] for run_id, record in after.items()) == 1


@pytest.mark.slow
def test_interrupted_command_is_resumed_by_the_same_command(
    trained_copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = RecordStore(trained_copy)
    [interrupted] = [record for record in store.records() if record.spec == "resnet8+se" and record.seed == 0]
    store.remove({interrupted.run_id})
    assert main(["redo", "resnet8+se", "--out", str(trained_copy)]) == 0
    assert len(store.removed_records()) == 1
    assert len(store.records()) == 4
    captured = capsys.readouterr()
    assert "seed 0" in captured.err
    assert captured.out.count("before") == 1


def test_run_that_cannot_be_repeated_keeps_its_record(recorded: Path, error_line: ErrorLine) -> None:
    assert "fingerprint" in error_line("redo", "+se", "--out", str(recorded))  # the fixture's images do not exist
    assert "resnet8+se" in error_line("redo", "+eca", "--out", str(recorded))
    store = RecordStore(recorded)
    store.append(replace(store.records()[0], spec="resnet8+simam", key="gone"))
    assert "simam" in error_line("redo", "resnet8+simam", "--out", str(recorded))
    with store.lock():
        assert "another run" in error_line("redo", "+se", "--out", str(recorded))
    assert len(store.records()) == 13
    assert store.removed_records() == []


@pytest.mark.slow
def test_record_is_kept_if_its_model_is_over_the_budget(
    trained_copy: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def tight(record: RunRecord) -> Benchmark:
        benchmark = recorded_benchmark(record)
        return replace(benchmark, budget=replace(benchmark.budget, max_params=1000))

    from benchmarks.records.selection import recorded_benchmark

    monkeypatch.setattr("benchmarks.records.selection.recorded_benchmark", tight)
    assert main(["redo", "resnet8", "--out", str(trained_copy)]) == 1
    assert "over budget" in capsys.readouterr().err
    store = RecordStore(trained_copy)
    assert (len(store.records()), store.removed_records()) == (4, [])
