"""The notes on a table whose seeds were added until each change was decided."""

from ablation.analysis.decisions import MIN_CONDITIONAL_POWER, Decision, completed_comparisons, decide
from ablation.analysis.records import RecordedPlan
from ablation.analysis.sequential import SequentialDesign
from arch.text import plural, printable, shorten


def look_notes(recorded: RecordedPlan, design: SequentialDesign) -> list[str]:
    """Return the look at which each change was decided, and what to keep in mind about the intervals."""
    decisions = decide(completed_comparisons(recorded, design), design, design.max_seeds)
    words = []
    for row, decision in zip(recorded.rows, decisions, strict=True):
        if row.against:
            words.append(f"{shorten(row.label)}: {_describe(decision)}")
    has_more = any(run.seed >= design.max_seeds for row in recorded.rows for run in recorded.runs(row))
    more = [f"Seeds from {design.max_seeds} on count in the means and intervals, but not in the tests."] * has_more
    return [
        printable(f"Decisions: {'; '.join(words)}."),
        "A row stops when its change is significant or equivalent, or has less than a "
        f"{MIN_CONDITIONAL_POWER:.0%} chance of becoming so. The means and intervals do not account for the looks.",
        *more,
    ]


def _describe(decision: Decision | None) -> str:
    return "undecided" if decision is None else f"{decision.verdict} ({plural(decision.seeds, 'seed')})"
