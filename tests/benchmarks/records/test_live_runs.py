import json
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path

import pytest

from benchmarks.records.live_runs import (
    LiveCommand,
    LiveCurve,
    LiveRun,
    PlannedRun,
    begin_command,
    live_file,
    live_folder,
    read_command,
    read_live_run,
    read_live_runs,
)
from benchmarks.records.store import RunRecord

COMMAND = LiveCommand(
    "baseline+se", "41a6f42a707c", "test", "2026-01-01T00:00:00+00:00", 2, (PlannedRun("id", "+se seed 0", 3, 0.1),)
)


@dataclass
class Metrics:
    epoch: int
    top1: float


@pytest.fixture
def live_run(make_record: Callable[..., RunRecord]) -> LiveRun:
    record = make_record()
    shared = {field.name for field in fields(LiveRun)} & {field.name for field in fields(record)} - {"format", "curve"}
    return LiveRun(epochs=3, **{name: getattr(record, name) for name in shared})


def curve(length: int) -> list[Metrics]:
    return [Metrics(epoch, 10.0 * epoch) for epoch in range(1, length + 1)]


def epochs(path: Path) -> list[float]:
    return [line["epoch"] for line in read_live_run(path).curve]


def test_epochs_are_appended_and_read_back(live_run: LiveRun, tmp_path: Path) -> None:
    warnings: list[str] = []
    path = live_file(tmp_path, live_run.run_id)
    writer = LiveCurve(path, live_run, warnings.append)
    for length in (0, 1, 1, 3):
        writer.update(curve(length))
        assert epochs(path) == list(range(1, length + 1))
    [read] = read_live_runs(tmp_path)
    assert read.updated > 0
    assert replace(read, updated=0.0, curve=[]) == live_run
    assert read.curve[-1] == {"epoch": 3.0, "top1": 30.0}
    assert warnings == []


def test_a_resumed_run_replaces_the_epochs_after_its_checkpoint(live_run: LiveRun, tmp_path: Path) -> None:
    path = live_file(tmp_path, live_run.run_id)
    LiveCurve(path, live_run, print).update(curve(5))
    resumed = LiveCurve(path, live_run, print)
    resumed.update(curve(2))
    assert epochs(path) == [1, 2]
    resumed.update(curve(3))
    assert epochs(path) == [1, 2, 3]


def test_an_incomplete_last_line_is_ignored(live_run: LiveRun, tmp_path: Path) -> None:
    path = live_file(tmp_path, live_run.run_id)
    LiveCurve(path, live_run, print).update(curve(2))
    content = path.read_bytes()
    for length in (len(content) - 1, len(content) - 5):
        path.write_bytes(content[:length])
        assert epochs(path) == [1]


@pytest.mark.parametrize("content", ["", "{}\n", "[]\n", "null\nnull\n", "\udcff", '{"format": 1}\n'])
def test_unreadable_files_are_skipped(content: str, tmp_path: Path) -> None:
    live_folder(tmp_path).mkdir()
    for name in ("a.jsonl", "command.json"):
        (live_folder(tmp_path) / name).write_bytes(content.encode(errors="surrogateescape"))
    (live_folder(tmp_path) / "b.jsonl").mkdir()
    assert read_live_runs(tmp_path) == []
    assert read_command(tmp_path) is None


def test_values_of_a_wrong_type_and_other_formats_are_skipped(live_run: LiveRun, tmp_path: Path) -> None:
    path = live_file(tmp_path, live_run.run_id)
    LiveCurve(path, live_run, print).update(curve(1))
    first, second = path.read_text().splitlines()
    for line, epoch in ((first, '{"epoch": "<script>"}'), (first, "NaN"), (first.replace("1", "2", 1), second)):
        path.write_text(f"{line}\n{epoch}\n")
        assert read_live_runs(tmp_path) == []


def test_a_file_that_cannot_be_written_is_one_warning(live_run: LiveRun, tmp_path: Path) -> None:
    (tmp_path / "live").touch()
    warnings: list[str] = []
    writer = LiveCurve(live_file(tmp_path, live_run.run_id), live_run, warnings.append)
    for length in range(4):
        writer.update(curve(length))
    assert len(warnings) == 1
    assert "live" in warnings[0]


def test_a_command_replaces_the_files_of_the_last_one(live_run: LiveRun, tmp_path: Path) -> None:
    assert read_command(tmp_path) is None
    LiveCurve(live_file(tmp_path, live_run.run_id), live_run, print).update(curve(1))
    begin_command(tmp_path, COMMAND)
    assert read_live_runs(tmp_path) == []
    assert read_command(tmp_path) == COMMAND
    file = live_folder(tmp_path) / "command.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "format": 99}))
    assert read_command(tmp_path) is None
