"""`Row`: one row of an ablation table, before it has any results."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

from benchmarks.definition.overrides import RunConfig, TrainingOverrides
from benchmarks.definition.recipe import Recipe
from benchmarks.records.store import make_run_id

# step: any other row, such as the base or the next step of a path; alternative: a replacement or control for a step;
# without: all steps except one (leave-one-out)
# carried: in a data-size study, training that continues from the weights of the next smaller fraction
RowKind = Literal["step", "alternative", "without", "carried"]


@dataclass(frozen=True)
class Row:
    """One row: its label in the table, its config, and the rows that it is compared with.

    Attributes:
        label: The row's name in the table.
        config: The architecture and the training overrides.
        against: Pairs of (row index, weight). The row's change is its accuracy plus the weighted sum of the accuracies
            of these rows: `((2, -1),)` is a step from row 2.
        kind: The row's role in the plan.
        series: In a data-size study, the config of which this row is one size; otherwise empty.
    """

    label: str
    config: RunConfig
    against: tuple[tuple[int, int], ...] = ()
    kind: RowKind = "step"
    series: str = ""

    @property
    def spec(self) -> str:
        """The text of the config, which `benchmarks.definition.overrides.read_run_config` parses."""
        return str(self.config)

    @property
    def key(self) -> str:
        """The hash of the config, which does not depend on the label: see `RunConfig.key`."""
        return self.config.key

    @property
    def overrides(self) -> TrainingOverrides:
        """The training overrides of the config."""
        return self.config.overrides

    @property
    def is_interaction(self) -> bool:
        """Whether the change is an interaction: the change by two parts beyond the sum of their separate changes."""
        return len(self.against) > 1

    def require_full_batch(self, num_images: int, recipe: Recipe) -> None:
        """Raise InputError if the row's training images do not fill one batch of the recipe."""
        recipe.require_full_batch(num_images, "" if self.overrides.data_fraction == 1 else self.label)


def count_changes(rows: Sequence[Row]) -> int:
    """Return the number of rows that are compared with another: the family of Holm's correction."""
    return sum(bool(row.against) for row in rows)


def with_dependencies(rows: Sequence[Row]) -> list[Row]:
    """Return the rows, each preceded by the runs that it needs (see `RunConfig.dependencies`) and that are no rows."""
    all_rows: list[Row] = []
    for row in rows:
        for other in with_dependencies([Row(str(config), config) for config in row.config.dependencies]):
            if all(other.key != known.key for known in (*all_rows, *rows)):
                all_rows.append(other)
        all_rows.append(row)
    return all_rows


def labels_by_key(rows: Sequence[Row]) -> dict[str, str]:
    """Return the label of each key: that of the first row, if several rows have the same config."""
    labels: dict[str, str] = {}
    for row in rows:
        labels.setdefault(row.key, row.label)
    return labels


def missing_runs(
    rows: Sequence[Row], seeds: Sequence[int], benchmark_id: str, recorded: Collection[str]
) -> list[tuple[Row, int]]:
    """Return the runs without a record, ordered by seed, without duplicates; dependencies come first.

    Args:
        rows: The rows.
        seeds: The seeds of each row.
        benchmark_id: The benchmark id of the runs.
        recorded: The ids of the recorded runs.
    """
    seen, missing = set(recorded), []
    for seed in seeds:
        for row in with_dependencies(rows):
            run_id = make_run_id(row.key, seed, benchmark_id)
            if run_id not in seen:
                seen.add(run_id)
                missing.append((row, seed))
    return missing
