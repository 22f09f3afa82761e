"""Steps of a session: commands with an estimate of their seconds."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

State = Literal["done", "dropped", "stopped", "failed"]


@dataclass(frozen=True)
class Step:
    """One command.

    Attributes:
        name: The name in the summary, and of the files with the output.
        command: The command line.
        seconds: Estimate on a GPU, multiplied by `StepRunner.slowdown` elsewhere.
        needs_images: Whether the step reads the data set.
        required: Whether the session ends if the step fails.
        fills: Whether the step runs until the time is over. `seconds` is then the least that it is started with.
        environment: Additional environment variables.
        exit_codes: Exit codes of a step that is done.
    """

    name: str
    command: Sequence[str]
    seconds: float
    needs_images: bool = False
    required: bool = False
    fills: bool = False
    environment: Mapping[str, str] = field(default_factory=dict)
    exit_codes: tuple[int, ...] = (0,)


@dataclass(frozen=True)
class Outcome:
    """How a step ended."""

    name: str
    state: State
    seconds: float = 0.0
    estimate: float = 0.0
    note: str = ""


@dataclass
class Deadline:
    """The end of a session.

    Attributes:
        end: Value of the clock at the end.
        clock: Returns seconds.
    """

    end: float
    clock: Callable[[], float] = time.monotonic

    @property
    def remaining(self) -> float:
        """The seconds until the end; negative after it."""
        return self.end - self.clock()
