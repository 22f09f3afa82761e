import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState
from safetensors.torch import load_file

from ablation.cli import main as ablate
from benchmarks.records.paths import run_file
from benchmarks.records.store import RecordStore
from benchmarks.training.tensor_file import read_tensors
from search import trial_attrs
from search.cli import main
from search.storage import open_storage

BENCHMARK = """
name = "little"
baseline = "resnet8+width=0.5"

[data]
source = "digits"
num_classes = 10
image_size = 8
in_chans = 1
train_per_class = 20
test_per_class = 5

[recipe]
epochs = 4
batch_size = 50
lr = 0.05
warmup_epochs = 1
crop_padding = 1
flip = 0.0

[budget]
max_params = 200_000
max_hours = 0.5
"""
SPACE = """
[choices]
attention = ["", "+se", "+eca"]
act = ["", "+silu", "+relu"]
"""
MAIN = "import sys; from search.cli import main; sys.exit(main(sys.argv[1:]))"
TIME_LIMIT_SECONDS = 12

BROKEN_LAYERS = """
import time
from torch import nn

from arch.registry import attention


@attention("hang")
class Hang(nn.Module):
    def __init__(self, channels):
        super().__init__()

    def forward(self, x):
        if x.device.type != "meta" and self.training:
            time.sleep(3600)
        return x


@attention("raise")
class Raise(nn.Module):
    def __init__(self, channels):
        super().__init__()

    def forward(self, x):
        if x.device.type != "meta" and self.training:
            raise RuntimeError("this layer is broken")
        return x
"""


def write_inputs(folder: Path) -> list[str]:
    """Write a small benchmark and a small space; return the options that select them."""
    (folder / "little.toml").write_text(BENCHMARK)
    (folder / "space.toml").write_text(SPACE)
    return ["--benchmark", str(folder / "little.toml"), "--space", str(folder / "space.toml")]


@pytest.fixture
def inputs(tmp_path: Path) -> list[str]:
    return write_inputs(tmp_path)


@dataclass(frozen=True)
class FinishedSearch:
    benchmark: str  # path of the TOML file
    out: Path
    summary: dict[str, Any]  # the output of --json


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> FinishedSearch:
    """Run a search with two finalists and two seeds."""
    folder = tmp_path_factory.mktemp("search")
    inputs, out, stdout = write_inputs(folder), folder / "runs", StringIO()
    with redirect_stdout(stdout):
        assert main([*inputs, "--trials", "2", "--finalists", "2", "--seeds", "2", "--out", str(out), "--json"]) == 0
    return FinishedSearch(inputs[1], out, json.loads(stdout.getvalue()))


def load_study(out: Path) -> optuna.Study:
    storage = open_storage(str(out / "search.journal"))
    [name] = optuna.get_all_study_names(storage)
    return optuna.load_study(study_name=name, storage=storage)


def wait_for_records(out: Path, number: int, process: "subprocess.Popen[str]") -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        if (out / "records.jsonl").exists() and RecordStore(out).num_lines() >= number:
            return
        time.sleep(0.05)
    raise AssertionError(f"the search did not write {number} records")


@pytest.mark.slow
def test_finalists_are_validated_and_only_the_winner_is_tested(finished: FinishedSearch) -> None:
    summary = finished.summary
    assert len(summary["test_top1"]) == 2
    assert [len(finalist["validation_top1"]) for finalist in summary["finalists"]] == [2, 2]
    records = RecordStore(finished.out).records()
    tested = [record for record in records if record.benchmark_id == summary["test_id"]]
    assert [record.top1 for record in tested] == summary["test_top1"]
    assert {record.key for record in tested} == {tested[0].key}
    assert {record.definition["split"] for record in records if record not in tested} == {"val"}


@pytest.mark.slow
def test_winner_is_exported_with_the_weights_of_its_first_seed(finished: FinishedSearch) -> None:
    files = {Path(file).name: Path(file) for file in finished.summary["files"]}
    assert {"finalists.md", "trials.csv", "front.png", "config.json", "model.safetensors"} <= files.keys()
    [module] = [name for name in files if name.endswith(".py")]
    assert finished.summary["winner"] in files[module].read_text()
    first = next(r for r in RecordStore(finished.out).records() if r.benchmark_id == finished.summary["test_id"])
    weights = read_tensors(run_file(finished.out, "weights", first.name))[0]
    exported = load_file(files["model.safetensors"])
    assert exported.keys() == weights.keys()
    assert all(bool((exported[name] == weights[name]).all()) for name in weights)


@pytest.mark.slow
def test_ablate_reuses_the_records_of_the_winner(finished: FinishedSearch) -> None:
    num_records, out = RecordStore(finished.out).num_lines(), ["--out", str(finished.out)]
    options = ["--last", "--seeds", "2", "--benchmark", finished.benchmark, "--json"]
    assert ablate(["run", finished.summary["path"], *options, *out]) == 0
    assert RecordStore(finished.out).num_lines() == num_records
    assert ablate(["table", *out]) == 0


@pytest.mark.slow
def test_killed_search_loses_and_repeats_nothing(inputs: list[str], tmp_path: Path) -> None:
    out = tmp_path / "runs"
    arguments = [*inputs, "--trials", "5", "--finalists", "0", "--out", str(out)]
    interruptions: tuple[tuple[signal.Signals, list[str], int, int], ...] = (
        (signal.SIGKILL, [], 1, -signal.SIGKILL),
        (signal.SIGTERM, ["--resume"], 3, 75),
    )
    for number, resume, num_records, exit_code in interruptions:
        command = [sys.executable, "-c", MAIN, *arguments, *resume]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        wait_for_records(out, num_records, process)
        process.send_signal(number)
        _, stderr = process.communicate(timeout=60)
        assert process.returncode == exit_code, stderr
    assert main([*arguments, "--resume"]) == 0
    trials = load_study(out).trials
    assert not [trial for trial in trials if trial.state == TrialState.RUNNING]
    trained = [trial for trial in trials if trial_attrs.is_trained(trial)]
    assert len(trained) == 5
    assert len({trial.user_attrs[trial_attrs.KEY] for trial in trained}) == 5
    num_records_of_runs = Counter(record.run_id for record in RecordStore(out).records())
    assert set(num_records_of_runs.values()) == {1}


@pytest.mark.slow
def test_hung_and_broken_candidates_fail_and_the_search_continues(inputs: list[str], tmp_path: Path) -> None:
    (tmp_path / "broken_layers.py").write_text(BROKEN_LAYERS)
    (tmp_path / "space.toml").write_text('[choices]\nattention = ["", "+hang", "+raise", "+se"]\n')
    limit = ["--time-limit", str(TIME_LIMIT_SECONDS / 3600)]
    plugin = ["--plugin", "broken_layers.py"]
    command = [sys.executable, "-c", MAIN, *inputs, *plugin, "--trials", "3", "--finalists", "0", *limit]
    environment = {**os.environ, "PYTHONPATH": os.getcwd()}
    finished = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert finished.returncode == 0, finished.stderr
    trials = {
        trial.user_attrs[trial_attrs.SPEC].partition("width=0.5")[2]: trial
        for trial in load_study(tmp_path / "runs").trials
        if trial_attrs.DUPLICATE_OF not in trial.user_attrs
    }
    assert trials["+hang"].state == trials["+raise"].state == TrialState.FAIL
    assert "time limit of 0:00:12" in trials["+hang"].user_attrs[trial_attrs.REASON]
    assert trials["+hang"].duration is not None
    assert trials["+hang"].duration.total_seconds() < 2 * TIME_LIMIT_SECONDS + 5  # timing and training may both hang
    assert "this layer is broken" in trials["+raise"].user_attrs[trial_attrs.REASON]
    assert trial_attrs.is_trained(trials["+se"])


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--timeout", "soon"], "90s, 45m, 3h or 1d"),
        (["--max-params", "many"], "30M, 1.5M"),
        (["--budget-hours", "0"], "above 0"),
        (["--space", "nowhere.toml"], "no such file"),
        (["--benchmark", "digitz"], "did you mean 'digits'"),
        (["--storage", "nonsense://me:secret@host"], "--storage nonsense://... is not supported"),
        (["--sampler", "best"], "thompson"),
        (["--trials", "0"], "--trials"),
        (["--warm-start", "nowhere"], "--warm-start nowhere contains no records.jsonl"),
    ],
)
def test_invalid_options_are_reported_in_one_line(
    inputs: list[str], options: list[str], expected: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*inputs, *options, "--out", str(tmp_path)]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert expected in lines[-1]
    assert len([line for line in lines if line.startswith("search:")]) <= 1


def test_search_learns_from_the_records_of_several_folders(
    inputs: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    warm_start = []
    for spec in ("baseline+se", "baseline+silu"):
        folder = tmp_path / spec
        assert ablate(["run", spec, "--last", *inputs[:2], "--split", "val", "--seeds", "1", "--out", str(folder)]) == 0
        warm_start += ["--warm-start", str(folder)]
    capsys.readouterr()
    assert main([*inputs, *warm_start, "--trials", "1", "--finalists", "0", "--out", str(tmp_path / "search")]) == 0
    assert "warm start: the space contains 2 of " in capsys.readouterr().err


def test_images_that_fill_no_batch_are_reported_at_once(
    inputs: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    benchmark, out = tmp_path / "little.toml", tmp_path / "runs"
    benchmark.write_text(BENCHMARK.replace("batch_size = 50", "batch_size = 200"))
    assert main([*inputs, "--out", str(out)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "180 training images do not fill one batch of 200" in line
    assert not (out / "search.journal").exists()


@pytest.mark.slow
def test_exit_code_is_1_if_nothing_fits_the_budget(
    inputs: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "space.toml").write_text('[choices]\nact = ["", "+silu"]')
    assert main([*inputs, "--max-params", "1K", "--out", str(tmp_path / "runs")]) == 1
    assert re.search(r"none of \d+ candidates .* > 1,000", capsys.readouterr().err)


def test_help_explains_the_two_time_options(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "--budget-hours limits the training time of one candidate, --timeout the duration of the search" in text
