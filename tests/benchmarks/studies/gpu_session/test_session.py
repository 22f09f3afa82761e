import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock

from arch.errors import InputError
from benchmarks.records.store import RecordStore
from benchmarks.studies.gpu_session.commands import Commands
from benchmarks.studies.gpu_session.options import parse_options
from benchmarks.studies.gpu_session.proof import read_candidates
from benchmarks.studies.gpu_session.results import unpack
from benchmarks.studies.gpu_session.session import handle_stop_signals, run_session

SCRIPT = Path(__file__).parents[4] / "benchmarks" / "studies" / "gpu.sh"
BENCHMARK = """
name = "few_digits"
baseline = "resnet8"
[data]
source = "digits"
num_classes = 10
image_size = 8
in_chans = 1
train_per_class = 8
test_per_class = 4
[recipe]
epochs = 3
batch_size = 20
warmup_epochs = 1
crop_padding = 0
flip = 0.0
"""


def run(*arguments: object) -> str:
    environment = {**os.environ, "PYTHON": sys.executable}
    command = ["bash", str(SCRIPT), *map(str, arguments), "--device", "cpu"]
    process = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert process.returncode == 0, process.stdout + process.stderr
    return process.stdout


def test_second_session_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    options = parse_options(["probe", str(tmp_path / "out"), "60", "--work", str(tmp_path)])
    with FileLock(tmp_path / ".lock"), pytest.raises(InputError, match="--work"):
        run_session(options, 0.0)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_stop_signals_are_handled_unless_they_are_ignored(number: signal.Signals) -> None:
    received: list[int] = []
    previous = {each: signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGHUP)}
    try:
        handle_stop_signals(lambda number, frame: received.append(number))
        os.kill(os.getpid(), number)
        assert received == [number]
        handle_stop_signals(signal.SIG_IGN)
        handle_stop_signals(signal.default_int_handler)
        os.kill(os.getpid(), number)
    finally:
        for each, handler in previous.items():
            signal.signal(each, handler)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_proof_trains_the_chosen_candidate_and_another_machine_continues_from_its_output(tmp_path: Path) -> None:
    (tmp_path / "few_digits.toml").write_text(BENCHMARK)
    specs = ["resnet8+se", "resnet8"]
    fixed = ["--benchmark", tmp_path / "few_digits.toml", "--candidates", *specs, "--slowdown", 2]
    run("proof", tmp_path / "out", 900, "--work", tmp_path / "work", *fixed)
    summary = (tmp_path / "out" / "summary.md").read_text()
    assert "| resnet8+se seed 0 |" in summary
    sizes = [file.stat().st_size for file in (tmp_path / "out").iterdir()]
    assert len(sizes) <= 8
    assert max(sizes) <= 16 * 2**20
    commands = Commands(parse_options(["proof", str(tmp_path), "60", "--work", str(tmp_path / "work")]))
    (candidate,), (record,) = read_candidates(commands), RecordStore(commands.runs).records()
    assert candidate.verdict == "chosen"
    assert 3600 * record.predicted_hours == candidate.seconds  # the measurement was used again
    unpack(tmp_path / "out", tmp_path / "restored")
    for kind in ("runs/weights", "runs/predictions", "weights_half"):
        assert len(list((tmp_path / "restored" / kind).glob("*/*.safetensors"))) == 1
    output = run("proof", tmp_path / "out2", 300, "--work", tmp_path / "work2", "--continue", tmp_path / "out", *fixed)
    assert "budget check" not in output
    assert (tmp_path / "out2" / "summary.md").read_text().count("| resnet8+se seed 0 |") == 1


@pytest.mark.slow
def test_call_that_is_too_short_for_any_step_still_leaves_a_summary(tmp_path: Path) -> None:
    run("probe", tmp_path / "out", 27, "--work", tmp_path / "work", "--benchmark", "digits")
    summary = (tmp_path / "out" / "summary.md").read_text()
    assert summary.count("| dropped |") == summary.count("after doctor") + 1 > 5
    assert "| done" not in summary


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_an_assignment_is_reproduced_and_its_page_is_in_the_results(tmp_path: Path) -> None:
    sections = BENCHMARK.replace("[data]", "[full.benchmark.data]").replace("[recipe]", "[full.benchmark.recipe]")
    assignment = (
        'title = "Tiny"\ndescription = "A tiny study."\n[full]\nplan = "resnet8"\nseeds = 1\ncost = "seconds"\n'
        f"[full.benchmark]\n{sections}"
    )
    (tmp_path / "tiny.toml").write_text(assignment)
    run("reproduce", tmp_path / "out", 600, "--work", tmp_path / "work", "--assignment", tmp_path / "tiny.toml")
    summary = (tmp_path / "out" / "summary.md").read_text()
    assert summary.startswith("# Reproduction of tiny.toml on cpu")
    assert "| resnet8 seed 0 |" in summary
    assert unpack(tmp_path / "out", tmp_path / "results")
    [page] = (tmp_path / "results" / "runs").glob("tiny_full_*/README.md")
    assert "1 run recorded" in page.read_text()
