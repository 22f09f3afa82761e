"""The progress of several runs as one bar, counted in epochs."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from benchmarks.execution.progress import Progress, Report
from benchmarks.runs.run import Run


class OverallProgress:
    """Adds up the epochs of all runs.

    Args:
        runs: The runs that the bar covers.
        names: The name of each run in messages, by run id.
        report: Called with progress updates of all runs.
        task: The bar's label. By default, the name and number of the run that has reported last.
    """

    def __init__(self, runs: Sequence[Run], names: Mapping[str, str], report: Report, task: str = "") -> None:
        self.names, self.report, self.task = names, report, task
        self.epochs = {run.id: run.recipe.epochs for run in runs}
        self.done = dict.fromkeys(self.epochs, 0)
        self.num_finished = 0

    def update(self, run: Run, progress: Progress) -> None:
        """Report the progress of one run."""
        name = self.names[run.id]
        if progress.warning:
            self.report(replace(progress, task=name))
            return
        self.done[run.id] = progress.done
        position = list(self.epochs).index(run.id) + 1
        task = self.task or f"{name} ({position}/{len(self.epochs)})"
        self.report(Progress(task, sum(self.done.values()), sum(self.epochs.values()), progress.note))

    def finish(self, run: Run) -> None:
        """Count all epochs of a run as done, including those that it has not reported."""
        self.done[run.id] = self.epochs[run.id]
        self.num_finished += 1
