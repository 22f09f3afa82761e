"""The data of the HTML report: everything that the page shows, as plain data for JSON."""

from collections.abc import Mapping, Sequence
from typing import Any

from ablation.analysis.records import RecordedPlan
from ablation.analysis.table_formats import AblationTable
from ablation.report.author_text import NO_AUTHOR_TEXT, AuthorText
from ablation.report.context import best_row_numbers, printed_rows, study_subtitle, study_title
from ablation.report.datasize_findings import study_findings
from ablation.report.html.architecture_data import architecture_data
from ablation.report.html.cost_data import cost_data
from ablation.report.html.curve_data import CurvesByKey, curve_data
from ablation.report.html.error_data import error_data
from ablation.report.html.run_data import run_data
from ablation.report.html.size_limit import limit_size
from ablation.report.html.table_data import table_data
from ablation.report.row_style import row_name
from arch.text import printable


def page_data(
    recorded: RecordedPlan,
    table: AblationTable,
    author_text: AuthorText = NO_AUTHOR_TEXT,
    running_curves: CurvesByKey | None = None,
) -> dict[str, Any]:
    """Return everything that the HTML report shows. The same records always give the same data.

    Names are printable text, and numbers that are unknown are null. Rows are referred to by their index.

    Args:
        recorded: The rows and their records, with learning curves.
        table: Their table.
        author_text: What the author adds to the page.
        running_curves: The curves of unfinished runs by the key of their row.
    """
    lines = table.frame.to_dict("records")
    data = {
        **_heading(recorded, lines, author_text),
        "caption": printable(table.caption),
        "notes": list(map(printable, table.notes)),
        "findings": list(map(printable, study_findings(recorded, table))),
        "rows": [
            {"label": printable(row.label), "name": printable(row_name(row)), "spec": printable(row.spec)}
            for row in recorded.rows
        ],
        "split": recorded.split_name,
        "main_rows": printed_rows(recorded.rows, lines),
        "table": table_data(table),
        "curves": curve_data(recorded, running_curves or {}),
        "costs": cost_data(recorded, table),
        **error_data(recorded),
        "architectures": architecture_data(recorded),
        "runs": run_data(recorded),
        "omissions": [],
    }
    return limit_size(data)


def _heading(recorded: RecordedPlan, lines: Sequence[Mapping[Any, Any]], author_text: AuthorText) -> dict[str, Any]:
    title, subtitle = study_title(recorded), printable(study_subtitle(recorded.rows))
    if author_text.title:
        title, subtitle = author_text.title, f"{title}: {subtitle}"
    return {
        "title": title,
        "subtitle": subtitle,
        "author": author_text.author,
        "text": list(author_text.blocks),
        "plan": printable(str(recorded.plan)),
        "benchmark": printable(recorded.benchmark.name),
        "benchmark_id": printable(recorded.benchmark_id),
        **best_row_numbers(recorded, lines),
    }
