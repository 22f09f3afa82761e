"""The PDF report: one A4 page with table, findings and figures, and a JSON file with the runs behind each number."""

import json
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
from ablation.report import datasize_figure
from ablation.report.architecture import final_architecture
from ablation.report.architecture_figure import band_size, draw_architecture
from ablation.report.context import report_context
from ablation.report.cost_figure import draw_accuracy_against
from ablation.report.curves_figure import draw_curves
from ablation.report.datasize_findings import datasize_findings
from ablation.report.figure_style import PARETO_LEGEND, FigureSize, save
from ablation.report.findings import findings
from arch.text import printable, shorten
from benchmarks.records.atomic_write import replace_file

TEXT_WIDTH_MM = 180.0
FIGURE_GAP_MM = 5.0
MM_PER_INCH = 25.4
FIGURE_FONT = 7.5  # points; nothing on the page is smaller
FIGURE_LINE = 0.9  # points
TEXT_FONTS = (10.0, 9.5, 9.0, 8.5, 8.0, 7.5)  # points; the largest size with which everything fits is used
MIN_COLUMN_GAP = 5  # points, between two columns of the table
CURVES_CAPTION = "Test top-1 against epoch: mean over seeds, band from worst to best seed."
COST_CAPTION = f"Final top-1 (mean ± std) against training time; {PARETO_LEGEND}."
IMAGES_CAPTION = (
    "Top-1 on the test (solid) and training (dashed) images versus the number of training images;  "
    f"{datasize_figure.LEGEND}{datasize_figure.LAW_LEGEND}, if it can be fitted."
)


def write_report(recorded: RecordedPlan, table: AblationTable, path: Path) -> Path:
    """Write the report to `path`, and the runs behind its numbers to a .json file beside it; return `path`.

    The same input always gives the same bytes.

    Args:
        recorded: The rows and their records, with learning curves.
        table: Their table.
        path: The PDF file.
    """
    sentences, series = findings(recorded, table), datasize_series(recorded)
    if series:
        sentences = [*datasize_findings(series), sentences[-1]]
    context = report_context(recorded, table, sentences, by_row=not series)
    provenance = json.dumps({**table_provenance(recorded, table), "findings": sentences}, indent=1) + "\n"
    content = _compile(context, recorded, table)
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


def _compile(context: dict[str, Any], recorded: RecordedPlan, table: AblationTable) -> bytes:
    """Return the PDF of the first layout that fits on one page."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        fonts = folder / "fonts"
        fonts.mkdir()
        for file in ("DejaVuSans.ttf", "DejaVuSans-Bold.ttf", "DejaVuSans-Oblique.ttf"):
            shutil.copyfile(Path(mpl.get_data_path()) / "fonts" / "ttf" / file, fonts / file)
        template = folder / "report.typ"
        shutil.copyfile(Path(__file__).with_name(template.name), template)
        context = {**context, **_draw_figures(context["row_indices"], recorded, table, folder)}
        for layout in _layouts(context):
            (folder / "data.json").write_text(json.dumps(layout), encoding="utf-8")
            compiler = typst.Compiler(str(template), root=name, font_paths=[str(fonts)], ignore_system_fonts=True)
            if _query(compiler, "<pages>") == 1 and _query(compiler, "<column-gap>") >= layout["min_column_gap"]:
                content = compiler.compile(format="pdf", timestamp=0)
                assert isinstance(content, bytes)
                return content
    raise RuntimeError("the report does not fit on one page")  # pragma: no cover


def _query(compiler: typst.Compiler, label: str) -> float:
    return float(json.loads(compiler.query(label, field="value", one=True)))


def _layouts(context: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the context with progressively smaller fonts, then with fewer findings, and finally without figures."""
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
    yield {**_with_findings(context, sentences, 1), "has_figures": False}


def _with_findings(context: dict[str, Any], sentences: Sequence[str], count: int) -> dict[str, Any]:
    """Return the context with `count` findings; the last one, which is about all rows, is always kept."""
    omitted = len(sentences) - count
    note = f"{omitted} finding{'s' * (omitted > 1)} omitted for lack of space; see the .json file of this report."
    return {
        **context,
        "findings": [*sentences[: count - 1], sentences[-1]],
        "omitted_findings": note if omitted else "",
    }


def _draw_figures(indices: Sequence[int], recorded: RecordedPlan, table: AblationTable, folder: Path) -> dict[str, Any]:
    """Write the figures as SVG and return their part of the context. `indices` are those of the printed rows."""
    plan = recorded.plan
    printed = replace(recorded, plan=replace(plan, rows=tuple(plan.rows[index] for index in indices)))
    frame, series = table.frame.iloc[list(indices)], datasize_series(recorded)
    has_figures = bool(frame["n"].any())
    if has_figures:
        width, height = (TEXT_WIDTH_MM - FIGURE_GAP_MM) / 2, max(57.0, 92 - 2.9 * len(indices))
        size = FigureSize(width / MM_PER_INCH, height / MM_PER_INCH, FIGURE_FONT, FIGURE_LINE)
        save(draw_curves(printed, size), folder / "curves.svg", "svg", text=True)
        beside = (
            datasize_figure.draw_accuracy_against_images(series, size)
            if series
            else draw_accuracy_against("hours", printed.rows, frame, size)
        )
        save(beside, folder / "cost.svg", "svg", text=True)
    return {
        "has_figures": has_figures,
        "figure_gap": FIGURE_GAP_MM,
        "curves_caption": CURVES_CAPTION,
        "cost_caption": IMAGES_CAPTION if series else COST_CAPTION,
        **_draw_final_architecture(recorded, folder),
    }


def _draw_final_architecture(recorded: RecordedPlan, folder: Path) -> dict[str, Any]:
    row, sections = final_architecture(recorded)
    if row is None:
        caption = "No architecture is drawn, because no run has finished."
    elif not sections:
        caption = f"The architecture of {shorten(row.label, 60)} is not drawn, because its records do not contain it."
    else:
        size = band_size(sections, TEXT_WIDTH_MM / MM_PER_INCH, FIGURE_FONT)
        save(draw_architecture(sections, size), folder / "architecture.svg", "svg", text=True)
        caption = (
            f"Architecture of {shorten(row.label, 60)}: the layers of each stage's first block, attention in orange, "
            "its shortcut in italics; below each stage, the output for one image (channels × height × width) and the "
            "parameters."
        )
    return {"has_architecture": bool(sections), "architecture_caption": caption}
