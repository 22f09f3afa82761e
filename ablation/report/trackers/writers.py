"""Write finished runs to a tracker. This module is executed in a child process.

python -m ablation.report.trackers.writers TRACKER FOLDER < runs.json
"""

import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from ablation.report.trackers.base import TrackerRun, TrackerWriter
from ablation.report.trackers.mlflow_writer import MlflowWriter
from ablation.report.trackers.tensorboard_writer import TensorBoardWriter
from ablation.report.trackers.trackio_writer import TrackioWriter
from ablation.report.trackers.wandb_writer import WandbWriter

FREE_BYTES = 2**20  # disk space that must remain free, because wandb and trackio do not report a full disk

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
