"""Provenance in the HTML report: the runs behind the numbers of each row."""

from typing import Any

from ablation.analysis.records import RecordedPlan
from ablation.plans.row import Row
from ablation.report.html.table_data import known_number
from arch.text import printable
from benchmarks.budget.verdict import format_hours
from benchmarks.records.store import RunRecord

COLUMNS = ("seed", "top-1 %", "top-5 %", "time", "device", "versions", "commit", "finished", "run id")
MAX_REASON_CHARACTERS = 500


def run_data(recorded: RecordedPlan) -> dict[str, Any]:
    """Return the runs of each row, its failed runs, and the rows that it is compared with.

    Versions are listed once in `versions`; a run contains the index of its own.
    """
    versions: dict[str, int] = {}
    return {
        "columns": COLUMNS,
        "rows": [
            {
                "runs": [_run(run, versions) for run in recorded.runs(row)],
                "failed": _failed(recorded, row),
                "against": [{"row": index, "weight": weight} for index, weight in row.against],
            }
            for row in recorded.rows
        ],
        "versions": list(versions),
    }


def _run(run: RunRecord, versions: dict[str, int]) -> list[Any]:
    text = printable(", ".join(f"{name} {version}" for name, version in run.versions.items()))
    return [
        run.seed,
        known_number(round(run.top1, 4)),
        known_number(round(run.top5, 4)),
        format_hours(run.hours),
        printable(run.device),
        versions.setdefault(text, len(versions)),
        printable(run.commit),
        printable(run.finished),
        printable(run.run_id),
    ]


def _failed(recorded: RecordedPlan, row: Row) -> list[dict[str, Any]]:
    return [
        {"seed": run.seed, "reason": printable(run.reason)[:MAX_REASON_CHARACTERS]}
        for run in recorded.failed_runs
        if run.key == row.key
    ]
