import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from benchmarks.cli import budget_check
from benchmarks.records.store import RecordStore
from search import trial_attrs
from search.cli import main, read_duration
from search.storage import open_storage

BENCHMARK = """
name = "little"
baseline = "resnet8"

[data]
source = "digits"
num_classes = 10
image_size = 8
in_chans = 1
train_per_class = 30
test_per_class = 10

[recipe]
epochs = 8
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
width = ["", "+width=0.5"]
"""

LOAD = """
import json, sys
import timm, torch
sys.path.insert(0, sys.argv[1])
__import__(sys.argv[2])
trained = timm.create_model("local-dir:" + sys.argv[1] + "/" + sys.argv[2] + "_timm", pretrained=True).eval()
fresh = timm.create_model(sys.argv[2]).eval()
fresh.load_state_dict(trained.state_dict())
images = torch.linspace(-1, 1, 3 * 64).reshape(3, 1, 8, 8)
print(json.dumps([trained(images).tolist(), fresh(images).tolist()]))
"""


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    """A small benchmark and a small space, as options."""
    (tmp_path / "little.toml").write_text(BENCHMARK)
    (tmp_path / "space.toml").write_text(SPACE)
    return ["--benchmark", str(tmp_path / "little.toml"), "--space", str(tmp_path / "space.toml")]


def study_in(out: Path) -> optuna.Study:
    storage = open_storage(f"sqlite:///{out / 'search.db'}")
    [name] = optuna.get_all_study_names(storage)
    return optuna.load_study(study_name=name, storage=storage)


@pytest.mark.slow
def test_a_search_ends_in_a_tested_winner_that_timm_loads_elsewhere(
    files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "runs"
    options = ["--trials", "6", "--finalists", "2", "--seeds", "2", "--out", str(out), "--json"]
    assert main([*files, *options]) == 0
    found = json.loads(capsys.readouterr().out)
    assert len(found["test_top1"]) == 2
    assert all(len(finalist["validation_top1"]) == 2 for finalist in found["finalists"])
    names = {Path(file).name for file in found["files"]}
    assert {"finalists.md", "trials.csv", "front.png", "config.json", "model.safetensors"} <= names

    records = RecordStore(out).results()
    tested = [result for result in records if result.benchmark_id == found["test_id"]]
    assert [result.top1 for result in tested] == found["test_top1"]
    assert {result.key for result in tested} == {tested[0].key}
    assert {result.definition["split"] for result in records if result not in tested} == {"val"}

    [module] = [Path(file) for file in found["files"] if file.endswith(".py")]
    command = [sys.executable, "-W", "ignore", "-c", LOAD, str(module.parent), module.stem]
    elsewhere = subprocess.run(command, capture_output=True, text=True, check=True)
    trained, fresh = json.loads(elsewhere.stdout)
    assert trained == fresh
    assert budget_check.main([str(module), "--benchmark", files[1], "--no-timing"]) == 0

    from ablation.cli import main as ablate

    assert (
        ablate(["run", found["path"], "--last", "--seeds", "2", "--benchmark", files[1], "--out", str(out), "--json"])
        == 0
    )
    assert len(RecordStore(out).results()) == len(records), "the winner is trained already"
    assert ablate(["table", "--out", str(out)]) == 0


@pytest.mark.slow
def test_killed_and_resumed_it_loses_and_repeats_nothing(files: list[str], tmp_path: Path) -> None:
    out = tmp_path / "runs"
    command = [sys.executable, "-c", "import sys; from search.cli import main; sys.exit(main(sys.argv[1:]))"]
    command += [*files, "--trials", "9", "--finalists", "0", "--out", str(out)]
    for number, how in enumerate((signal.SIGKILL, signal.SIGTERM, signal.SIGINT)):
        process = subprocess.Popen([*command, *(["--resume"] if number else [])], stderr=subprocess.PIPE, text=True)
        wait_for_records(out, 2 * number + 2, process)
        process.send_signal(how)
        _, said = process.communicate(timeout=60)
        assert process.returncode == {signal.SIGKILL: -9, signal.SIGTERM: 75, signal.SIGINT: 130}[how], said
    assert subprocess.run([*command, "--resume"], capture_output=True).returncode == 0
    rows = study_in(out).trials
    assert not [trial for trial in rows if trial.state == TrialState.RUNNING]
    finished = [trial for trial in rows if trial_attrs.is_trained(trial)]
    assert len(finished) == 9
    assert len({trial.user_attrs[trial_attrs.KEY] for trial in finished}) == 9
    runs = Counter(result.run_id for result in RecordStore(out).results())
    assert set(runs.values()) == {1}


def wait_for_records(out: Path, number: int, process: "subprocess.Popen[str]") -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        if (out / "records.jsonl").exists() and RecordStore(out).lines() >= number:
            return
        time.sleep(0.05)
    raise AssertionError("the search made no records")


HANG = """
import time
from torch import nn


class Hang(nn.Module):
    def __init__(self, channels):
        super().__init__()

    def forward(self, x):
        if x.device.type != "meta" and self.training:
            time.sleep(3600)
        return x


class Explode(nn.Module):
    def __init__(self, channels):
        super().__init__()

    def forward(self, x):
        if x.device.type != "meta" and self.training:
            raise RuntimeError("it explodes")
        return x
"""


@pytest.mark.slow
def test_a_hung_candidate_is_ended_at_its_limit_and_the_search_goes_on(files: list[str], tmp_path: Path) -> None:
    (tmp_path / "hanging.py").write_text(HANG)
    (tmp_path / "sitecustomize.py").write_text(
        "from arch.parts import attention\n"
        'attention("hang", "nobody", layer="hanging:Hang")\nattention("explode", "nobody", layer="hanging:Explode")\n'
    )
    (tmp_path / "space.toml").write_text('[choices]\nattention = ["", "+hang", "+explode", "+se"]\n')
    program = "import sys; from search.cli import main; sys.exit(main(sys.argv[1:]))"
    options = ["--trials", "3", "--finalists", "0", "--time-limit", str(6 / 3600), "--out", str(tmp_path / "runs")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), os.getcwd()])}
    command = [sys.executable, "-c", program, *files, *options]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    everything = study_in(tmp_path / "runs").trials
    rows = {t.user_attrs["spec"]: t for t in everything if trial_attrs.DUPLICATE_OF not in t.user_attrs}
    assert rows["resnet8+hang"].state == rows["resnet8+explode"].state == TrialState.FAIL
    assert "time limit of 0:00:06" in rows["resnet8+hang"].user_attrs["reason"]
    assert rows["resnet8+hang"].duration is not None
    assert rows["resnet8+hang"].duration.total_seconds() < 2 * 6 + 5  # timed first, or trained, or both
    assert "it explodes" in rows["resnet8+explode"].user_attrs["reason"]
    assert trial_attrs.is_trained(rows["resnet8+se"])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--timeout", "soon"], "90s, 45m, 3h or 1d"),
        (["--timeout", "0s"], "90s, 45m, 3h or 1d"),
        (["--max-params", "many"], "30M, 1.5M"),
        (["--budget-hours", "0"], "above 0"),
        (["--time-limit", "0"], "above 0"),
        (["--space", "nowhere.toml"], "there is no such file"),
        (["--sampler", "evolution", "--objective", "pareto"], "knows one objective"),
        (["--benchmark", "digitz"], "did you mean 'digits'"),
        (["--storage", "nonsense"], "cannot open --storage nonsense"),
        (["--sampler", "best"], "thompson"),
        (["--trials", "0"], "--trials"),
    ],
)
def test_bad_input_is_one_line(
    options: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*options, "--out", str(tmp_path)]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert words in said[-1]
    assert len([line for line in said if line.startswith("search:")]) <= 1


def test_a_budget_that_nothing_fits_is_exit_code_1(
    files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*files, "--max-params", "1K", "--out", str(tmp_path / "runs")]) == 1
    assert re.search(r"none of \d+ candidates is inside the budget; most often: .* > 1,000", capsys.readouterr().err)


def test_durations_are_read_with_their_units() -> None:
    assert [read_duration(text) for text in ("90s", "45m", "1.5h", "2d")] == [90, 2700, 5400, 172800]


def test_help_tells_the_two_times_apart(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "--budget-hours limits what a candidate may cost, --timeout how long you wait" in text
