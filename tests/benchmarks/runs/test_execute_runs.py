from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

from benchmarks.definition.config_parser import read_run_config
from benchmarks.execution.executor import Executor, Future, Session, WorkerFailed
from benchmarks.execution.progress import Progress, Report, silent
from benchmarks.runs.execute_runs import Job, execute_jobs, execute_runs
from benchmarks.runs.overall_progress import OverallProgress
from benchmarks.runs.run import Run


class EchoExecutor(Executor):
    """Executor whose calls return their arguments, most recently started call first, and which logs all events."""

    def __init__(self) -> None:
        self.log: list[tuple[Any, ...]] = []
        self.is_open = False

    @contextmanager
    def session(self, runs_per_device: int = 1) -> Iterator[Session]:
        self.is_open = True
        try:
            yield EchoSession(self, runs_per_device)
        finally:
            self.is_open = False


class EchoSession(Session):
    def __init__(self, executor: EchoExecutor, max_calls: int) -> None:
        self.executor, self.max_calls = executor, max_calls
        self.futures: list[Future] = []

    @property
    def has_capacity(self) -> bool:
        return len(self.futures) < self.max_calls

    def submit(
        self, function: str, *args: Any, time_limit: float | None = None, on_progress: Report = silent
    ) -> Future:
        self.executor.log.append(("start", function, args[0], time_limit))
        on_progress(Progress("working", 0, 1))
        self.futures.append(Future(args[0]))
        return self.futures[-1]

    def wait(self) -> list[Future]:
        return [self.futures.pop()] if self.futures else []


def test_jobs_may_depend_on_outcomes_and_start_when_there_is_room() -> None:
    executor = EchoExecutor()
    waiting = ["a", "b", "c"]
    asked: list[int] = []

    def next_job() -> Job[str] | None:
        asked.append(len(waiting))
        return Job(waiting[0].upper(), "module:function", (waiting.pop(0),), 7.0) if waiting else None

    def on_finished(subject: str, outcome: Any) -> None:
        executor.log.append(("end", subject, outcome))
        if subject == "A":  # A is the last of the first three jobs to end
            waiting.append("d")

    progress: list[tuple[str, Progress]] = []
    execute_jobs(next_job, executor, 2, lambda *report: progress.append(report), on_finished)
    assert executor.log == [
        ("start", "module:function", "a", 7.0),
        ("start", "module:function", "b", 7.0),
        ("end", "B", "b"),
        ("start", "module:function", "c", 7.0),
        ("end", "C", "c"),
        ("end", "A", "a"),
        ("start", "module:function", "d", 7.0),
        ("end", "D", "d"),
    ]
    assert [subject for subject, _ in progress] == ["A", "B", "C", "D"]
    assert asked[-1] == 0


def test_an_exception_in_a_callback_closes_the_session() -> None:
    executor = EchoExecutor()

    def fail(subject: str, outcome: Any) -> None:
        raise OSError("No space left on device")

    with pytest.raises(OSError, match="No space left"):
        execute_jobs(lambda: Job("a", "module:function", ("a",)), executor, 2, lambda *_: None, fail)
    assert len(executor.log) == 2
    assert not executor.is_open


def test_teachers_are_trained_before_their_students(run: Run) -> None:
    specs = ["resnet8@teacher=(resnet8+se@teacher=(resnet20))", "resnet20", "resnet8+se@teacher=(resnet20)", "resnet8"]
    runs = [replace(run, config=read_run_config(spec), runs_per_device=2) for spec in specs]
    executor, finished = EchoExecutor(), list[str]()
    execute_runs(runs, executor, 60.0, lambda *_: None, lambda run, outcome: finished.append(run.spec))
    assert finished == ["resnet8", "resnet20", specs[2], specs[0]]
    assert {entry[1:2] + entry[3:] for entry in executor.log} == {("benchmarks.runs.dispatch:execute_run", 60.0)}


def test_no_runs_open_no_session() -> None:
    executor = EchoExecutor()
    execute_runs([], executor, 60.0, lambda *_: None, lambda *_: None)
    assert executor.log == []


def test_a_future_returns_its_outcome_or_raises_it() -> None:
    assert Future(3).result() == 3
    with pytest.raises(WorkerFailed, match="killed"):
        Future(WorkerFailed("killed")).result()


@pytest.fixture
def two_runs(run: Run) -> list[Run]:
    return [run, replace(run, seed=1)]


def overall(runs: list[Run], report: Callable[[Progress], None], task: str = "") -> OverallProgress:
    return OverallProgress(runs, {run.id: f"seed {run.seed}" for run in runs}, report, task)


def test_overall_progress_adds_up_epochs(two_runs: list[Run]) -> None:
    reports: list[Progress] = []
    progress = overall(two_runs, reports.append)
    progress.update(two_runs[0], Progress("training", 1, 2, "top-1 50.00"))
    progress.finish(two_runs[0])
    progress.update(two_runs[1], Progress("training", 1, 2))
    assert reports == [Progress("seed 0 (1/2)", 1, 4, "top-1 50.00"), Progress("seed 1 (2/2)", 3, 4)]
    assert progress.num_finished == 1


def test_overall_progress_names_the_run_of_a_warning(two_runs: list[Run]) -> None:
    reports: list[Progress] = []
    overall(two_runs, reports.append, "testing").update(two_runs[1], Progress("training", 0, 0, warning="disk full"))
    assert reports == [Progress("seed 1", 0, 0, warning="disk full")]
