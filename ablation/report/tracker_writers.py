"""Write runs to experiment trackers, offline and into one folder. This module is executed in a child process.

python -m ablation.report.tracker_writers TRACKER FOLDER < runs.json
"""

import hashlib
import json
import os
import re
import shutil
import sys
import tempfile
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

FREE_BYTES = 2**20  # disk space that must remain free, because wandb and trackio do not report a full disk
MLFLOW_PARAMS_PER_BATCH = 100  # MLflow's limits
MLFLOW_METRICS_PER_BATCH = 1000


@dataclass(frozen=True)
class TrackerRun:
    """A record as a tracker stores it. All numbers are those of the record.

    Attributes:
        id: The run id, usable as a file name.
        name: The display name.
        spec: The spec, printable.
        benchmark: The name and id of the benchmark, usable as a file name.
        config: Flat configuration values.
        curve: (epoch, metrics) pairs.
        summary: The final metrics.
        seconds: When the run finished, in seconds since 1970.
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
        """The last epoch of the curve."""
        return self.curve[-1][0]


def write_tensorboard(runs: Sequence[TrackerRun], folder: Path) -> None:
    """Write one folder per run, replacing an existing one. TensorBoard stores scalars with 32 bits."""
    for run in runs:
        parent = folder / run.benchmark
        parent.mkdir(exist_ok=True)
        name = re.sub(r"[^A-Za-z0-9_+=,-]", "_", run.name)
        with tempfile.TemporaryDirectory(prefix=".", dir=parent) as temporary:
            _write_events(run, Path(temporary) / "new")
            for old in parent.glob(f"*.{run.id}"):
                shutil.rmtree(old)
            (Path(temporary) / "new").rename(parent / f"{name}.{run.id}")


def _write_events(run: TrackerRun, folder: Path) -> None:
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.plugins.hparams.summary_v2 import hparams_pb
    from tensorboard.plugins.text.summary_v2 import text_pb
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    def scalars(metrics: dict[str, float]) -> Any:
        return Summary(value=[Summary.Value(tag=name, simple_value=value) for name, value in metrics.items()])

    record = json.dumps({**run.config, **run.summary}, indent=2, ensure_ascii=False)
    summaries = [
        (0, hparams_pb(run.config, trial_id=run.id, start_time_secs=run.seconds)),
        (0, text_pb("record", "\n".join(f"    {line}" for line in record.splitlines()))),  # a code block in Markdown
        *((epoch, scalars(metrics)) for epoch, metrics in run.curve),
        (run.last_epoch, scalars(run.summary)),
    ]
    writer = EventFileWriter(str(folder))
    for step, summary in summaries:
        writer.add_event(Event(wall_time=run.seconds, step=step, summary=summary))
    writer.close()


def write_wandb(runs: Sequence[TrackerRun], folder: Path) -> None:
    """Write one folder offline-run-TIME-ID per run, replacing those of the same id; the seeds of a spec are a group."""
    import wandb

    settings = wandb.Settings(
        silent=True,
        console="off",
        disable_code=True,
        disable_git=True,
        x_disable_machine_info=True,
        x_disable_meta=True,
        x_disable_stats=True,
        x_save_requirements=False,
    )
    for run in runs:
        for old in folder.glob(f"wandb/offline-run-????????_??????-{run.id}"):
            shutil.rmtree(old)
        names: dict[str, Any] = {"project": run.benchmark, "group": run.spec, "name": run.name, "id": run.id}
        with wandb.init(**names, config=run.config, mode="offline", dir=str(folder), settings=settings) as wandb_run:
            for epoch, metrics in run.curve:
                wandb_run.log({"epoch": epoch, **metrics}, step=epoch)
            wandb_run.summary.update(run.summary)


def write_mlflow(runs: Sequence[TrackerRun], folder: Path) -> None:
    """Write an SQLite store. A run that is complete and identical is kept; different versions of it are deleted."""
    from mlflow import MlflowClient

    os.chdir(folder)  # the path below is relative, because a store URI cannot contain a question mark
    client = MlflowClient("sqlite:///mlflow.db")
    for run in runs:
        experiment = client.get_experiment_by_name(run.benchmark)
        experiment_id = experiment.experiment_id if experiment else client.create_experiment(run.benchmark)
        digest, is_complete = hashlib.sha256(json.dumps(asdict(run)).encode()).hexdigest(), False
        for old in client.search_runs([experiment_id], f"tags.run_id = '{run.id}'"):
            if not is_complete and old.data.tags.get("digest") == digest and old.info.status == "FINISHED":
                is_complete = True
            else:
                client.delete_run(old.info.run_id)
        if not is_complete:
            _write_mlflow_run(client, run, experiment_id, digest)


def _write_mlflow_run(client: Any, run: TrackerRun, experiment_id: str, digest: str) -> None:
    from mlflow.entities import Metric, Param

    time = int(run.seconds * 1000)
    created = client.create_run(experiment_id, time, {"run_id": run.id, "digest": digest}, run.name).info.run_id
    params = [Param(name, str(value)) for name, value in run.config.items()]
    points = [*run.curve, (run.last_epoch, run.summary)]
    metrics = [Metric(name, value, time, step) for step, values in points for name, value in values.items()]
    for start in range(0, len(params), MLFLOW_PARAMS_PER_BATCH):
        client.log_batch(created, params=params[start : start + MLFLOW_PARAMS_PER_BATCH])
    for start in range(0, len(metrics), MLFLOW_METRICS_PER_BATCH):
        client.log_batch(created, metrics[start : start + MLFLOW_METRICS_PER_BATCH])
    client.set_terminated(created, "FINISHED", time)


def write_trackio(runs: Sequence[TrackerRun], folder: Path) -> None:
    """Write one database per benchmark, replacing existing runs; the seeds of a spec are a group."""
    os.environ["TRACKIO_DIR"] = str(folder)  # read when trackio is imported
    import trackio

    options: dict[str, Any] = {"embed": False, "auto_log_cpu": False, "auto_log_gpu": False}
    with warnings.catch_warnings(record=True) as caught:  # trackio only warns if it cannot write
        warnings.simplefilter("always", UserWarning)
        for run in runs:
            for old in trackio.Api().runs(run.benchmark) if any(folder.glob(f"{run.benchmark}.db")) else ():
                if (old.config or {}).get("run_id") == run.id:
                    old.delete()
            trackio_run: Any = trackio.init(run.benchmark, run.name, run.spec, config=run.config, **options)
            for epoch, metrics in run.curve[:-1]:
                trackio_run.log(metrics, epoch)
            trackio_run.log(run.curve[-1][1] | run.summary, run.last_epoch)
            trackio_run.finish()
    if caught:
        raise OSError(str(caught[0].message))


WRITERS: dict[str, Callable[[Sequence[TrackerRun], Path], None]] = {
    "tensorboard": write_tensorboard,
    "wandb": write_wandb,
    "mlflow": write_mlflow,
    "trackio": write_trackio,
}


def main() -> None:
    """Write the runs read from standard input, and check that the disk is not full."""
    tracker, folder = sys.argv[1], Path(sys.argv[2])
    WRITERS[tracker]([TrackerRun(**run) for run in json.load(sys.stdin)], folder)
    with tempfile.TemporaryFile(dir=folder) as probe:
        probe.write(bytes(FREE_BYTES))


if __name__ == "__main__":
    main()
