"""`Row`: a line of a table before there is any number in it. Knows no torch."""

from dataclasses import dataclass
from typing import Literal

from benchmarks.treatment import Setup, Treatment

Cost = Literal["params", "macs", "hours"]  # in which a control is as large as the step that it stands beside

Pairing = Literal["unpaired", "paired"]  # how a change is judged: see ablation.statistics


@dataclass(frozen=True)
class Row:
    """One row: what it is called in the table, what is trained, and what it is compared with."""

    label: str
    setup: Setup
    against: tuple[tuple[int, int], ...] = ()  # (row, weight): ((2, -1),) is a step taken from row 2

    @property
    def spec(self) -> str:
        """With its treatment, as benchmarks.treatment.read_setup reads it."""
        return str(self.setup)

    @property
    def key(self) -> str:
        """Of what is trained, whatever it is called: see `benchmarks.treatment.setup_key`."""
        return self.setup.key

    @property
    def treatment(self) -> Treatment:
        """What is done beside its architecture."""
        return self.setup.treatment

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
