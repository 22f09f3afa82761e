"""Write runs to experiment trackers: after training, or while they are trained. Runs in a child process.

python -m ablation.report.tracker_writers TRACKER FOLDER < runs.json
"""

import contextvars
import hashlib
import json
import os
import re
import shutil
import sys
import tempfile
import warnings
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

FREE_BYTES = 2**20  # disk space that must remain free, because wandb and trackio do not report a full disk
MLFLOW_PARAMS_PER_BATCH = 100  # MLflow's limits
MLFLOW_METRICS_PER_BATCH = 1000

Points = Sequence[tuple[int, dict[str, float]]]


@dataclass(frozen=True)
class TrackerRun:
    """A run as a tracker stores it. All numbers are those of the record.

    Attributes:
        id: The run id, usable as a file name.
        name: The display name.
        spec: The spec, printable.
        benchmark: The name and id of the benchmark, usable as a file name.
        config: Flat configuration values.
        curve: (epoch, metrics) pairs.
        summary: The final metrics; empty while the run is trained.
        seconds: When the run finished or its last epoch ended, in seconds since 1970.
    """

    id: str
    name: str
    spec: str
    benchmark: str
    config: dict[str, str | int | float]
    curve: list[tuple[int, dict[str, float]]]
    summary: dict[str, float]
    seconds: float

    @property
    def last_epoch(self) -> int:
        """The last epoch of the curve; 0 before the end of the first one."""
        return self.curve[-1][0] if self.curve else 0


class TrackerWriter(ABC):
    """Writes runs to one tracker. Several runs may be in progress.

    Args:
        folder: The folder to write to.
        online: Whether the user's settings for a server apply. If not, everything is written to the folder.
    """

    @abstractmethod
    def __init__(self, folder: Path, online: bool) -> None: ...

    def is_complete(self, run: TrackerRun) -> bool:
        """Return whether the tracker contains this run already, with the same values."""
        return False

    @abstractmethod
    def begin(self, run: TrackerRun) -> None:
        """Start a run, without its curve. An earlier run with the same id is replaced."""

    @abstractmethod
    def log(self, run: TrackerRun, points: Points) -> None:
        """Add epochs to a run that was started."""

    @abstractmethod
    def finish(self, run: TrackerRun) -> None:
        """Add the summary of a run, and end it."""

    @abstractmethod
    def stop(self, run: TrackerRun) -> None:
        """End a run that failed or was interrupted."""


class TensorBoardWriter(TrackerWriter):
    """Writes one folder per run. TensorBoard stores scalars with 32 bits."""

    def __init__(self, folder: Path, online: bool) -> None:
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        self._folder, self._new_writer = folder, EventFileWriter
        self._writers: dict[str, Any] = {}

    def begin(self, run: TrackerRun) -> None:
        """See `TrackerWriter.begin`."""
        from tensorboard.plugins.hparams.summary_v2 import hparams_pb

        self._close(run)
        parent = self._folder / run.benchmark
        for old in parent.glob(f"*.{run.id}"):
            shutil.rmtree(old)
        name = re.sub(r"[^A-Za-z0-9_+=,-]", "_", run.name)
        self._writers[run.id] = self._new_writer(str(parent / f"{name}.{run.id}"))
        self._add(run, 0, hparams_pb(run.config, trial_id=run.id, start_time_secs=run.seconds))

    def log(self, run: TrackerRun, points: Points) -> None:
        """See `TrackerWriter.log`."""
        from tensorboard.compat.proto.summary_pb2 import Summary

        for epoch, metrics in points:
            values = [Summary.Value(tag=name, simple_value=value) for name, value in metrics.items()]
            self._add(run, epoch, Summary(value=values))
        self._writers[run.id].flush()

    def finish(self, run: TrackerRun) -> None:
        """See `TrackerWriter.finish`."""
        from tensorboard.plugins.text.summary_v2 import text_pb

        record = json.dumps({**run.config, **run.summary}, indent=2, ensure_ascii=False)
        code_block = "\n".join(f"    {line}" for line in record.splitlines())  # in Markdown
        self._add(run, 0, text_pb("record", code_block))
        self.log(run, [(run.last_epoch, run.summary)])
        self._close(run)

    def stop(self, run: TrackerRun) -> None:
        """See `TrackerWriter.stop`."""
        self._close(run)

    def _add(self, run: TrackerRun, step: int, summary: Any) -> None:
        from tensorboard.compat.proto.event_pb2 import Event

        self._writers[run.id].add_event(Event(wall_time=run.seconds, step=step, summary=summary))

    def _close(self, run: TrackerRun) -> None:
        if run.id in self._writers:
            self._writers.pop(run.id).close()


class WandbWriter(TrackerWriter):
    """Writes one wandb run per run; the seeds of a spec are a group.

    Offline, that is a folder offline-run-TIME-ID. On a server, a new run with a known id overwrites the old one.
    """

    def __init__(self, folder: Path, online: bool) -> None:
        import wandb

        self._wandb, self._folder = wandb, folder
        self._mode: Any = None if online else "offline"  # None: WANDB_MODE, or online
        self._runs: dict[str, Any] = {}

    def begin(self, run: TrackerRun) -> None:
        """See `TrackerWriter.begin`."""
        if run.id in self._runs:
            self.stop(run)
        for old in self._folder.glob(f"wandb/offline-run-????????_??????-{run.id}"):
            shutil.rmtree(old)
        settings = self._wandb.Settings(
            silent=True,
            console="off",
            disable_code=True,
            disable_git=True,
            reinit="create_new",  # several runs at once
            x_disable_machine_info=True,
            x_disable_meta=True,
            x_disable_stats=True,
            x_save_requirements=False,
        )
        names: dict[str, Any] = {"project": run.benchmark, "group": run.spec, "name": run.name, "id": run.id}
        self._runs[run.id] = self._wandb.init(
            **names, config=run.config, mode=self._mode, dir=str(self._folder), settings=settings
        )

    def log(self, run: TrackerRun, points: Points) -> None:
        """See `TrackerWriter.log`."""
        for epoch, metrics in points:
            self._runs[run.id].log({"epoch": epoch, **metrics}, step=epoch, commit=True)

    def finish(self, run: TrackerRun) -> None:
        """See `TrackerWriter.finish`."""
        self._runs[run.id].summary.update(run.summary)
        self._runs.pop(run.id).finish()

    def stop(self, run: TrackerRun) -> None:
        """See `TrackerWriter.stop`."""
        self._runs.pop(run.id).finish(exit_code=1)


class MlflowWriter(TrackerWriter):
    """Writes to MLFLOW_TRACKING_URI if it is set and applies, otherwise to an SQLite store in the folder."""

    def __init__(self, folder: Path, online: bool) -> None:
        from mlflow import MlflowClient

        uri = os.environ.get("MLFLOW_TRACKING_URI", "") if online else ""
        if not uri:
            os.chdir(folder)  # the path below is relative, because a store URI cannot contain a question mark
        self._client = MlflowClient(uri or "sqlite:///mlflow.db")
        self._mlflow_ids: dict[str, str] = {}

    def is_complete(self, run: TrackerRun) -> bool:
        """See `TrackerWriter.is_complete`."""
        return any(
            old.data.tags.get("digest") == _digest(run) and old.info.status == "FINISHED" for old in self._find(run)
        )

    def begin(self, run: TrackerRun) -> None:
        """See `TrackerWriter.begin`."""
        from mlflow.entities import Param

        for old in self._find(run):
            self._client.delete_run(old.info.run_id)
        created = self._client.create_run(self._experiment(run), _milliseconds(run), {"run_id": run.id}, run.name)
        self._mlflow_ids[run.id] = created.info.run_id
        params = [Param(name, str(value)) for name, value in run.config.items()]
        for start in range(0, len(params), MLFLOW_PARAMS_PER_BATCH):
            batch = params[start : start + MLFLOW_PARAMS_PER_BATCH]
            self._client.log_batch(created.info.run_id, params=batch)

    def log(self, run: TrackerRun, points: Points) -> None:
        """See `TrackerWriter.log`."""
        from mlflow.entities import Metric

        time = _milliseconds(run)
        metrics = [Metric(name, value, time, step) for step, values in points for name, value in values.items()]
        for start in range(0, len(metrics), MLFLOW_METRICS_PER_BATCH):
            batch = metrics[start : start + MLFLOW_METRICS_PER_BATCH]
            self._client.log_batch(self._mlflow_ids[run.id], batch)

    def finish(self, run: TrackerRun) -> None:
        """See `TrackerWriter.finish`."""
        self.log(run, [(run.last_epoch, run.summary)])
        self._client.set_tag(self._mlflow_ids[run.id], "digest", _digest(run))
        self._client.set_terminated(self._mlflow_ids.pop(run.id), "FINISHED", _milliseconds(run))

    def stop(self, run: TrackerRun) -> None:
        """See `TrackerWriter.stop`."""
        self._client.set_terminated(self._mlflow_ids.pop(run.id), "KILLED", _milliseconds(run))

    def _find(self, run: TrackerRun) -> list[Any]:
        return list(self._client.search_runs([self._experiment(run)], f"tags.run_id = '{run.id}'"))

    def _experiment(self, run: TrackerRun) -> str:
        experiment = self._client.get_experiment_by_name(run.benchmark)
        return str(experiment.experiment_id if experiment else self._client.create_experiment(run.benchmark))


def _digest(run: TrackerRun) -> str:
    return hashlib.sha256(json.dumps(asdict(run)).encode()).hexdigest()


def _milliseconds(run: TrackerRun) -> int:
    return int(run.seconds * 1000)


class TrackioWriter(TrackerWriter):
    """Writes one database per benchmark to the folder; the seeds of a spec are a group. `trackio sync` publishes it."""

    def __init__(self, folder: Path, online: bool) -> None:
        os.environ["TRACKIO_DIR"] = str(folder)  # read when trackio is imported
        for variable in ("TRACKIO_SPACE_ID", "TRACKIO_SERVER_URL"):
            os.environ.pop(variable, None)
        import trackio

        self._trackio, self._folder = trackio, folder
        self._caught = warnings.catch_warnings(record=True).__enter__()  # trackio only warns if it cannot write
        warnings.simplefilter("always", UserWarning)
        self._runs: dict[str, Any] = {}

    def begin(self, run: TrackerRun) -> None:
        """See `TrackerWriter.begin`."""
        if run.id in self._runs:
            self.stop(run)
        for old in self._trackio.Api().runs(run.benchmark) if any(self._folder.glob(f"{run.benchmark}.db")) else ():
            if (old.config or {}).get("run_id") == run.id:
                old.delete()
        options: dict[str, Any] = {"embed": False, "auto_log_cpu": False, "auto_log_gpu": False}

        def init() -> Any:
            return self._trackio.init(run.benchmark, run.name, run.spec, config=run.config, **options)

        self._runs[run.id] = contextvars.Context().run(init)  # init() ends the previous run of its context

    def log(self, run: TrackerRun, points: Points) -> None:
        """See `TrackerWriter.log`."""
        for epoch, metrics in points:
            self._runs[run.id].log(metrics, epoch)
        self._raise_warning()

    def finish(self, run: TrackerRun) -> None:
        """See `TrackerWriter.finish`."""
        self.log(run, [(run.last_epoch, run.summary)])
        self.stop(run)

    def stop(self, run: TrackerRun) -> None:
        """See `TrackerWriter.stop`."""
        self._runs.pop(run.id).finish()
        self._raise_warning()

    def _raise_warning(self) -> None:
        if warning := next((caught for caught in self._caught or () if caught.category is UserWarning), None):
            raise OSError(str(warning.message))


WRITERS: dict[str, type[TrackerWriter]] = {
    "tensorboard": TensorBoardWriter,
    "wandb": WandbWriter,
    "mlflow": MlflowWriter,
    "trackio": TrackioWriter,
}


def write_runs(writer: TrackerWriter, runs: Sequence[TrackerRun]) -> None:
    """Write finished runs, replacing earlier versions of them."""
    for run in runs:
        if not writer.is_complete(run):
            writer.begin(run)
            writer.log(run, run.curve)
            writer.finish(run)


def main() -> None:
    """Write the runs read from standard input, and check that the disk is not full."""
    tracker, folder = sys.argv[1], Path(sys.argv[2])
    write_runs(WRITERS[tracker](folder, online=False), [TrackerRun(**run) for run in json.load(sys.stdin)])
    with tempfile.TemporaryFile(dir=folder) as probe:
        probe.write(bytes(FREE_BYTES))


if __name__ == "__main__":
    main()
