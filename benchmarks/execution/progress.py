"""What long work says while it runs: bars with the time left on a terminal, plain lines elsewhere."""

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
    """`done` of `total` pieces of a task, and a few words on how it goes."""

    task: str
    done: int
    total: int
    note: str = ""
    warning: str = ""  # a line that stays, and all that there is to say this time


Report = Callable[[Progress], None]

PLAIN_EVERY = 10.0  # seconds between two plain lines of one task


def silent(progress: Progress) -> None:
    """A `Report` that says nothing."""


class Display:
    """Shows `Progress` on standard error, so that standard output stays clean for results."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
        from rich.progress import Progress as Bars

        self._console = Console(stderr=True)
        self._bars = Bars(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}", markup=False),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self._console,
            transient=True,
        )
        self._bar: tuple[int, int] | None = None
        self._started = self._spoken = time.monotonic()
        self._total = self._first = 0

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
        """One line that stays. What nobody can be told, such as on a full disk, ends no work."""
        with suppress(OSError):
            self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    def ask(self, question: str, choices: Sequence[str]) -> str | None:
        """One of the choices, from a person; None where nobody is there to answer."""
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
        if progress.total != self._total:  # another piece of work, whose time left is told by its own pace
            self._total, self._first, self._started = progress.total, progress.done, time.monotonic()
        if self._console.is_terminal:
            self._draw(progress)
        elif time.monotonic() - self._spoken >= PLAIN_EVERY:
            self._spoken = time.monotonic()
            with suppress(OSError):
                print(self._line(progress), file=sys.stderr, flush=True)

    def _draw(self, progress: Progress) -> None:
        if self._bar is None or self._bar[1] != progress.total:
            if self._bar is not None:
                self._bars.remove_task(self._bar[0])  # type: ignore[arg-type]
            self._bar = (self._bars.add_task(progress.task, total=progress.total, note=""), progress.total)
        self._bars.update(self._bar[0], description=progress.task, completed=progress.done, note=progress.note)  # type: ignore[arg-type]

    def _line(self, progress: Progress) -> str:
        elapsed = time.monotonic() - self._started
        done = progress.done - self._first
        left = elapsed / done * (progress.total - progress.done) if done else 0.0
        eta = f", about {timedelta(seconds=round(left))} left" if done else ""
        return f"{progress.task}: {progress.done}/{progress.total}{eta} {progress.note}".rstrip()
