"""What a tracker stores of a run, and the interface of trackers."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

Points = Sequence[tuple[int, dict[str, float]]]


@dataclass(frozen=True)
class TrackerRun:
    """A run as a tracker stores it. All numbers are those of the record.

    Attributes:
        id: The run id, usable as a file name.
        name: The display name.
        spec: The spec, printable.
        benchmark: The name and id of the benchmark, usable as a file name.
        config: Flat configuration values.
        curve: (epoch, metrics) pairs.
        summary: The final metrics; empty while the run is trained.
        seconds: When the run finished or its last epoch ended, in seconds since 1970.
    """

    id: str
    name: str
    spec: str
    benchmark: str
    config: dict[str, str | int | float]
    curve: list[tuple[int, dict[str, float]]]
    summary: dict[str, float]
    seconds: float

    @property
    def last_epoch(self) -> int:
        """The last epoch of the curve; 0 before the end of the first one."""
        return self.curve[-1][0] if self.curve else 0


class TrackerWriter(ABC):
    """Writes runs to one tracker. Several runs may be in progress.

    Args:
        folder: The folder to write to.
        online: Whether the user's settings for a server apply. If not, everything is written to the folder.
    """

    @abstractmethod
    def __init__(self, folder: Path, online: bool) -> None: ...

    def is_complete(self, run: TrackerRun) -> bool:
        """Return whether the tracker contains this run already, with the same values."""
        return False

    @abstractmethod
    def begin(self, run: TrackerRun) -> None:
        """Start a run, without its curve. An earlier run with the same id is replaced."""

    @abstractmethod
    def log(self, run: TrackerRun, points: Points) -> None:
        """Add epochs to a run that was started."""

    @abstractmethod
    def finish(self, run: TrackerRun) -> None:
        """Add the summary of a run, and end it."""

    @abstractmethod
    def stop(self, run: TrackerRun) -> None:
        """End a run that failed or was interrupted."""
