"""Export records to an experiment tracker: offline, after training, and into one folder.

The tracker's library runs in a child process with its own environment. What it prints, the files it leaves in a home
folder, and settings that would send data to a server therefore do not affect the command or the user.
"""

import errno
import json
import os
import re
import shlex
import site
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path

from ablation.report.trackers.convert import to_tracker_run
from ablation.report.trackers.writers import WRITERS
from arch.errors import InputError, unknown
from arch.text import printable
from benchmarks.records.store import RunRecord

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
        root = str(Path(__file__).resolve().parents[3])
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [root, environment.get("PYTHONPATH")]))
        environment["PYTHONUSERBASE"] = site.getuserbase()
        command = [sys.executable, "-P", "-m", "ablation.report.trackers.writers", tracker, str(target)]
        return subprocess.run(command, input=runs, env=environment, cwd=home, capture_output=True, text=True)
