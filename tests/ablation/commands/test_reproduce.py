"""Test `ablate reproduce`."""

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ablation.cli import main
from arch.plugins import unload_plugins
from benchmarks.definition.benchmark import identify
from benchmarks.definition.registry import BENCHMARKS
from benchmarks.records.store import RecordStore, RunRecord

ROOT = Path(__file__).parents[3]
COMMAND = [sys.executable, "-c", "from ablation.cli import main; raise SystemExit(main())"]
DIGITS = """
title = "Tiny"
description = "A tiny study."

[full]
plan = "baseline+se"
benchmark = "digits"
seeds = 6
cost = "seconds"

[[full.marks]]
row = "resnet8+se"
value = 92
kind = "goal"
source = "course"
"""
TINY = """
title = "Tiny"
description = "A tiny study."

[full]
plan = "baseline+drop_path=0.2"
seeds = 1
cost = "seconds"

[full.benchmark]
name = "tiny"
baseline = "resnet8"
data = {source = "digits", num_classes = 10, image_size = 8, in_chans = 1, train_per_class = 10, test_per_class = 10}
recipe = {epochs = 20, batch_size = 50, lr = 0.05, warmup_epochs = 1, crop_padding = 1, flip = 0.0}
budget = {max_params = 200_000, max_hours = 0.5}
"""
PLUGIN = """
from dataclasses import replace
from arch.registry import part

@part("a paper")
def halve(variant):
    return replace(variant, widths=tuple(width // 2 for width in variant.widths))
"""


@pytest.fixture
def assignment(tmp_path: Path) -> Path:
    """Return an assignment file for the records of `recorded`."""
    file = tmp_path / "mine.toml"
    file.write_text(DIGITS)
    return file


def test_page_of_recorded_runs(assignment: Path, recorded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (recorded / "records.jsonl").read_bytes()
    assert main(["reproduce", str(assignment), "--no-training", "--out", str(recorded), "--json"]) == 0
    [page] = json.loads(capsys.readouterr().out)["pages"]
    assert (page["assignment"], page["scale"], page["recorded"], page["missing"]) == ("mine", "full", 12, {})
    assert [row["top1_mean"] for row in page["rows"]] == [pytest.approx(90.25), pytest.approx(92.25)]
    text = Path(page["files"][0]).read_text()
    assert "92.25 ± 0.19 (n = 6)" in text
    assert "reached" in text
    assert (recorded / "records.jsonl").read_bytes() == before


def test_fewer_seeds(assignment: Path, recorded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["reproduce", str(assignment), "--no-training", "--out", str(recorded), "--json", "--seeds"]
    assert main([*arguments, "2"]) == 0
    [page] = json.loads(capsys.readouterr().out)["pages"]
    assert (page["recorded"], [row["n"] for row in page["rows"]]) == (4, [2, 2])
    assert main([*arguments, "7"]) == 0
    [page] = json.loads(capsys.readouterr().out)["pages"]
    assert page["missing"] == {"baseline (resnet8)": [6], "+se": [6]}


def test_each_benchmark_id_has_its_own_page(
    assignment: Path, recorded: Path, make_record: Callable[..., RunRecord], capsys: pytest.CaptureFixture[str]
) -> None:
    definition = BENCHMARKS["digits"].definition("images", "cuda")
    record = make_record("baseline", 0, 10.0, definition=definition, benchmark_id=identify(definition))
    RecordStore(recorded).append(record)
    assert main(["reproduce", str(assignment), "--no-training", "--out", str(recorded), "--json"]) == 0
    first, second = json.loads(capsys.readouterr().out)["pages"]
    assert first["benchmark_id"] != second["benchmark_id"]
    assert second["rows"][0]["top1_mean"] == 10.0
    assert Path(first["files"][0]).parent != Path(second["files"][0]).parent
    assert record.run_id not in Path(first["files"][0]).read_text()
    assert record.run_id in Path(second["files"][0]).read_text()


def test_invalid_input(assignment: Path, recorded: Path, error_line: Callable[..., str], tmp_path: Path) -> None:
    assert "data_size" in error_line("reproduce", "data_sise")
    assert "--scale" in error_line("reproduce", "data_size", "--scale", "gpu")
    empty = str(tmp_path / "empty")
    assert "no records" in error_line("reproduce", "data_size", "--no-training", "--out", empty)
    assert not Path(empty).exists()
    assert "sequential_ablation" in error_line(
        "reproduce", "sequential_ablation", "--no-training", "--out", str(recorded)
    )
    assert "nowhere" in error_line("reproduce", "data_size", "--data", str(tmp_path / "nowhere"), "--out", empty)
    assert "--pretrained" in error_line("reproduce", str(assignment), "--pretrained", "x.safetensors")
    assignment.write_text(DIGITS.replace('row = "resnet8+se"', 'row = "+cbam"'))
    assert "+cbam" in error_line("reproduce", str(assignment), "--out", empty)


@pytest.mark.slow
def test_killed_training_resumes_to_equal_records(
    cache_home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "tiny.toml"
    file.write_text(TINY)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    arguments = ["reproduce", str(file), "--device", "cpu", "--runs-per-device", "1", "--out"]
    assert main([*arguments, str(whole)]) == 0
    assert "2 runs recorded" in capsys.readouterr().out

    process = subprocess.Popen([*COMMAND, *arguments, str(killed)], cwd=ROOT, stderr=subprocess.DEVNULL)
    while process.poll() is None and not list(killed.glob("checkpoints/*/*.safetensors")):
        time.sleep(0.01)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert not list(killed.glob("tiny_*"))

    assert main([*arguments, str(killed)]) == 0
    assert numbers(killed) == numbers(whole)
    assert capsys.readouterr().err.count("seed 0: top-1") <= 2
    [page] = killed.glob("tiny_full_*/README.md")
    assert all(run_id in page.read_text() for run_id in numbers(killed))

    assert main([*arguments, str(killed)]) == 0
    assert "top-1" not in capsys.readouterr().err
    assert len(numbers(killed)) == 2


def numbers(out: Path) -> dict[str, Any]:
    return {record.run_id: record.numbers() for record in RecordStore(out).records()}


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return a plugin with the part `halve` in the current folder. Plugins are unloaded after the test."""
    monkeypatch.chdir(tmp_path)
    file = Path("layers.py")
    file.write_text(PLUGIN)
    yield file
    unload_plugins()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("plan", "plugins"), [("resnet8+halve", 'plugins = ["layers.py"]'), ("resnet8+layers.py:halve", "")]
)
def test_plugins_of_the_benchmark_and_of_the_plan(
    plan: str, plugins: str, plugin: Path, cache_home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, run = Path("tiny.toml"), ["--seeds", "1", "--device", "cpu", "--out", "out"]
    text = TINY.replace('plan = "baseline+drop_path=0.2"', f'plan = "{plan}"')
    file.write_text(text.replace('name = "tiny"', f'name = "tiny"\n{plugins}'))
    assert main(["reproduce", str(file), *run]) == 0
    [page] = Path("out").glob("tiny_full_*")
    unload_plugins()
    capsys.readouterr()
    assert main(["run", plan, "--benchmark", str(page / "benchmark.toml"), *run]) == 0
    assert "top-1" not in capsys.readouterr().err


@pytest.mark.slow
def test_weights_of_recorded_runs_need_no_option(
    tmp_path: Path, error_line: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(ROOT / "benchmarks" / "results" / "assignments" / "records.jsonl", tmp_path)
    command = ["reproduce", "fine_tuning", "--no-training", "--out", str(tmp_path)]
    assert main([*command, "--json"]) == 0
    [page] = json.loads(capsys.readouterr().out)["pages"]
    assert all(row["n"] for row in page["rows"])
    text = Path(page["files"][0]).read_text()
    assert f"ablate reproduce fine_tuning --scale cpu --seeds {page['rows'][0]['seeds']} --download" in text
    before = Path(page["files"][0]).read_bytes()
    assert "only runs with the weights" in error_line(*command, "--pretrained", "0" * 16)
    assert Path(page["files"][0]).read_bytes() == before


@pytest.mark.slow
def test_over_budget(tmp_path: Path, cache_home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, out = tmp_path / "tiny.toml", tmp_path / "out"
    file.write_text(TINY.replace("200_000", "20_000"))
    assert main(["reproduce", str(file), "--device", "cpu", "--out", str(out)]) == 1
    assert "over budget" in capsys.readouterr().err
    assert not list(out.glob("tiny_*"))


def test_assignments_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "assignments", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    studies = [(entry["assignment"], entry["scale"], entry["seeds"]) for entry in listed]
    assert [study for study in studies if study[0] == "data_size"] == [("data_size", "full", 3)]
    assert [study for study in studies if study[0] == "distillation"] == [
        ("distillation", "cpu", 6),
        ("distillation", "full", 3),
    ]
    assert all(entry["marks"] for entry in listed)
    assert main(["list", "assignments"]) == 0
    assert "wide_or_deep" in capsys.readouterr().out
