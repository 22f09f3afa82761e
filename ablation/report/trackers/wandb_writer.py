"""Write runs to Weights & Biases."""

import shutil
from pathlib import Path
from typing import Any

from ablation.report.trackers.base import Points, TrackerRun, TrackerWriter


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
