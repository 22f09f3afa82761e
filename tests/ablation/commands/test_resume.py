"""Test that `ablate run` resumes after it is killed or stopped."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ablation.cli import main

COMMAND = [sys.executable, "-c", "from ablation.cli import main; raise SystemExit(main())"]
ROOT = Path(__file__).parent.parent.parent.parent


def records(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "records.jsonl").read_text().splitlines()]


def numbers(record: dict[str, Any]) -> dict[str, Any]:
    """Return the fields that must be equal for two runs with the same seed: everything except times."""
    curve = [{name: value for name, value in line.items() if "seconds" not in name} for line in record["curve"]]
    kept = ("spec", "key", "seed", "benchmark_id", "params", "macs", "images_seen", "top1", "top5", "per_class")
    return {**{name: record[name] for name in kept}, "curve": curve}


@pytest.mark.slow
def test_interrupted_run_resumes_to_identical_numbers(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny.write_text(tiny.read_text().replace("epochs = 3", "epochs = 40").replace("class = 20", "class = 10"))
    whole, interrupted = tmp_path / "whole", tmp_path / "interrupted"
    options = ["--benchmark", str(tiny), "--seeds", "1", "--device", "cpu", "--runs-per-device", "1", "--last"]
    arguments = ["run", "baseline+drop_path=0.2", *options, "--out"]
    assert main([*arguments, str(whole)]) == 0

    moment = time.time()
    process = subprocess.Popen([*COMMAND, *arguments, str(interrupted)], cwd=ROOT, stderr=subprocess.DEVNULL)
    wait_for_checkpoint(interrupted, moment, lambda: process.poll() is not None)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert (interrupted / ".holder.json").exists()
    capsys.readouterr()
    for number, code in ((signal.SIGTERM, 75), (signal.SIGINT, 130)):
        assert main_with_signal([*arguments, str(interrupted)], number, interrupted) == code
        assert capsys.readouterr().err.splitlines()[-1].startswith("ablate: stopped; ")
        assert len(list(interrupted.glob("checkpoints/*/*.safetensors"))) > 0
        assert not (interrupted / ".holder.json").exists()
    assert records(interrupted) == []

    assert main([*arguments, str(interrupted)]) == 0
    assert [numbers(record) for record in records(interrupted)] == [numbers(record) for record in records(whole)]


def main_with_signal(arguments: list[str], number: signal.Signals, out: Path) -> int:
    """Run a command that receives a signal after its first checkpoint, and return its exit code."""
    ended = threading.Event()

    def send(moment: float) -> None:
        if wait_for_checkpoint(out, moment, ended.is_set):
            os.kill(os.getpid(), number)

    sender = threading.Thread(target=send, args=(time.time(),))
    sender.start()
    try:
        return main(arguments)
    finally:
        ended.set()
        sender.join()


def wait_for_checkpoint(out: Path, moment: float, has_ended: Callable[[], bool]) -> bool:
    """Wait for a checkpoint that is newer than `moment`. Return False if the command ends first."""
    while not has_ended():
        if any(file.suffix == ".safetensors" and file.stat().st_mtime > moment for file in out.glob("checkpoints/*/*")):
            return True
        time.sleep(0.01)
    return False
