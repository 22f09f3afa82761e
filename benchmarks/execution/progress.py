"""Progress of long work: bars with the remaining time on a terminal, plain lines elsewhere."""

import math
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from types import TracebackType
from typing import Self


@dataclass(frozen=True)
class Progress:
    """The state of a task: `done` of `total` units of work are complete."""

    task: str
    done: int
    total: int
    note: str = ""  # shown after the count, such as the latest accuracy
    max_seconds_left: float = math.inf  # until the task ends even if it is not complete
    warning: str = ""  # printed on a separate line; the other fields except `task` are then ignored


Report = Callable[[Progress], None]

PLAIN_LINE_INTERVAL = 10.0  # seconds between two lines of progress where there is no terminal


def silent(progress: Progress) -> None:
    """Ignore progress. It can be passed as a `Report`."""


class Display:
    """Shows `Progress` on standard error, because standard output is for results."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as Bars

        self._console = Console(stderr=True)
        self._bars = Bars(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}", markup=False),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
            console=self._console,
            transient=True,
        )
        self._bar: tuple[int, int] | None = None  # rich's task id, and the total
        self._started = self._last_line = time.monotonic()
        self._total = self._done_at_start = 0

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._console.is_terminal:
            self._bars.stop()

    def say(self, line: str) -> None:
        """Print a permanent line. If printing fails, as for a log file on a full disk, the work continues."""
        with suppress(OSError):
            self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    def ask(self, question: str, choices: Sequence[str]) -> str | None:
        """Ask the user for one of the choices. Return None if there is no terminal to ask on."""
        if not (self._console.is_terminal and sys.stdin is not None and sys.stdin.isatty()):
            return None
        from rich.prompt import Prompt

        self._bars.stop()
        try:
            return Prompt.ask(question, choices=list(choices), console=self._console)
        finally:
            self._bars.start()

    def __call__(self, progress: Progress) -> None:
        if progress.warning:
            self.say(f"warning: {progress.task}: {progress.warning}")
            return
        if progress.total != self._total:  # a new task, whose remaining time is estimated from its own speed
            self._total, self._done_at_start, self._started = progress.total, progress.done, time.monotonic()
        if self._console.is_terminal:
            self._draw(progress)
        elif time.monotonic() - self._last_line >= PLAIN_LINE_INTERVAL:
            self._last_line = time.monotonic()
            with suppress(OSError):
                print(self._line(progress), file=sys.stderr, flush=True)

    def _draw(self, progress: Progress) -> None:
        if self._bar is None or self._bar[1] != progress.total:
            if self._bar is not None:
                self._bars.remove_task(self._bar[0])  # type: ignore[arg-type]
            self._bar = (self._bars.add_task(progress.task, total=progress.total, note="", left=""), progress.total)
        left = self._time_left(progress)
        self._bars.update(
            self._bar[0],  # type: ignore[arg-type]
            description=progress.task,
            completed=progress.done,
            note=progress.note,
            left=left,
        )

    def _line(self, progress: Progress) -> str:
        left = self._time_left(progress)
        counts = f"{progress.done}/{progress.total}" + (f", {left}" if left else "")
        return f"{progress.task}: {counts} {progress.note}".rstrip()

    def _time_left(self, progress: Progress) -> str:
        """Return the estimated time until the task is complete; "" if it is not known."""
        elapsed = time.monotonic() - self._started
        done = progress.done - self._done_at_start
        seconds = elapsed / done * (progress.total - progress.done) if done else math.inf
        seconds = max(0.0, min(seconds, progress.max_seconds_left))
        return f"about {timedelta(seconds=round(seconds))} left" if seconds < math.inf else ""
