"""`Row`: a line of a table before there is any number in it. Knows no torch."""

from dataclasses import dataclass
from typing import Literal

from arch.spec import Architecture
from benchmarks.treatment import PLAIN, Setup, Treatment, setup_key

Cost = Literal["params", "macs", "hours"]  # in which a control is as large as the step that it stands beside

Pairing = Literal["unpaired", "paired"]  # how a change is judged: see ablation.statistics


@dataclass(frozen=True)
class Row:
    """One row: what it is called in the table, what is trained, and what it is compared with."""

    label: str
    spec: str  # with its treatment, as benchmarks.treatment.read_setup reads it
    variant: Architecture
    against: tuple[tuple[int, int], ...] = ()  # (row, weight): ((2, -1),) is a step taken from row 2
    treatment: Treatment = PLAIN

    @classmethod
    def of(cls, setup: Setup, label: str = "", against: tuple[tuple[int, int], ...] = ()) -> "Row":
        """A setup's, under its own name where no other is given."""
        return cls(label or str(setup), str(setup), setup.architecture, against, setup.treatment)

    @property
    def key(self) -> str:
        """See `benchmarks.treatment.setup_key`."""
        return setup_key(self.variant, self.treatment)

    @property
    def generation(self) -> int:
        """How many trainings, one after the other, it waits for."""
        teacher = self.treatment.teacher
        return 1 + teacher.generation if teacher and teacher.is_trained else 0

    @property
    def is_interaction(self) -> bool:
        """Whether the change is that of two parts together beyond the sum of each alone."""
        return len(self.against) > 1


def is_step(row: Row) -> bool:
    """Whether the row is on the way to the proposal, and no alternative and no whole without a part."""
    return not row.label.startswith("~") and not is_left_out(row)


def is_left_out(row: Row) -> bool:
    """Whether the row is the whole without a step; one that a path takes back stands at the end of its spec."""
    return row.label.startswith("-") and not row.spec.endswith(row.label)
