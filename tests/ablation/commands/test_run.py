"""Test `ablate run` on real digits."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest

from ablation.cli import main
from benchmarks.records.store import FailedRun, RecordStore

ErrorLine = Callable[..., str]


def records(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "records.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_run_writes_records_table_and_plot_and_does_not_train_again(
    trained: CompletedProcess[str], capsys: pytest.CaptureFixture[str]
) -> None:
    out = Path(trained.args[-1])
    for cell in ("baseline (resnet8)", "+se", " ± "):
        assert cell in trained.stdout
    assert "4 of 4 runs" in trained.stderr
    written = records(out)
    assert [(record["spec"], record["seed"]) for record in written] == [
        (spec, seed) for seed in (0, 1) for spec in ("resnet8", "resnet8+se")
    ]
    assert all(len(record["curve"]) == 3 and record["top1"] == record["curve"][-1]["top1"] for record in written)
    assert len({record["top1"] for record in written}) > 1
    assert len(list((out / "weights").glob("*/*"))) == 4
    assert list((out / "checkpoints").iterdir()) == []
    assert {file.suffix for file in out.glob("tiny_baseline+se.*")} == {".md", ".csv", ".png"}
    assert main(trained.args) == 0
    second = capsys.readouterr()
    assert (second.out, second.err) == (trained.stdout, "")
    assert records(out) == written


@pytest.mark.slow
def test_only_new_seeds_are_trained_even_if_the_plan_is_spelled_differently(
    trained: CompletedProcess[str], trained_copy: Path
) -> None:
    options = trained.args[4:-1]
    assert main(["run", "resnet8+se=16-se", "--seeds", "3", *options, str(trained_copy)]) == 0
    specs = [(record["spec"], record["seed"]) for record in records(trained_copy)[4:]]
    assert specs == [("resnet8", 2), ("resnet8+se", 2)]


@pytest.mark.slow
def test_validation_results_have_another_id_and_their_own_table_and_files(
    trained: CompletedProcess[str], trained_copy: Path, capsys: pytest.CaptureFixture[str], error_line: ErrorLine
) -> None:
    options = [*trained.args[4:-1], str(trained_copy)]
    tested = {file: file.read_bytes() for file in trained_copy.glob("tiny_baseline+se*.*")}
    table = ["table", "--out", str(trained_copy)]
    assert "4 evaluated on the test split" in error_line(*table, "--split", "val")
    assert main(["run", "baseline", "--seeds", "1", "--split", "val", *options]) == 0
    last = records(trained_copy)[-1]
    assert (last["spec"], last["definition"]["split"]) == ("resnet8", "val")
    assert last["benchmark_id"] not in {record["benchmark_id"] for record in records(trained_copy)[:-1]}
    assert "validation split of the training images" in " ".join(capsys.readouterr().out.split())
    assert {file.name for file in trained_copy.glob("tiny_val_baseline.*")} >= {"tiny_val_baseline.md"}
    assert {file: file.read_bytes() for file in tested} == tested
    assert main([*table, "--split", "val"]) == main(table) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert last["benchmark_id"] in shown
    assert shown.count("validation split") == 1


@pytest.mark.slow
def test_json_is_the_only_output(trained: CompletedProcess[str], capsys: pytest.CaptureFixture[str]) -> None:
    out = Path(trained.args[-1])
    assert main(["run", "baseline", "--seeds", "1", *trained.args[4:], "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert [row["step"] for row in content["rows"]] == ["baseline (resnet8)"]
    assert content["rows"][0]["top1_std"] is None
    assert content["failures"] == []
    assert all(Path(file).exists() for file in content["files"])
    assert content["benchmark_id"] == records(out)[0]["benchmark_id"]
    assert main(["table", "baseline", "--seeds", "1", "--out", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["rows"] == content["rows"]


@pytest.mark.slow
def test_table_does_not_need_the_benchmark_file(
    trained: CompletedProcess[str], trained_copy: Path, capsys: pytest.CaptureFixture[str], error_line: ErrorLine
) -> None:
    definitions = {record["benchmark_id"] for record in records(trained_copy)}
    assert len(definitions) == 1
    benchmark = Path(trained.args[5])
    hidden = benchmark.rename(benchmark.with_suffix(".hidden"))
    try:
        assert main(["table", "--out", str(trained_copy), "--seeds", "2"]) == 0
        assert capsys.readouterr().out == trained.stdout.partition("written: ")[0]
        unrecorded = ["table", "baseline+width=3-width+eca", "--benchmark", "digits", "--out", str(trained_copy)]
        assert "digits" in error_line(*unrecorded)
        assert "resnet20" in error_line("table", "resnet20", "--out", str(trained_copy))
    finally:
        hidden.rename(benchmark)


@pytest.mark.slow
def test_caption_reports_runs_that_shared_a_device(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--benchmark", str(tiny), "--out", str(tmp_path / "out"), "--json"]
    assert main(["run", "baseline", "--seeds", "2", "--runs-per-device", "2", *options]) == 0
    captured = capsys.readouterr()
    assert "2 runs share the device" in captured.err
    content = json.loads(captured.out)
    assert re.search(r"\b2 runs\b", content["caption"])
    assert content["rows"][0]["n"] == 2
    assert {record["runs_per_device"] for record in records(tmp_path / "out")} == {2}


@pytest.mark.slow
def test_last_row_alone(tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--benchmark", str(tiny), "--runs-per-device", "1", "--out", str(tmp_path / "out"), "--json"]
    assert main(["run", "baseline+se+drop_path", "--last", "--seeds", "1", *options]) == 0
    content = json.loads(capsys.readouterr().out)
    [record] = records(tmp_path / "out")
    assert (record["spec"], record["plan"]) == ("resnet8+se+drop_path", "baseline+se+drop_path")
    assert [row["step"] for row in content["rows"]] == ["+drop_path"]


@pytest.mark.slow
def test_failed_run_is_reported_and_does_not_stop_the_others(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny.write_text(tiny.read_text().replace("lr = 0.05", "lr = 1e30"))
    options = ["--benchmark", str(tiny), "--seeds", "1", "--runs-per-device", "1", "--out", str(tmp_path / "out")]
    assert main(["run", "baseline+se", *options]) == 3
    printed = capsys.readouterr().out
    assert "baseline (resnet8) seed 0 failed: TrainingFailed" in printed
    assert "+se seed 0 failed: TrainingFailed" in printed
    assert printed.count("0 of 1 (1 failed)") == 2
    assert "no result" not in printed
    assert "+se seed 0 failed: TrainingFailed" in (tmp_path / "out" / "tiny_baseline+se.md").read_text()


@pytest.mark.slow
def test_failure_is_in_the_table_until_the_run_succeeds(
    trained: CompletedProcess[str], trained_copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store, options = RecordStore(trained_copy), [*trained.args[4:-1], str(trained_copy)]
    done = store.records()[0]
    store.append(FailedRun(done.spec, done.key, 2, done.benchmark_id, "baseline", "the process was killed", "", "2026"))
    store.append(FailedRun(done.spec, done.key, 3, "another", "baseline", "of another benchmark", "", "2026"))
    table = ["table", "baseline", "--out", str(trained_copy), "--seeds"]
    assert main([*table, "3"]) == 0
    printed = capsys.readouterr().out
    assert "2 of 3 (1 failed)" in printed
    assert "baseline (resnet8) seed 2 failed: the process was killed\n" in printed
    assert "another" not in printed
    assert main([*table, "3", "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["failures"] == [{"step": "baseline (resnet8)", "seed": 2, "reason": "the process was killed"}]
    assert (content["rows"][0]["n"], content["rows"][0]["failed"], content["rows"][0]["seeds"]) == (2, 1, 3)
    assert main(["run", "baseline", "--seeds", "3", *options]) == 0
    assert "failed" not in capsys.readouterr().out
    assert [record["seed"] for record in records(trained_copy) if record["spec"] == "resnet8"] == [0, 1, 2]
    assert main([*table, "4"]) == 0
    assert "3 of 4" in capsys.readouterr().out


@pytest.mark.slow
def test_plan_over_budget_is_not_trained(tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert main(["run", "baseline+width=4", "--benchmark", str(tiny), "--out", str(out)]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert any("1,226,442 parameters > 200,000" in line and "would fit the budget" in line for line in lines)
    assert lines[-1].startswith("ablate: over budget: nothing was trained")
    assert records(out) == []


@pytest.mark.slow
def test_plan_with_too_many_predicted_hours_is_not_trained(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny.write_text(tiny.read_text().replace("max_hours = 0.5", "max_hours = 1e-9"))
    assert main(["run", "baseline", "--benchmark", str(tiny), "--out", str(tmp_path / "out")]) == 1
    assert "predicted on cpu" in capsys.readouterr().err


@pytest.mark.slow
def test_requested_inference_is_measured_and_recorded(
    trained: CompletedProcess[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["run", "baseline", "--seeds", "1", *trained.args[4:-1], str(tmp_path / "out")]
    assert main([*arguments, "--columns", "+latency,+memory", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["rows"]
    (record,) = records(tmp_path / "out")
    assert record["inference"]["batch"]["batch_size"] == row["inference_batch"] == 256
    assert record["inference"]["single"]["p50"] == pytest.approx(row["latency_p50_ms"])
    assert records(Path(trained.args[-1]))[0]["inference"] == {}
    assert "latency ms" in (tmp_path / "out" / "tiny_baseline.md").read_text()
