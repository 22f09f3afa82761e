"""`Row`: a line of a table before there is any number in it. Knows no torch."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from benchmarks.definition.overrides import RunConfig, TrainingOverrides
from benchmarks.records.store import RunRecord

ControlMetric = Literal["params", "macs", "hours"]  # in which a control is as large as the step that it stands beside

Pairing = Literal["unpaired", "paired"]  # how a change is judged: see ablation.analysis.statistics

# on the way to the proposal; in the place of another row, or a control beside it; the whole without a step
RowKind = Literal["step", "alternative", "without"]


@dataclass(frozen=True)
class Row:
    """One row: what it is called in the table, what is trained, and what it is compared with."""

    label: str
    config: RunConfig
    against: tuple[tuple[int, int], ...] = ()  # (row, weight): ((2, -1),) is a step taken from row 2
    kind: RowKind = "step"
    series: str = ""  # the net of which it is one size, in a study of data size

    @property
    def spec(self) -> str:
        """With its overrides, as benchmarks.definition.overrides.read_setup reads it."""
        return str(self.config)

    @property
    def key(self) -> str:
        """Of what is trained, whatever it is called: see `benchmarks.definition.overrides.setup_key`."""
        return self.config.key

    @property
    def overrides(self) -> TrainingOverrides:
        """What is done beside its architecture."""
        return self.config.overrides

    @property
    def is_interaction(self) -> bool:
        """Whether the change is that of two parts together beyond the sum of each alone."""
        return len(self.against) > 1


def with_teachers(rows: Sequence[Row]) -> list[Row]:
    """The rows, and before each the teachers that it needs and that are no rows themselves."""
    all_rows: list[Row] = []
    for row in rows:
        teacher = row.overrides.teacher
        before = with_teachers([Row(str(teacher), teacher)]) if teacher is not None and teacher.is_trained else []
        all_rows += [other for other in before if all(other.key != known.key for known in (*all_rows, *rows))]
        all_rows.append(row)
    return all_rows


def runs_of(row: Row, results: Sequence[RunRecord], seeds: int | None = None) -> dict[int, RunRecord]:
    """The row's results by seed; of seeds 0 to seeds - 1 only, where that is said."""
    key = row.key
    found = {result.seed: result for result in results if result.key == key and (seeds is None or result.seed < seeds)}
    return dict(sorted(found.items()))
