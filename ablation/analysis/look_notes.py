"""The notes on a table whose seeds were added until each change was decided."""

from ablation.analysis.decisions import MIN_CONDITIONAL_POWER, decide
from ablation.analysis.records import RecordedPlan
from ablation.analysis.sequential import SequentialDesign
from arch.text import plural, printable, shorten


def look_notes(recorded: RecordedPlan, design: SequentialDesign) -> list[str]:
    """Return the look at which each change was decided, and what to keep in mind about the intervals."""
    decisions = decide(recorded.comparisons, design, design.max_seeds)
    words = []
    for row, decision in zip(recorded.rows, decisions, strict=True):
        if row.against:
            seeds = "undecided" if decision is None else f"{decision.verdict} at {plural(decision.seeds, 'seed')}"
            words.append(f"{shorten(row.label)} {seeds}")
    return [
        printable(f"Decisions: {', '.join(words)}."),
        "A row stops when its change is significant or equivalent, or has a chance of less than "
        f"{MIN_CONDITIONAL_POWER:.0%} to become so. The means and intervals do not account for the looks.",
    ]
