"""Plans that depend on plugins, stored beside their records, so that their tables can be read without the plugins.

Commands that read records never run the code of a plugin that the records name. They take the rows from here.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ablation.plans.plan import Plan
from ablation.plans.row import Row, RowKind
from arch.plugins import plugin_versions
from benchmarks.records.json_lines import JsonLines

PLAN_FORMAT = 1


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
    """Store a plan in an output folder if it depends on plugins. Raises OSError if it cannot be written."""
    if not any(plugin_versions(row.config.architectures) for row in plan.rows):
        return
    stored = StoredPlan(str(plan), tuple(_store_row(row) for row in plan.rows))
    file = _file(out)
    if stored not in file.read()[-1:]:
        file.append(stored)


def stored_rows(outs: Sequence[Path], text: str) -> tuple[StoredRow, ...]:
    """Return the rows that a plan had when it was last run; () if it is not stored in any of the folders."""
    plans = [plan for out in reversed(outs) for plan in _file(out).read() if plan.text == text]
    return plans[-1].rows if plans else ()


def merge_plans(sources: Sequence[Path], target: Path) -> None:
    """Add the stored plans of other folders to a folder. Raises OSError if they cannot be written."""
    known = _file(target).read()
    for plan in [plan for source in sources for plan in _file(source).read()]:
        if plan not in known:
            _file(target).append(plan)
            known.append(plan)


def _file(out: Path) -> JsonLines[StoredPlan]:
    return JsonLines(out / "plans.jsonl", StoredPlan, PLAN_FORMAT)


def _store_row(row: Row) -> StoredRow:
    return StoredRow(row.label, row.spec, row.key, row.against, row.kind, row.series)
