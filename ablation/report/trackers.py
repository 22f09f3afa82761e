"""Export records to an experiment tracker: offline, after training, and into one folder.

The tracker's library runs in a child process with its own environment. What it prints, the files it leaves in a home
folder, and settings that would send data to a server therefore do not affect the command or the user.
"""

import errno
import hashlib
import json
import os
import re
import shlex
import site
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ablation.report.tracker_writers import WRITERS, TrackerRun
from arch.errors import InputError, unknown
from arch.text import printable
from benchmarks.records.live_runs import LiveRun
from benchmarks.records.store import RunRecord

CURVE_COLUMNS = ("train_loss", "train_top1", "loss", "top1", "top5")
CONFIG_FIELDS = ("spec", "key", "seed", "benchmark", "benchmark_id", "params", "macs", "device", "versions", "commit",
                 "train_images", "overrides")  # fmt: skip
MAX_SPEC_CHARACTERS = 80  # limit for the spec in a run's name; wandb accepts names of 128 characters
MAX_VALUE_CHARACTERS = 6000  # MLflow's limit
INHERITED_VARIABLES = ("LANG", "LC_ALL", "LD_LIBRARY_PATH", "PATH", "PYTHONPATH", "SYSTEMROOT")
OFFLINE_SETTINGS = {
    "DO_NOT_TRACK": "true",
    "HF_HUB_OFFLINE": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "TRACKIO_STORAGE_MODE": "sqlite",
    "WANDB_ERROR_REPORTING": "false",
    "WANDB_MODE": "offline",
    "WANDB_SILENT": "true",
}
VIEW_COMMANDS = {
    "tensorboard": "tensorboard --logdir {}",
    "wandb": "wandb sync {}/wandb/offline-run-*",
    "mlflow": "mlflow ui --backend-store-uri sqlite:///{}/mlflow.db",
    "trackio": "TRACKIO_DIR={} trackio show",
}


def to_tracker_run(record: RunRecord | LiveRun) -> TrackerRun:
    """Return a record, or a run in training, in the form that trackers store."""
    spec, run_id = printable(record.spec), _safe_id(record.run_id)
    if len(spec) > MAX_SPEC_CHARACTERS:  # the hash distinguishes specs with the same beginning
        spec = f"{spec[: MAX_SPEC_CHARACTERS - 9]} {_sha256(record.key)[:8]}"
    config = {**record.definition, **{name: getattr(record, name) for name in CONFIG_FIELDS}, "run_id": run_id}
    if isinstance(record, LiveRun):
        epochs, summary, seconds = record.epochs, {}, record.updated
    else:
        epochs, summary, seconds = len(record.curve), _summary(record), _timestamp(record.finished)
    config["epochs"] = epochs  # as trained, which may be a multiple of the recipe's epochs
    return TrackerRun(
        id=run_id,
        name=f"{spec} seed {record.seed}",
        spec=spec,
        benchmark=f"{_file_name(record.benchmark)}_{_file_name(record.benchmark_id)}",
        config=dict(_flatten(config)),
        curve=[
            (int(epoch["epoch"]), {name: epoch[name] for name in CURVE_COLUMNS if name in epoch})
            for epoch in record.curve
        ],
        summary=summary,
        seconds=seconds,
    )


def _summary(record: RunRecord) -> dict[str, float]:
    return {
        "final/top1": record.top1,
        "final/top5": record.top5,
        "hours": record.hours,
        "images_per_second": record.images_per_second,
    }


def _timestamp(text: str) -> float:
    """Return a time in ISO 8601 as seconds since 1970; 0 if it is invalid."""
    try:
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError, OSError):
        return 0.0


def _flatten(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str | int | float]]:
    """Yield the leaves, as ("recipe.lr", 0.1), with names and values that every tracker accepts."""
    for key, value in values.items():
        name = prefix + (re.sub(r"[^A-Za-z0-9_]", "_", key).lstrip("_") or "unnamed")
        if isinstance(value, dict):
            yield from _flatten(value, f"{name}.")
        elif isinstance(value, int | float):
            yield name, value
        else:
            yield name, printable(value if isinstance(value, str) else json.dumps(value))[:MAX_VALUE_CHARACTERS]


def _safe_id(run_id: str) -> str:
    return run_id if re.fullmatch(r"[A-Za-z0-9_-]{1,64}", run_id) else _sha256(run_id)[:32]


def _file_name(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9_]", "_", text)[:40]


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()


def check_tracker(tracker: str) -> None:
    """Raise InputError if a tracker is unknown or not installed."""
    if tracker not in WRITERS:
        raise unknown("tracker", tracker, WRITERS)
    library = find_spec(tracker)
    if library is None or library.origin is None:  # without an origin, it is a folder with this name and not a library
        raise InputError(f"{tracker} is not installed: pip install 'timm-ablate[{tracker}]'")


def export(tracker: str, records: Sequence[RunRecord], folder: Path) -> str:
    """Write each record as a run to `folder`/TRACKER and return the command that displays the runs.

    Exporting a record again replaces its run.

    Args:
        tracker: tensorboard, wandb, mlflow or trackio.
        records: The records.
        folder: The folder to write to.

    Raises:
        InputError: If the tracker is unknown, is not installed, or fails.
    """
    check_tracker(tracker)
    target = folder.resolve() / tracker
    runs = json.dumps([asdict(to_tracker_run(record)) for record in records])
    try:
        target.mkdir(parents=True, exist_ok=True)
        if not os.access(target, os.W_OK):  # wandb would choose another folder
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        process = _run_writer(tracker, runs, target)
    except OSError as error:
        raise InputError(f"cannot write to {target}: {error.strerror or error}") from error
    if process.returncode:
        raise InputError(f"{tracker} could not write to {target}: {failure_reason(process.stderr)}")
    return VIEW_COMMANDS[tracker].format(shlex.quote(str(target)))


def failure_reason(output: str) -> str:
    """Return the last error in the output of a writer's process, in one line."""
    errors = re.findall(r"^[\w.]*(?:Error|Exception): .*", output, re.MULTILINE)
    return printable((errors or ["its process was killed"])[-1])


def _run_writer(tracker: str, runs: str, target: Path) -> subprocess.CompletedProcess[str]:
    """Run the writer in a child process whose home is a temporary folder."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as home:
        environment = {name: os.environ[name] for name in INHERITED_VARIABLES if name in os.environ}
        environment |= OFFLINE_SETTINGS | dict.fromkeys(("HOME", "USERPROFILE", "TMPDIR", "TEMP", "TMP"), home)
        root = str(Path(__file__).resolve().parents[2])
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [root, environment.get("PYTHONPATH")]))
        environment["PYTHONUSERBASE"] = site.getuserbase()
        command = [sys.executable, "-P", "-m", "ablation.report.tracker_writers", tracker, str(target)]
        return subprocess.run(command, input=runs, env=environment, cwd=home, capture_output=True, text=True)
