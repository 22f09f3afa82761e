"""Plans that were run with plugins, stored beside their records, so that their tables can be read without the plugins.

Commands that read records never run the code of a plugin that the records name. They take the rows from here.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ablation.plans.plan import Plan
from ablation.plans.row import Row, RowKind
from arch.plugins import active_plugins
from benchmarks.records.json_lines import JsonLines

PLAN_FORMAT = 1
MAX_ROWS, MAX_COMPARISONS = 1000, 3  # of a plan, and of one of its rows


@dataclass(frozen=True)
class StoredRow:
    """The fields of a `Row`, with the text and the key of its config."""

    label: str
    spec: str
    key: str
    against: tuple[tuple[int, int], ...] = ()
    kind: RowKind = "step"
    series: str = ""


@dataclass(frozen=True)
class StoredPlan:
    """The rows that a plan had when it was run."""

    format: int = field(default=PLAN_FORMAT, kw_only=True)
    text: str
    rows: tuple[StoredRow, ...]


def store_plan(out: Path, plan: Plan) -> None:
    """Store a plan in an output folder if plugins are loaded. Raises OSError if it cannot be written."""
    if not active_plugins():
        return
    stored = StoredPlan(str(plan), tuple(store_row(row) for row in plan.rows))
    file = _file(out)
    if stored not in file.read()[-1:]:
        file.append(stored)


def stored_rows(outs: Sequence[Path], text: str) -> tuple[StoredRow, ...]:
    """Return the rows that a plan had when it was last run; () if it is not stored in any of the folders."""
    plans = [
        plan
        for out in reversed(outs)
        for plan in _file(out).read()
        if plan.text == text and has_valid_references(plan.rows)
    ]
    return plans[-1].rows if plans else ()


def has_valid_references(rows: Sequence[StoredRow]) -> bool:
    """Return whether each row is compared with earlier rows only; a file from elsewhere may contain anything."""
    earlier = [set(range(position)) for position in range(len(rows))] if len(rows) <= MAX_ROWS else []
    return bool(earlier) and all(
        {index for index, _ in row.against} <= before and len(row.against) <= MAX_COMPARISONS
        for row, before in zip(rows, earlier, strict=True)
    )


def merge_plans(sources: Sequence[Path], target: Path) -> None:
    """Add the stored plans of other folders to a folder. Raises OSError if they cannot be written."""
    known = _file(target).read()
    for plan in [plan for source in sources for plan in _file(source).read()]:
        if plan not in known:
            _file(target).append(plan)
            known.append(plan)


def _file(out: Path) -> JsonLines[StoredPlan]:
    return JsonLines(out / "plans.jsonl", StoredPlan, PLAN_FORMAT)


def store_row(row: Row) -> StoredRow:
    """Return the fields of a row that are stored."""
    return StoredRow(row.label, row.spec, row.key, row.against, row.kind, row.series)
