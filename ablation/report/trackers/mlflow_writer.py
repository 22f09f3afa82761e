"""Write runs to MLflow."""

import hashlib
import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ablation.report.trackers.base import Points, TrackerRun, TrackerWriter

PARAMS_PER_BATCH = 100  # MLflow's limits
METRICS_PER_BATCH = 1000


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
        for start in range(0, len(params), PARAMS_PER_BATCH):
            batch = params[start : start + PARAMS_PER_BATCH]
            self._client.log_batch(created.info.run_id, params=batch)

    def log(self, run: TrackerRun, points: Points) -> None:
        """See `TrackerWriter.log`."""
        from mlflow.entities import Metric

        time = _milliseconds(run)
        metrics = [Metric(name, value, time, step) for step, values in points for name, value in values.items()]
        for start in range(0, len(metrics), METRICS_PER_BATCH):
            batch = metrics[start : start + METRICS_PER_BATCH]
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
