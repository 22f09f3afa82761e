"""The files of a report: a PDF page with a JSON file, or an interactive HTML page. The suffix decides."""

from pathlib import Path
from typing import Literal

from ablation.analysis.records import RecordedPlan
from ablation.analysis.table_formats import AblationTable
from ablation.report.author_text import NO_AUTHOR_TEXT, AuthorText
from ablation.report.table_output import output_stem
from benchmarks.cli.figures import default_settings

ReportFormat = Literal["pdf", "html"]


def default_report_path(recorded: RecordedPlan, report_format: ReportFormat) -> Path:
    """Return the path of a report in the output folder."""
    stem = output_stem(recorded)
    return stem.with_name(f"{stem.name}_report.{report_format}")


def write_report_files(
    recorded: RecordedPlan, table: AblationTable, path: Path, author_text: AuthorText = NO_AUTHOR_TEXT
) -> list[Path]:
    """Write the interactive report if the path ends with `.html`, otherwise the one-page PDF report with a JSON file.

    Args:
        recorded: The rows and their records, with learning curves.
        table: Their table, without findings.
        path: The file to write.
        author_text: What the author adds to the report.

    Returns:
        The written files; the report is the first.

    Raises:
        InputError: If the author's text does not fit on the page.
        OSError: If a file cannot be written.
    """
    if path.suffix.lower() == ".html":
        from ablation.report.html.page import write_html_report

        return [write_html_report(recorded, table, path, author_text)]
    with default_settings():  # this module imports matplotlib
        from ablation.report.pdf import write_report

    return [write_report(recorded, table, path, author_text), path.with_suffix(".json")]
