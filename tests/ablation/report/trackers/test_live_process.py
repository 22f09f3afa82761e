from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from ablation.report.trackers.base import Points, TrackerRun, TrackerWriter
from ablation.report.trackers.live_process import Follower
from benchmarks.records.live_runs import LiveCommand, LiveRun, PlannedRun, begin_command, live_file, live_folder
from benchmarks.records.store import RecordStore, RunRecord


class RecordingWriter(TrackerWriter):
    """Keeps the calls instead of sending anything."""

    def __init__(self, folder: Path = Path(), online: bool = True) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def begin(self, run: TrackerRun) -> None:
        self.calls.append(("begin", run.name))

    def log(self, run: TrackerRun, points: Points) -> None:
        self.calls.append(("log", run.name, [epoch for epoch, _ in points]))

    def finish(self, run: TrackerRun) -> None:
        self.calls.append(("finish", run.name, run.summary["final/top1"]))

    def stop(self, run: TrackerRun) -> None:
        self.calls.append(("stop", run.name))


class Training:
    """Writes the files of a command that trains two seeds, one record after the other."""

    def __init__(self, out: Path, make_record: Callable[..., RunRecord]) -> None:
        self.out, self.store = out, RecordStore(out)
        self.store.create()
        epoch = make_record().curve[0]
        curve = [{**epoch, "epoch": number, "top1": 40.0 + number} for number in (1, 2, 3)]
        self.records = [make_record("baseline+se", seed, 43.0, curve=curve) for seed in (0, 1)]
        runs = tuple(PlannedRun(record.run_id, record.spec, 3, 0.1) for record in self.records)
        begin_command(out, LiveCommand("baseline+se", "", "test", "", 0, runs))

    def train(self, seed: int, epochs: int) -> None:
        import json
        from dataclasses import asdict

        record = self.records[seed]
        names = {field.name for field in fields(LiveRun)} & {field.name for field in fields(record)}
        shared = {name: getattr(record, name) for name in names - {"format", "curve"}}
        lines = [asdict(LiveRun(epochs=3, **shared)), *record.curve[:epochs]]
        live_file(self.out, record.run_id).write_text("".join(json.dumps(line) + "\n" for line in lines))

    def record(self, seed: int) -> None:
        self.store.append(self.records[seed])
        self.fail(seed)

    def fail(self, seed: int) -> None:
        live_file(self.out, self.records[seed].run_id).unlink(missing_ok=True)


@pytest.fixture
def training(tmp_path: Path, make_record: Callable[..., RunRecord]) -> Training:
    return Training(tmp_path / "out", make_record)


@pytest.fixture
def writer() -> RecordingWriter:
    return RecordingWriter()


def calls_of(follower: Follower) -> list[tuple[Any, ...]]:
    """Poll, and return the new calls."""
    assert isinstance(follower.writer, RecordingWriter)
    follower.writer.calls.clear()
    follower.poll()
    return list(follower.writer.calls)


def test_each_epoch_is_sent_once_and_the_record_ends_the_run(training: Training, writer: RecordingWriter) -> None:
    follower, name = Follower(writer, training.out), training.records[0].spec + " seed 0"
    assert calls_of(follower) == []
    training.train(0, 0)
    assert calls_of(follower) == [("begin", name)]
    training.train(0, 2)
    assert calls_of(follower) == [("log", name, [1, 2])]
    assert calls_of(follower) == []
    training.train(0, 3)
    training.record(0)
    assert calls_of(follower) == [("log", name, [3]), ("finish", name, 43.0)]
    assert calls_of(follower) == []
    assert follower.pending == {training.records[1].run_id}


def test_several_runs_at_once_are_told_apart(training: Training, writer: RecordingWriter) -> None:
    follower = Follower(writer, training.out)
    for epochs in (1, 2):
        training.train(0, epochs)
        training.train(1, epochs)
        logs = [call for call in calls_of(follower) if call[0] == "log"]
        assert logs == [("log", f"{training.records[0].spec} seed {seed}", [epochs]) for seed in (0, 1)]


def test_a_run_that_ends_between_two_looks_is_sent_whole(training: Training, writer: RecordingWriter) -> None:
    follower = Follower(writer, training.out)
    training.record(1)
    assert [call[0] for call in calls_of(follower)] == ["begin", "log", "finish"]


def test_a_run_that_starts_over_is_sent_again(training: Training, writer: RecordingWriter) -> None:
    follower = Follower(writer, training.out)
    training.train(0, 2)
    calls_of(follower)
    training.train(0, 1)
    assert [call[0] for call in calls_of(follower)] == ["begin", "log"]


def test_failed_and_interrupted_runs_are_stopped(training: Training, writer: RecordingWriter) -> None:
    follower = Follower(writer, training.out)
    training.train(0, 1)
    training.train(1, 1)
    calls_of(follower)
    training.fail(0)
    assert [call[0] for call in calls_of(follower)] == ["stop"]
    assert follower.pending == {training.records[1].run_id}
    follower.stop_all()
    assert writer.calls[-1] == ("stop", training.records[1].spec + " seed 1")


def test_runs_of_other_commands_are_not_sent(
    training: Training, writer: RecordingWriter, make_record: Callable[..., RunRecord]
) -> None:
    training.store.append(make_record("baseline+cbam"))
    training.records.append(replace(training.records[0], seed=7))
    training.train(2, 1)
    assert calls_of(Follower(writer, training.out)) == []


def test_without_a_command_nothing_is_pending(tmp_path: Path, writer: RecordingWriter) -> None:
    live_folder(tmp_path).mkdir()
    follower = Follower(writer, tmp_path)
    assert not follower.pending
    follower.poll()
    assert writer.calls == []
