"""The notes on preregistration below an ablation table: whether the table is what was declared before its first run."""

from ablation.analysis.preregistration_differences import differences
from ablation.analysis.records import RecordedPlan
from ablation.analysis.table import TableSettings
from ablation.plans.preregistration import Preregistration
from ablation.plans.preregistration_files import read_preregistrations
from arch.text import printable


def preregistration_notes(recorded: RecordedPlan, settings: TableSettings) -> list[str]:
    """Return the note that compares a table with its preregistration, and a note on each invalid preregistration.

    The table is compared with the preregistration of its plan and benchmark id; of several, with the latest. Without
    one, it is compared with that of the same benchmark that shares most rows. Without any, there is no note.

    Args:
        recorded: The rows and their records.
        settings: How the changes of the table are tested.
    """
    preregistrations, problems = read_preregistrations(recorded.outs)
    related = [(relation, other) for other in preregistrations if (relation := _relation(other, recorded))]
    notes = []
    if related:
        closest = max(relation for relation, _ in related)
        candidates = [other for relation, other in related if relation == closest]
        has_rivals = len(candidates) > 1 and candidates[0].plan == str(recorded.plan)
        rivals = f" It is the latest of {len(candidates)} preregistrations of this plan." if has_rivals else ""
        notes.append(_describe(candidates[0], recorded, settings) + rivals)
    return list(map(printable, notes + problems))


def _relation(preregistration: Preregistration, recorded: RecordedPlan) -> tuple[bool, bool, int] | None:
    """Return how closely a preregistration is related to a table; None if not at all."""
    benchmark, keys = preregistration.benchmark, {row.key for row in recorded.rows}
    is_same_plan = preregistration.plan == str(recorded.plan)
    num_shared = sum(row.key in keys for row in preregistration.rows)
    is_related = recorded.benchmark_id == benchmark.id or recorded.benchmark.name == benchmark.name
    if not is_related or not (is_same_plan or num_shared):
        return None
    return recorded.benchmark_id == benchmark.id, is_same_plan, num_shared


def _describe(preregistration: Preregistration, recorded: RecordedPlan, settings: TableSettings) -> str:
    identity = f"{preregistration.date} (sha256 {preregistration.short_hash}...)"
    if found := differences(preregistration, recorded, settings):
        return f"Differs from the preregistration of {identity}: {'; '.join(found)}."
    return f"Preregistered {identity}: rows, seeds, test, benchmark, budget and code version match."
