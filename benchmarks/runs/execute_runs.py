"""The loop that executes runs and other jobs: it starts them, limits their time and passes on their outcomes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar

from benchmarks.execution.executor import Executor, Future
from benchmarks.execution.progress import Progress
from benchmarks.records.store import RunRecord
from benchmarks.runs.run import Run

T = TypeVar("T")


@dataclass(frozen=True)
class Job(Generic[T]):
    """A call to submit to an executor.

    Attributes:
        subject: What the job is for, such as a run or a trial. Callbacks receive it.
        function, args, time_limit: See `benchmarks.execution.executor.Session.submit`.
    """

    subject: T
    function: str
    args: tuple[Any, ...]
    time_limit: float | None = None


def execute_jobs(
    next_job: Callable[[], Job[T] | None],
    executor: Executor,
    max_parallel: int,
    on_progress: Callable[[T, Progress], None],
    on_finished: Callable[[T, Any], None],
) -> None:
    """Execute jobs until all have finished and there are no more.

    An exception that a callback raises ends all jobs.

    Args:
        next_job: Returns the next job to start, or None if there is none now. It is called again after each job that
            finishes, so that jobs may depend on outcomes.
        executor: Runs the jobs.
        max_parallel: The number of jobs that may share the device.
        on_progress: Called with the subject of a job and its progress.
        on_finished: Called with the subject of a job and its outcome, which may be an exception, before the next job
            starts.

    Raises:
        KeyboardInterrupt, Terminated: If the command was asked to stop, after the jobs have saved their state.
    """
    subjects: dict[Future, T] = {}
    with executor.session(max_parallel) as session:
        while True:
            while session.has_capacity and (job := next_job()) is not None:
                future = session.submit(
                    job.function,
                    *job.args,
                    time_limit=job.time_limit,
                    on_progress=partial(on_progress, job.subject),
                )
                subjects[future] = job.subject
            finished = session.wait()
            if not finished:
                return
            for future in finished:
                on_finished(subjects.pop(future), future.outcome)


def execute_runs(
    runs: Sequence[Run],
    executor: Executor,
    time_limit: float,
    on_progress: Callable[[Run, Progress], None],
    on_finished: Callable[[Run, RunRecord | Exception], None],
) -> None:
    """Execute runs. Those whose weights others need, such as teachers, are trained first.

    Args:
        runs: The runs. `Run.runs_per_device` of them share the device.
        executor: Trains the runs.
        time_limit: Seconds after which a run is ended.
        on_progress: See `execute_jobs`.
        on_finished: See `execute_jobs`.

    Raises:
        KeyboardInterrupt, Terminated: See `execute_jobs`.
    """
    for depth in sorted({run.config.dependency_depth for run in runs}):
        ready = [run for run in runs if run.config.dependency_depth == depth]
        jobs = (Job(run, "benchmarks.runs.dispatch:execute_run", (run,), time_limit) for run in ready)
        execute_jobs(partial(next, jobs, None), executor, ready[0].runs_per_device, on_progress, on_finished)
