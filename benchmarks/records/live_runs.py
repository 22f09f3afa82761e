"""The runs of a command in progress, in `live/` of its output folder: what it trains, and each run's epochs so far.

Trackers and `ablate watch` follow these files. They are not the source of truth: a run resumes from its checkpoint, and
its result is its record. They are therefore not flushed to the disk, and a file that cannot be written does not stop a
training.
"""

import json
import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from benchmarks.definition.names import MAX_FILE_NAME_CHARACTERS, safe_file_name
from benchmarks.definition.validation import strict_adapter
from benchmarks.records.atomic_write import replace_file
from benchmarks.records.store import make_run_id

LIVE_FORMAT = 1  # increase with any change to the files


@dataclass(frozen=True)
class PlannedRun:
    """A run that a command trains.

    Attributes:
        run_id: The id of the run.
        label: The name of the run in messages.
        epochs: The number of epochs.
        predicted_hours: The predicted hours of training.
    """

    run_id: str
    label: str
    epochs: int
    predicted_hours: float


@dataclass(frozen=True)
class LiveCommand:
    """The command that last trained runs in an output folder, and its runs.

    Attributes:
        format: The format of the file.
        plan: The text of the plan.
        benchmark_id: The benchmark id of all runs.
        split: The split that the models are evaluated on.
        started: When the training started, UTC, ISO 8601.
        num_recorded: The number of runs of the plan that were recorded before.
        runs: The runs to train.
    """

    format: int = field(default=LIVE_FORMAT, kw_only=True)
    plan: str
    benchmark_id: str
    split: str
    started: str
    num_recorded: int
    runs: tuple[PlannedRun, ...]


@dataclass(frozen=True)
class LiveRun:
    """A run in training. Fields with the names of those of a `RunRecord` have the same meaning.

    Attributes:
        epochs: The number of epochs to train.
        curve: The finished epochs.
        updated: When the file was last written, in seconds since 1970.
    """

    format: int = field(default=LIVE_FORMAT, kw_only=True)
    spec: str
    key: str
    seed: int
    benchmark: str
    benchmark_id: str
    definition: dict[str, Any]
    baseline: str
    budget: dict[str, Any]
    plan: str
    params: int
    macs: int
    predicted_hours: float
    device: str
    versions: dict[str, str]
    commit: str
    train_images: int
    overrides: dict[str, Any]
    epochs: int
    curve: list[dict[str, float]] = field(default_factory=list)
    updated: float = 0.0

    @property
    def run_id(self) -> str:
        """The id of the run."""
        return make_run_id(self.key, self.seed, self.benchmark_id)


def live_folder(out: Path) -> Path:
    """Return the folder of these files."""
    return out / "live"


def live_file(out: Path, run_id: str) -> Path:
    """Return the file of a run."""
    return live_folder(out) / f"{safe_file_name(run_id, MAX_FILE_NAME_CHARACTERS)}.jsonl"


class LiveCurve:
    """Writes the file of a run: a line with its fields, then a line per finished epoch.

    Args:
        path: The file.
        run: The run.
        warn: Called once, with a message, if the file cannot be written.
    """

    def __init__(self, path: Path, run: LiveRun, warn: Callable[[str], None]) -> None:
        self.path, self.run, self._warn = path, run, warn
        self._num_written = 0
        self._started = self._failed = False

    def update(self, curve: Sequence[Any]) -> None:
        """Write the new epochs of a curve of `EpochMetrics`.

        The first call replaces the file, so that the file of a resumed run starts with the epochs of its checkpoint.
        """
        if self._failed:
            return
        new = "".join(json.dumps(asdict(metrics)) + "\n" for metrics in curve[self._num_written :])
        try:
            self._write(new)
        except OSError as error:
            self._failed = True
            self._warn(f"cannot write {self.path}: {error.strerror or error}; later epochs are not tracked")
        self._num_written = len(curve)

    def _write(self, lines: str) -> None:
        if self._started:
            with self.path.open("ab", buffering=0) as file:  # one system call, so that a kill leaves whole lines
                file.write(lines.encode())
            return
        content = json.dumps(asdict(self.run)) + "\n" + lines
        replace_file(self.path, lambda file: file.write_text(content, encoding="utf-8"))
        self._started = True


def begin_command(out: Path, command: LiveCommand) -> None:
    """Replace the files of the last command. Raises OSError if they cannot be written."""
    shutil.rmtree(live_folder(out), ignore_errors=True)
    content = json.dumps(asdict(command))
    replace_file(_command_file(out), lambda file: file.write_text(content, encoding="utf-8"))


def read_command(out: Path) -> LiveCommand | None:
    """Return the last command; None if there is no such file, or it cannot be read."""
    try:
        command: LiveCommand = strict_adapter(LiveCommand, PlannedRun).validate_json(_command_file(out).read_bytes())
    except (OSError, ValueError):
        return None
    return command if command.format == LIVE_FORMAT else None


def read_live_runs(out: Path) -> list[LiveRun]:
    """Return the runs in training, and those whose training was interrupted, sorted by id."""
    runs = []
    for path in sorted(live_folder(out).glob("*.jsonl")):
        with suppress(OSError, ValueError):  # removed just now, or written by another version
            runs.append(read_live_run(path))
    return runs


def read_live_run(path: Path) -> LiveRun:
    """Read the file of a run. Raises OSError or ValueError if that is not possible."""
    from pydantic import TypeAdapter

    with path.open("rb") as file:
        updated = path.stat().st_mtime
        first, *lines = file.read().split(b"\n")
    run: LiveRun = strict_adapter(LiveRun).validate_json(first)
    if run.format != LIVE_FORMAT:
        raise ValueError("another format")
    adapter = TypeAdapter(dict[str, float])
    return replace(run, curve=[adapter.validate_json(line) for line in lines[:-1]], updated=updated)


def _command_file(out: Path) -> Path:
    return live_folder(out) / "command.json"
