"""Write runs to Trackio."""

import contextvars
import os
import warnings
from pathlib import Path
from typing import Any

from ablation.report.trackers.base import Points, TrackerRun, TrackerWriter


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
