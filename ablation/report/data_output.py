"""The files and the JSON output of `ablate data`."""

from pathlib import Path
from typing import Any

import pandas as pd

from ablation.analysis.table_formats import quote_formula
from arch.errors import InputError
from arch.text import plural, printable, shorten
from benchmarks.cli.figures import write_figure
from benchmarks.datasets.data_report import DataReport
from benchmarks.definition.names import safe_file_name
from benchmarks.records.atomic_write import replace_file

MAX_STEM_CHARACTERS = 40
MAX_TITLE_CHARACTERS = 60


def write_report_files(report: DataReport, out: Path) -> list[Path]:
    """Write the counts and the duplicates as CSV, and the contact sheet as PNG.

    Args:
        report: What to write.
        out: The folder to write to.

    Returns:
        The written files.

    Raises:
        InputError: If a file cannot be written.
    """
    stem = f"data_{safe_file_name(Path(report.place).name or 'images', MAX_STEM_CHARACTERS)}"
    counts = report.counts.rename_axis("class").reset_index()
    files = [out / f"{stem}_classes.csv", out / f"{stem}_duplicates.csv"]
    try:
        _write_csv(counts, files[0])
        _write_csv(report.leaks, files[1])
        return files + _write_contact_sheet(report, out / f"{stem}_contact_sheet.png")
    except OSError as error:
        raise InputError(f"cannot write to {out}: {error.strerror or error}") from error


def to_json(report: DataReport) -> dict[str, Any]:
    """Return the report as values for JSON."""
    counts = report.counts
    return {
        "data": report.place,
        "classes": list(report.classes),
        "counts": {str(split): counts[split].to_dict() for split in counts},
        "sizes": report.sizes.to_dict(),
        "colors": report.colors.to_dict(),
        "conversions": list(report.conversions),
        "notes": list(report.notes),
        "in_several_splits": _names_of_copies(report.leaks),
        "in_several_classes": _names_of_copies(report.contradictions),
        "copies": {str(split): report.num_copies_within(str(split)) for split in counts},
        "problems": list(report.problems),
    }


def _names_of_copies(copies: pd.DataFrame) -> list[list[str]]:
    return [list(names) for _, names in copies.groupby("digest")["name"]]


def _write_csv(frame: pd.DataFrame, path: Path) -> None:
    quoted = frame.assign(**{name: frame[name].map(quote_formula) for name in ("class", "name") if name in frame})
    replace_file(path, lambda file: file.write_bytes(quoted.to_csv(index=False, lineterminator="\n").encode()))


def _write_contact_sheet(report: DataReport, path: Path) -> list[Path]:
    if not report.thumbnails:
        return []
    title = shorten(
        f"{printable(Path(report.place).name)}: {plural(len(report.images), 'image')}", MAX_TITLE_CHARACTERS
    )

    def draw(file: Path) -> None:
        from ablation.report.contact_sheet import plot_contact_sheet  # imports matplotlib

        plot_contact_sheet(report.thumbnails, report.classes, title, file)

    return write_figure(path, draw)
