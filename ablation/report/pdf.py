"""The report: one A4 page with table, findings and figures as PDF, and beside it every number's records as JSON."""

import json
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib as mpl
import typst

from ablation.analysis.datasize_series import series_of
from ablation.analysis.table_formats import AblationTable, to_json
from ablation.plans.row import Pairing, Row, runs_of
from ablation.report.architecture import band, draw_architecture, last_architecture
from ablation.report.context import page_data
from ablation.report.datasize_figure import LAW, SIGNS, against_images
from ablation.report.datasize_findings import datasize_findings
from ablation.report.figure_style import FigureSize, save
from ablation.report.figures import accuracy_against, curves
from ablation.report.findings import findings
from arch.text import printable, shorten
from benchmarks.definition.benchmark import Benchmark
from benchmarks.records.atomic_write import replace_file
from benchmarks.records.store import RunRecord

WIDTH, BETWEEN = 180.0, 5.0  # mm: of what is printed on the page, and between two figures
FONT, LINE = 7.5, 0.9  # points, in figures: nothing on the page is smaller
COST_WORDS = "Final top-1 (mean ± std) against training time; dashed: Pareto front."
SIZE_WORDS = f"Top-1 of test (solid) and training (dashed) against training images; {SIGNS}{LAW}, where there is one."
FONTS = (10.0, 9.5, 9.0, 8.5, 8.0, 7.5)  # points of the text: the first with which all fits


def write_report(
    table: AblationTable,
    rows: Sequence[Row],
    results: Sequence[RunRecord],
    benchmark: Benchmark,
    path: Path,
    pairing: Pairing,
    seeds: int | None = None,
) -> Path:
    """Writes the page to `path` and its numbers' origin beside it as .json; returns the path of the page.

    results, pairing, seeds: those that the table was made with. The same input gives the same bytes.
    """
    sentences, series = findings(rows, table, results, pairing, seeds), series_of(rows, results, seeds)
    if series:
        sentences = [*datasize_findings(series), sentences[-1]]
    page = page_data(table, rows, results, benchmark, sentences, seeds, by_row=not series)
    origin = {**traced(table, rows, results, benchmark, seeds), "findings": sentences}
    text = json.dumps(origin, indent=1) + "\n"
    content = _pdf(page, table, rows, results, seeds)
    replace_file(path, lambda file: file.write_bytes(content))
    replace_file(path.with_suffix(".json"), lambda file: file.write_text(text, encoding="utf-8"))
    return path


def traced(
    table: AblationTable,
    rows: Sequence[Row],
    results: Sequence[RunRecord],
    benchmark: Benchmark,
    seeds: int | None = None,
) -> dict[str, Any]:
    """All that the table says, and of each row the ids of its runs and the rows it is compared with."""
    frame = table.frame.map(lambda value: printable(value) if isinstance(value, str) else value)
    content = to_json(replace(table, frame=frame))
    for row, line in zip(rows, content["rows"], strict=True):
        line["runs"] = [run.run_id for run in runs_of(row, results, seeds).values()]
        line["compared_with"] = [{"row": place, "weight": weight} for place, weight in row.against]
    return {"benchmark": benchmark.name, **content}


def _pdf(
    page: dict[str, Any], table: AblationTable, rows: Sequence[Row], results: Sequence[RunRecord], seeds: int | None
) -> bytes:
    """The page, with the largest letters that it holds all with; then with fewer findings and notes."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        fonts = folder / "fonts"
        fonts.mkdir()
        for file in ("DejaVuSans.ttf", "DejaVuSans-Bold.ttf", "DejaVuSans-Oblique.ttf"):
            shutil.copyfile(Path(mpl.get_data_path()) / "fonts" / "ttf" / file, fonts / file)
        shutil.copyfile(Path(__file__).with_name("report.typ"), folder / "report.typ")
        page = {**page, **_draw(page["places"], table, rows, results, seeds, folder)}
        main = str(folder / "report.typ")
        for attempt in _attempts(page):
            (folder / "data.json").write_text(json.dumps(attempt), encoding="utf-8")
            compiler = typst.Compiler(main, root=name, font_paths=[str(fonts)], ignore_system_fonts=True)
            if _value(compiler, "<pages>") == 1 and _value(compiler, "<gutter>") >= attempt["least_gutter"]:
                content = compiler.compile(format="pdf", timestamp=0)
                assert isinstance(content, bytes)
                return content
    raise RuntimeError("the report does not fit one page")  # pragma: no cover


def _value(compiler: typst.Compiler, label: str) -> float:
    found = json.loads(compiler.query(label, field="value", one=True))
    return float(found)


def _attempts(page: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The same page in ever smaller letters, then with ever fewer sentences, at last without its figures."""
    sentences, notes = page["findings"], page["notes"]
    page = {**page, "findings_left_out": "", "least_gutter": 5}
    for font in FONTS:
        yield {**page, "font": font, "table_font": max(FONTS[-1], font - 0.5)}
    page |= {"font": FONTS[-1], "table_font": FONTS[-1], "least_gutter": 0}
    if len(notes) > 3:
        page["notes"] = [*notes[:2], f"{len(notes) - 2} more notes are in the .json beside this page."]
    half = len(sentences) // 2
    yield from (_with_findings(page, sentences, kept) for kept in range(len(sentences), half, -1))
    page |= {"drawn": False, "architecture_words": "The architecture is left out for want of room."}
    yield from (_with_findings(page, sentences, kept) for kept in range(len(sentences), 0, -1))
    yield {**_with_findings(page, sentences, 1), "figures": False}


def _with_findings(page: dict[str, Any], sentences: Sequence[str], kept: int) -> dict[str, Any]:
    """The page with so many of its findings, the last of which tells of all rows."""
    left_out = len(sentences) - kept
    words = (
        f"Findings left out for want of room: {left_out}; they are in the .json beside this page." if left_out else ""
    )
    return {**page, "findings": [*sentences[: kept - 1], sentences[-1]], "findings_left_out": words}


def _draw(
    places: Sequence[int],
    table: AblationTable,
    rows: Sequence[Row],
    results: Sequence[RunRecord],
    seeds: int | None,
    folder: Path,
) -> dict[str, Any]:
    """Writes the figures and says what there is to see."""
    drawn = [rows[place] for place in places]
    frame = table.frame.iloc[list(places)]
    has_results = bool(frame["n"].any())
    series = series_of(rows, results, seeds)
    size = FigureSize((WIDTH - BETWEEN) / 2 / 25.4, max(57.0, 92 - 2.9 * len(places)) / 25.4, FONT, LINE)
    if has_results:
        save(curves(drawn, results, size, seeds=seeds), folder / "curves.svg", "svg", text=True)
        beside = against_images(series, size) if series else accuracy_against("hours", drawn, frame, size)
        save(beside, folder / "cost.svg", "svg", text=True)
    row, sections = last_architecture(rows, results, seeds)
    if sections:
        banded = band(sections, WIDTH / 25.4, FONT)
        save(draw_architecture(sections, banded), folder / "architecture.svg", "svg", text=True)
    words = f"Architecture of {shorten(row.label, 60)}" if row else ""
    missing = (
        f"{words} is not drawn: its records do not tell it."
        if row
        else "No architecture is drawn: no run has a result."
    )
    return {
        "figures": has_results,
        "between": BETWEEN,
        "curves_words": "Test top-1 against epoch: mean over seeds, band from worst to best.",
        "cost_words": SIZE_WORDS if series else COST_WORDS,
        "drawn": bool(sections),
        "architecture_words": (
            f"{words}: layers of each stage's first block, attention in orange, its shortcut in italics; below each, "
            "what comes out for one image (channels × height × width) and the parameters."
            if sections
            else missing
        ),
    }
