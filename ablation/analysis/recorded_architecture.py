"""The architectures that records contain, as the sections of `arch.describe`."""

from collections.abc import Mapping, Sequence
from typing import Any

from ablation.analysis.records import RecordedPlan
from ablation.plans.row import Row

Sections = list[dict[str, Any]]


def final_architecture(recorded: RecordedPlan) -> tuple[Row | None, Sections]:
    """Return the last step that has records, and the sections of its network; empty if no record contains them."""
    finished = [(row.kind == "step", index) for index, row in enumerate(recorded.rows) if recorded.runs(row)]
    if not finished:
        return None, []
    row = recorded.rows[max(finished)[1]]
    return row, architecture_of(recorded, row)


def architecture_of(recorded: RecordedPlan, row: Row) -> Sections:
    """Return the sections of a row's network; empty if no record contains them."""
    return next((run.architecture for run in recorded.runs(row) if _is_complete(run.architecture)), [])


def _is_complete(sections: Sequence[Mapping[str, Any]]) -> bool:
    """Return whether sections contain all fields that a drawing needs. Records may have been edited by hand."""
    types: dict[str, Any] = {
        "name": str,
        "blocks": int,
        "block": str,
        "branch": list | tuple,
        "attention": list | tuple,
        "shortcut": list | tuple,
        "output": list | tuple,
        "params": int,
    }
    return bool(sections) and all(
        isinstance(section.get(name), expected) for section in sections for name, expected in types.items()
    )
