"""Write runs for TensorBoard."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

from ablation.report.trackers.base import Points, TrackerRun, TrackerWriter


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
