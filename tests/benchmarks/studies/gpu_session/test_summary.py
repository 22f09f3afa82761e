import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.studies.gpu_session.commands import DOCTOR, Commands
from benchmarks.studies.gpu_session.figures import setting_rows, training_rows
from benchmarks.studies.gpu_session.options import parse_options
from benchmarks.studies.gpu_session.probe import LOOPS, PEAK, probe_steps
from benchmarks.studies.gpu_session.results import Packed
from benchmarks.studies.gpu_session.step_runner import StepRunner
from benchmarks.studies.gpu_session.steps import Deadline, Outcome
from benchmarks.studies.gpu_session.summary import write_summary

PEAK_FIGURES = {"flops": 4e12, "precision": "fp16", "bytes_per_second": 3e9, "n": 7}


def setting(name: str, images_per_second: float, spec: str = "resnet50") -> dict[str, Any]:
    times = {"milliseconds": 10.0, "fastest": 9.0, "slowest": 11.0, "n": 5, "ready_seconds": 3.0}
    figures = {"macs": 10**9, "images_per_second": images_per_second, "peak_memory": 2**30}
    return {"device": "H200", "spec": spec, "batch_size": 256, "setting": name, **times, **figures}


def write_lines(file: Path, *lines: dict[str, Any]) -> Path:
    file.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return file


@pytest.fixture
def commands(tmp_path: Path) -> Commands:
    return Commands(parse_options(["probe", str(tmp_path / "out"), "60", "--work", str(tmp_path)]))


@pytest.fixture
def runner(commands: Commands) -> StepRunner:
    return StepRunner(commands.options.results, Deadline(0))


def summary(runner: StepRunner, commands: Commands, packed: Packed | None = None) -> str:
    path = commands.options.work / "summary.md"
    write_summary(path, runner, commands, packed)
    return path.read_text()


def test_settings_are_compared_with_the_first_one_of_their_model_and_with_the_peak(tmp_path: Path) -> None:
    other = setting("eager", 50.0, "resnet8")
    error = {"spec": "resnet50", "batch_size": 256, "setting": "compile", "error": "a | b"}
    file = write_lines(tmp_path / "lines", setting("eager", 100.0), setting("bf16", 200.0), other, error)
    rows = setting_rows(file, 4e12)
    assert [row.get("relative") for row in rows] == ["1.000", "2.000", "1.000", None]
    assert [row.get("TFLOP/s") for row in rows] == ["0.6", "1.2", "0.3", None]  # 6 * 1e9 * img/s
    assert [row.get("% of peak") for row in rows] == ["15.0", "30.0", "7.5", None]
    assert rows[-1]["note"] == "a / b"


def test_settings_of_another_device_have_their_own_reference(tmp_path: Path) -> None:
    other = setting("eager", 50.0) | {"device": "RTX 3090", "peak_memory": None}
    rows = setting_rows(write_lines(tmp_path / "lines", setting("eager", 100.0), other), None)
    assert [row["relative"] for row in rows] == ["1.000", "1.000"]
    assert [row.get("peak GiB") for row in rows] == ["1.00", None]


def test_line_that_was_cut_off_is_left_out(tmp_path: Path) -> None:
    file = write_lines(tmp_path / "lines", setting("eager", 100.0))
    file.write_text(file.read_text() + '{"spec": "resn')
    assert [row["setting"] for row in setting_rows(file, None)] == ["eager"]


def test_without_a_peak_there_is_no_share(tmp_path: Path) -> None:
    (row,) = setting_rows(write_lines(tmp_path / "lines", setting("eager", 100.0)), None)
    assert row["TFLOP/s"] == "0.6"
    assert "% of peak" not in row


def test_summary_names_each_step_with_its_state(runner: StepRunner, commands: Commands) -> None:
    runner.record(Outcome(PEAK, "done", 12.3, 15))
    runner.record(Outcome(LOOPS, "dropped", 0, 100, "needs 100 s, 5 s remained"))
    runner.output(PEAK).write_text(json.dumps(PEAK_FIGURES))
    text = summary(runner, commands)
    for facts in ((PEAK, "done", "12.3", "15"), (LOOPS, "dropped", "100", "5 s remained")):
        assert any(all(fact in line for fact in facts) for line in text.splitlines())
    assert "4 TFLOP/s" in text
    assert "3 GB/s" in text


def test_summary_describes_the_machine_and_its_problems(runner: StepRunner, commands: Commands) -> None:
    findings = [
        {"topic": "versions", "text": "torch 2.11.0", "problem": ""},
        {"topic": "device", "text": "failed", "problem": "the driver is too old"},
    ]
    runner.output(DOCTOR).write_text(json.dumps(findings))
    text = summary(runner, commands)
    assert "torch 2.11.0" in text
    assert any("device" in line and "the driver is too old" in line for line in text.splitlines())


def test_stopped_loops_show_the_epochs_so_far(runner: StepRunner, commands: Commands) -> None:
    runner.output(LOOPS).write_text("the device; n = 3\n")
    runner.output(LOOPS).with_suffix(".log").write_text("resnet8: bare: epoch 1, 0.5 s\n")
    runner.record(Outcome(LOOPS, "stopped", 100, 50))
    assert "bare: epoch 1, 0.5 s" in summary(runner, commands)


def test_files_that_were_left_out_are_listed(runner: StepRunner, commands: Commands) -> None:
    text = summary(runner, commands, Packed([], [("runs/checkpoints/a/000000001.safetensors", 136 * 2**20)]))
    assert "136.0 MiB" in text
    assert "only on the same machine" in text


def test_summary_of_nothing_can_be_written(runner: StepRunner, commands: Commands) -> None:
    assert summary(runner, commands).startswith("# Probe of cifar100 on cuda")
    assert training_rows(commands.runs, None) == []


def test_probe_ends_with_a_training_that_fills_the_time(commands: Commands) -> None:
    steps = probe_steps(commands)
    assert steps[0].required
    assert [step.fills for step in steps] == [False] * (len(steps) - 1) + [True]
    assert len({step.name for step in steps}) == len(steps)
    assert sum(step.seconds for step in steps) < 900
