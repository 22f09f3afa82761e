"""The report context: everything that the PDF report prints, as plain data for its template."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ablation.analysis.columns import LEFT_ALIGNED_COLUMNS, readable
from ablation.analysis.records import RecordedPlan
from ablation.analysis.table_formats import AblationTable
from ablation.plans.row import Row
from ablation.report.findings import best_row, format_top1, format_with_unit
from arch.text import shorten
from benchmarks.budget.verdict import format_hours

MAX_ROWS = 12
MAX_NOTES = 5
MAX_NAMES_IN_FOOTER = 12
MAX_VERSIONS_IN_FOOTER = 8
MAX_NOTE_CHARACTERS = 400
MAX_CAPTION_CHARACTERS = 1000
MAX_SENTENCE_CHARACTERS = 600
MAX_CELL_CHARACTERS = 26  # what fits the width of the first column
OMITTED_COLUMNS = ("Δ first",)  # the findings contain these numbers


def report_context(
    recorded: RecordedPlan, table: AblationTable, sentences: Sequence[str], by_row: bool = True
) -> dict[str, Any]:
    """Return everything that the report prints, except for the figures.

    Args:
        recorded: The rows and their records.
        table: Their table.
        sentences: The findings.
        by_row: Whether the findings start with one sentence per compared row. Those of omitted rows are left out.
    """
    rows, lines = recorded.rows, table.frame.to_dict("records")
    indices = printed_rows(rows, lines)
    compared = [index for index, row in enumerate(rows) if row.against]
    omitted = [i for i, index in enumerate(compared) if index not in indices] if by_row else []
    return {
        "title": study_title(recorded),
        "subtitle": shorten(study_subtitle(rows), 220),
        "notes": [_sentence(table.caption, MAX_CAPTION_CHARACTERS), *_notes(rows, indices, table.notes)],
        "findings": [_sentence(sentence) for i, sentence in enumerate(sentences) if i not in omitted],
        "row_indices": indices,
        **best_row_numbers(recorded, lines),
        **_table_cells(table, indices),
        "footer": _footer(recorded),
    }


def printed_rows(rows: Sequence[Row], lines: Sequence[Mapping[Any, Any]]) -> list[int]:
    """Return the indices of the printed rows: all, or the first, last and best and those with the largest changes."""
    if len(rows) <= MAX_ROWS:
        return list(range(len(rows)))

    def importance(index: int) -> tuple[bool, bool, float]:
        line = lines[index]
        return line["n"] > 0, line["verdict"].startswith(("real", "worse")), abs(float(np.nan_to_num(line["change"])))

    _, best = best_row(rows, lines)
    kept = {0, len(rows) - 1} | {index for index, line in enumerate(lines) if line is best}
    others = sorted(set(range(len(rows))) - kept, key=importance, reverse=True)
    return sorted([*kept, *others[: MAX_ROWS - len(kept)]])


def study_title(recorded: RecordedPlan) -> str:
    """Return the kind of study and its benchmark."""
    return f"{_study_name(recorded.rows)} on {shorten(recorded.benchmark.name, 60)}"


def _study_name(rows: Sequence[Row]) -> str:
    if any(row.overrides.teacher for row in rows):
        return "Distillation"
    return "Data size" if len({row.overrides.data_fraction for row in rows}) > 1 else "Ablation"


def study_subtitle(rows: Sequence[Row]) -> str:
    """Return the spec with all steps, the base and steps of pairs, or the models if they have different bases."""
    if len({row.overrides for row in rows}) > 1:
        return ", ".join(dict.fromkeys(row.spec.partition("@")[0] for row in rows))
    if sum(row.is_interaction for row in rows) > 1:
        steps = ", ".join(row.label for row in rows[1:] if not row.is_interaction)
        return f"{rows[0].spec} with {steps} and pairs of them"
    if len({row.config.spec.base for row in rows}) > 1:
        return ", ".join(row.label for row in rows)
    return max((row.spec for row in rows), key=len)


def _notes(rows: Sequence[Row], indices: Sequence[int], table_notes: Sequence[str]) -> list[str]:
    notes = [*table_notes[:MAX_NOTES]]
    if len(table_notes) > MAX_NOTES:
        notes.append(f"{len(table_notes) - MAX_NOTES} more notes are in the .json file of this report")
    if len(indices) < len(rows):
        labels = [shorten(row.label) for index, row in enumerate(rows) if index not in indices]
        names = shorten(", ".join(labels), 90)
        notes.insert(0, f"{len(labels)} of {len(rows)} rows are omitted here and in the figures: {names}")
    return [_sentence(note, MAX_NOTE_CHARACTERS) for note in notes]


def _sentence(text: str, max_characters: int = MAX_SENTENCE_CHARACTERS) -> str:
    """Return a sentence of limited length with typographic minus signs and no line break inside a number."""
    text = shorten(text.strip(), max_characters).removesuffix(".") + "."
    text = re.sub(r"(?<=[\[ ])-(?=\d+\.\d\d[\], ])", "\u2212", text)
    unbreakable = re.compile(r"(?:95% CI )?\[[^\[\]]{0,20}\]|\bn = \d+|(?<=\d) (?:points|h|min|s)\b|\u00b1 \d")
    return unbreakable.sub(lambda match: match[0].replace(" ", "\u00a0"), text)


def _table_cells(table: AblationTable, indices: Sequence[int]) -> dict[str, Any]:
    """Return the printed table. The CI is a separate column, so that the digits of changes are aligned."""
    text = readable(table.frame.iloc[list(indices)])
    columns: dict[str, list[str]] = {}
    for name in text.columns:
        values = [shorten(value, MAX_CELL_CHARACTERS) for value in text[name]]
        if name == "change":
            columns["change"] = [_minus(value.partition(" ")[0]) for value in values]
            columns["95% CI"] = [_minus(value.partition(" ")[2]) for value in values]
        elif name not in OMITTED_COLUMNS:
            columns[name] = values if name == "step" else [_minus(value) for value in values]
    return {
        "columns": list(columns),
        "align": ["left" if name in LEFT_ALIGNED_COLUMNS else "right" for name in columns],
        "verdict_column": list(columns).index("verdict"),
        "rows": [list(line) for line in zip(*columns.values(), strict=True)],
    }


def _minus(text: str) -> str:
    return re.sub(r"-(?=\d)", "\u2212", text)


def best_row_numbers(recorded: RecordedPlan, lines: Sequence[Mapping[Any, Any]]) -> dict[str, Any]:
    """Return the headline and the numbers of the best row, as pairs of a number and its name."""
    title, line = best_row(recorded.rows, lines)
    if line is None:
        return {"best": [], "best_title": title}
    row = recorded.rows[next(index for index, other in enumerate(lines) if other is line)]
    top5 = [run.top5 for run in recorded.runs(row)]
    std = f" ± {np.std(top5, ddof=1):.2f}" if len(top5) > 1 else ""
    numbers = [
        (f"{format_top1(line)} %", "top-1"),
        (f"{line['top5_mean']:.2f}{std} %", "top-5"),
        (f"{int(line['params']):,}", "params"),
        (format_with_unit(2 * line["macs"], "FLOPs"), f"per image = {format_with_unit(line['macs'], 'MACs')}"),
        (f"{line['images_per_second']:,.0f} img/s", "in training"),
        (format_hours(line["hours"]), "per run, measured"),
    ]
    return {"best": numbers, "best_title": f"{title}: {shorten(row.label, 60)}, n = {line['n']}"}


def _footer(recorded: RecordedPlan) -> str:
    """Return the benchmark id, devices, versions, commits and seeds of the runs."""
    runs = [run for row in recorded.rows for run in recorded.runs(row)]
    ids = sorted({run.benchmark_id for run in runs})
    versions = sorted({f"{name} {version}" for run in runs for name, version in run.versions.items()})
    parts = [
        f"benchmark {recorded.benchmark.name} {', '.join(ids)}".rstrip(),
        _enumerate("device", sorted({run.device for run in runs})),
        ", ".join(versions[:MAX_VERSIONS_IN_FOOTER]),
        _enumerate("commit", sorted({run.commit for run in runs if run.commit})),
        _enumerate("seed", [str(seed) for seed in sorted({run.seed for run in runs})]),
        "the runs of each row are listed in the .json file of this report",
    ]
    return " · ".join(shorten(part, 160) for part in parts if part)


def _enumerate(name: str, values: Sequence[str]) -> str:
    more = f" and {len(values) - MAX_NAMES_IN_FOOTER} more" if len(values) > MAX_NAMES_IN_FOOTER else ""
    return f"{name}{'s' * (len(values) > 1)} {', '.join(values[:MAX_NAMES_IN_FOOTER])}{more}" if values else ""
