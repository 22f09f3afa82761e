"""The hours of an assignment: measured on the device at hand, and predicted for the device of the budget."""

from collections import Counter
from collections.abc import Iterable, Mapping

from ablation.analysis.records import RecordedPlan
from ablation.analysis.study_progress import StudyProgress
from ablation.plans.row import labels_by_key, with_dependencies
from benchmarks.budget.profile import budget_device_label
from benchmarks.budget.verdict import format_hours

ALL_RUNS = "all runs"


def hours_table(progress: StudyProgress, recorded: RecordedPlan, seeds: int) -> tuple[list[str], list[tuple[str, ...]]]:
    """Return the header and the lines of a table with the hours of one run of each row and of all runs together.

    Args:
        progress: The recorded and missing runs, and their hours.
        recorded: The rows.
        seeds: The number of seeds of each row.
    """
    missing = Counter(row.key for row, _ in progress.missing)
    columns = {"one run here": progress.hours_per_run}
    if progress.budget_hours:
        device = budget_device_label(recorded.benchmark.budget)
        columns[f"one run on {device}, predicted"] = progress.budget_hours
    labels = labels_by_key(with_dependencies(recorded.rows))
    lines = [
        (label, str(seeds - missing[key]), str(missing[key]), *_of_run(key, columns.values()))
        for key, label in labels.items()
    ]
    totals = (_total(hours, list(labels), seeds) for hours in columns.values())
    lines.append((ALL_RUNS, str(len(progress.recorded)), str(len(progress.missing)), *totals))
    return ["row", "recorded", "missing", *columns], lines


def _of_run(key: str, columns: Iterable[Mapping[str, float]]) -> tuple[str, ...]:
    return tuple(format_hours(hours[key]) if key in hours else "" for hours in columns)


def _total(hours: Mapping[str, float], keys: list[str], seeds: int) -> str:
    """Return the hours of all runs, one after another; "" if those of a row are unknown."""
    return format_hours(seeds * sum(hours[key] for key in keys)) if hours.keys() >= set(keys) else ""
