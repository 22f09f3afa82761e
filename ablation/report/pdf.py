"""The PDF report: one A4 page with table, findings and figures, and a JSON file with the runs behind each number."""

import json
import math
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib as mpl
import typst

from ablation.analysis.datasize_series import datasize_series
from ablation.analysis.records import RecordedPlan
from ablation.analysis.table_formats import AblationTable, to_json
from ablation.report.author_text import NO_AUTHOR_TEXT, AuthorText
from ablation.report.context import report_context
from ablation.report.datasize_findings import study_findings
from ablation.report.page_figures import draw_page_figures
from arch.errors import InputError
from arch.text import plural, printable
from benchmarks.records.atomic_write import replace_file

TEXT_FONTS = (10.0, 9.5, 9.0, 8.5, 8.0, 7.5)  # points; the largest size with which everything fits is used
TEMPLATE = "report.typ"
MIN_COLUMN_GAP = 5  # points, between two columns of the table


def write_report(
    recorded: RecordedPlan, table: AblationTable, path: Path, author_text: AuthorText = NO_AUTHOR_TEXT
) -> Path:
    """Write the report to `path`, and the runs behind its numbers to a .json file beside it; return `path`.

    The same input always gives the same bytes.

    Args:
        recorded: The rows and their records, with learning curves.
        table: Their table.
        path: The PDF file.
        author_text: What the author adds to the page.

    Raises:
        InputError: If the author's text does not fit on the page.
    """
    sentences = study_findings(recorded, table)
    context = report_context(recorded, table, sentences, by_row=not datasize_series(recorded))
    context |= {"text": author_text.blocks, "author": author_text.author}
    context |= {"num_words": author_text.num_words, "shows_text": True}
    if author_text.title:
        context |= {"title": author_text.title, "subtitle": f"{context['title']}: {context['subtitle']}"}
    provenance = json.dumps({**table_provenance(recorded, table), "findings": sentences}, indent=1) + "\n"
    content = _compile(context, recorded, table, author_text)
    replace_file(path, lambda file: file.write_bytes(content))
    replace_file(path.with_suffix(".json"), lambda file: file.write_text(provenance, encoding="utf-8"))
    return path


def table_provenance(recorded: RecordedPlan, table: AblationTable) -> dict[str, Any]:
    """Return the table as plain data, with the ids of each row's runs and the rows it is compared with."""
    frame = table.frame.map(lambda value: printable(value) if isinstance(value, str) else value)
    content = to_json(replace(table, frame=frame))
    for row, line in zip(recorded.rows, content["rows"], strict=True):
        line["runs"] = [run.run_id for run in recorded.runs(row)]
        line["compared_with"] = [{"row": index, "weight": weight} for index, weight in row.against]
    return {"benchmark": recorded.benchmark.name, **content}


def _compile(context: dict[str, Any], recorded: RecordedPlan, table: AblationTable, author_text: AuthorText) -> bytes:
    """Return the PDF of the first layout that fits on one page."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        fonts = folder / "fonts"
        fonts.mkdir()
        for file in ("DejaVuSans.ttf", "DejaVuSans-Bold.ttf", "DejaVuSans-Oblique.ttf"):
            shutil.copyfile(Path(mpl.get_data_path()) / "fonts" / "ttf" / file, fonts / file)
        shutil.copyfile(Path(__file__).with_name(TEMPLATE), folder / TEMPLATE)
        context = {**context, **draw_page_figures(context, recorded, table, folder)}
        for layout in _layouts(context):
            compiler = _compiler(folder, layout)
            if _query(compiler, "<pages>") == 1 and _query(compiler, "<column-gap>") >= layout["min_column_gap"]:
                content = compiler.compile(format="pdf", timestamp=0)
                assert isinstance(content, bytes)
                return content
        if author_text.blocks:
            raise InputError(_too_long(_compiler(folder, {**layout, "shows_text": False}), author_text))
    raise RuntimeError("the report does not fit on one page")  # pragma: no cover


def _compiler(folder: Path, layout: dict[str, Any]) -> typst.Compiler:
    (folder / "data.json").write_text(json.dumps(layout), encoding="utf-8")
    fonts = [str(folder / "fonts")]
    return typst.Compiler(str(folder / TEMPLATE), root=str(folder), font_paths=fonts, ignore_system_fonts=True)


def _too_long(page_without_text: typst.Compiler, author_text: AuthorText) -> str:
    """Return the message that says by how much the text has to be shortened."""
    needed, free = _query(page_without_text, "<text-height>"), _query(page_without_text, "<free-height>")
    words = author_text.num_words
    surplus = min(words, math.ceil(words * (1 - free / needed) / 10) * 10)
    return (
        f"--text {author_text.file} does not fit on the page: it needs {needed:.0f} mm, and {free:.0f} mm are free; "
        f"remove about {surplus} of its {words} words"
    )


def _query(compiler: typst.Compiler, label: str) -> float:
    return float(json.loads(compiler.query(label, field="value", one=True)))


def _layouts(context: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the context with progressively smaller fonts, then with fewer findings, and finally without figures.

    The author's text does not replace the figures: if it does not fit beside them, the author has to shorten it.
    """
    sentences, notes, smallest_font = context["findings"], context["notes"], TEXT_FONTS[-1]
    context = {**context, "omitted_findings": "", "min_column_gap": MIN_COLUMN_GAP}
    for font in TEXT_FONTS:
        yield {**context, "font": font, "table_font": max(smallest_font, font - 0.5)}
    context |= {"font": smallest_font, "table_font": smallest_font, "min_column_gap": 0}
    if len(notes) > 3:
        context["notes"] = [*notes[:2], f"{len(notes) - 2} more notes are in the .json file of this report."]
    half = len(sentences) // 2
    yield from (_with_findings(context, sentences, count) for count in range(len(sentences), half, -1))
    context |= {"has_architecture": False, "architecture_caption": "The architecture is omitted for lack of space."}
    yield from (_with_findings(context, sentences, count) for count in range(len(sentences), 0, -1))
    if not context["text"]:
        yield {**_with_findings(context, sentences, 1), "has_figures": False}


def _with_findings(context: dict[str, Any], sentences: Sequence[str], count: int) -> dict[str, Any]:
    """Return the context with `count` findings; the last one, which is about all rows, is always kept."""
    omitted = len(sentences) - count
    note = f"{plural(omitted, 'finding')} omitted for lack of space; see the .json file of this report."
    return {
        **context,
        "findings": [*sentences[: count - 1], sentences[-1]],
        "omitted_findings": note if omitted else "",
    }
