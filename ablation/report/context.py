"""What the report's page says: plain data for its template, made from a table and the records behind it."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ablation.analysis.table_formats import AblationTable, readable
from ablation.plans.row import Row, runs_of
from ablation.report.findings import best_line, spread, with_unit
from arch.text import shorten
from benchmarks.budget.verdict import format_hours
from benchmarks.definition.benchmark import Benchmark
from benchmarks.records.store import RunRecord

MOST_ROWS, MOST_NOTES = 12, 5
LEFT_COLUMNS = ("step", "verdict")
NOT_PRINTED = ("Δ first",)  # the findings tell it
LONGEST_NOTE, LONGEST_LINE, LONGEST_CAPTION = 400, 600, 420  # characters of a note, a sentence, and the caption


def chosen(rows: Sequence[Row], lines: Sequence[Mapping[Any, Any]]) -> list[int]:
    """The places of the rows that are printed: all, or the first, last and best, and the largest changes."""
    if len(rows) <= MOST_ROWS:
        return list(range(len(rows)))

    def told(place: int) -> tuple[bool, bool, float]:
        line = lines[place]
        return line["n"] > 0, line["verdict"] in ("real", "worse"), abs(float(np.nan_to_num(line["change"])))

    best = best_line(lines)
    kept = {0, len(rows) - 1} | {place for place, line in enumerate(lines) if line is best}
    others = sorted(set(range(len(rows))) - kept, key=told, reverse=True)
    return sorted([*kept, *others[: MOST_ROWS - len(kept)]])


def page_data(
    table: AblationTable,
    rows: Sequence[Row],
    results: Sequence[RunRecord],
    benchmark: Benchmark,
    sentences: Sequence[str],
    seeds: int | None = None,
    by_row: bool = True,
) -> dict[str, Any]:
    """All that the page says, as plain data for the template.

    by_row: whether the first sentences are of the rows that are compared, one each.
    """
    lines = table.frame.to_dict("records")
    places = chosen(rows, lines)
    compared = [place for place, row in enumerate(rows) if row.against]
    left_out = [i for i, place in enumerate(compared) if place not in places] if by_row else []
    told = [sentence for i, sentence in enumerate(sentences) if i not in left_out]
    notes = [*table.notes[:MOST_NOTES]]
    if len(table.notes) > MOST_NOTES:
        notes.append(f"{len(table.notes) - MOST_NOTES} more notes are in the .json beside this page")
    if len(places) < len(rows):
        labels = [shorten(row.label) for place, row in enumerate(rows) if place not in places]
        names = shorten(", ".join(labels), 90)
        notes.insert(0, f"{len(labels)} of {len(rows)} rows are left out here and in the figures: {names}")
    return {
        "title": f"{_kind(rows)} on {shorten(benchmark.name, 60)}",
        "subtitle": shorten(_proposal(rows), 220),
        "notes": [_line(table.caption, LONGEST_CAPTION), *(_line(line, LONGEST_NOTE) for line in notes)],
        "findings": [_line(line) for line in told],
        "places": places,
        "nothing": "No run has a result yet.",
        **_best(rows, results, lines, seeds),
        **_cells(table, places),
        "footer": _footer(table, rows, results, benchmark, seeds),
    }


def _kind(rows: Sequence[Row]) -> str:
    """What kind of study the rows are."""
    if any(row.overrides.teacher for row in rows):
        return "Distillation"
    return "Data size" if len({row.overrides.fraction for row in rows}) > 1 else "Ablation"


def _proposal(rows: Sequence[Row]) -> str:
    """What the rows are of: the spec with all steps, or where they are pairs the steps and what they are added to; of
    nets that are treated otherwise the nets."""
    if len({row.overrides for row in rows}) > 1:
        return ", ".join(dict.fromkeys(row.spec.partition("@")[0] for row in rows))
    if sum(row.is_interaction for row in rows) > 1:
        steps = ", ".join(row.label for row in rows[1:] if not row.is_interaction)
        return f"{rows[0].spec} with {steps} and pairs of them"
    return max((row.spec for row in rows), key=len)


def _line(text: str, longest: int = LONGEST_LINE) -> str:
    """A sentence: cut if it is long, with real minus signs, and its numbers kept in one line."""
    text = shorten(text.strip(), longest).removesuffix(".") + "."
    text = re.sub(r"(?<=[\[ ])-(?=\d+\.\d\d[\], ])", "\u2212", text)
    joined = re.compile(r"\[[^\[\]]{0,20}\]( points)?|\([n=] [^()]{0,12}\)|(?<=\d) (h|min|s)\b|\u00b1 \d")
    return joined.sub(lambda found: found[0].replace(" ", "\u00a0"), text)


def _cells(table: AblationTable, places: Sequence[int]) -> dict[str, Any]:
    """The printed table: the change and its interval in columns of their own, so that digits stand below digits."""
    text = readable(table.frame.iloc[list(places)])
    kept = [name for name in text.columns if name not in NOT_PRINTED]
    columns, cells = [], []
    for name in kept:
        values = [shorten(value, 60) for value in text[name]]
        if name == "change":
            columns += ["change", "95% interval"]
            cells += [[value.partition(" ")[0] for value in values], [value.partition(" ")[2] for value in values]]
        else:
            columns.append(name)
            cells.append(values)
    signed = [[value if i == 0 else _minus(value) for value in column] for i, column in enumerate(cells)]
    return {
        "columns": columns,
        "align": ["left" if name in LEFT_COLUMNS else "right" for name in columns],
        "verdict": columns.index("verdict") if "verdict" in columns else -1,
        "rows": [list(line) for line in zip(*signed, strict=True)],
    }


def _minus(text: str) -> str:
    return re.sub(r"-(?=\d)", "−", text)


def _best(
    rows: Sequence[Row], results: Sequence[RunRecord], lines: Sequence[Mapping[Any, Any]], seeds: int | None
) -> dict[str, Any]:
    """The row with the highest mean top-1, in numbers: (number, what it is)."""
    line = best_line(lines)
    if line is None:
        return {"best": [], "best_of": ""}
    row = rows[next(place for place, other in enumerate(lines) if other is line)]
    top5 = [run.top5 for run in runs_of(row, results, seeds).values()]
    std = f" ± {np.std(top5, ddof=1):.2f}" if len(top5) > 1 else ""
    numbers = [
        (f"{spread(line, 'top1')} %", "top-1"),
        (f"{line['top5_mean']:.2f}{std} %", "top-5"),
        (f"{int(line['params']):,}", "params"),
        (with_unit(2 * line["macs"], "FLOPs"), f"an image = {with_unit(line['macs'], 'MACs')}"),
        (f"{line['images_per_second']:,.0f} img/s", "in training"),
        (format_hours(line["hours"]), "training and evaluation"),
    ]
    return {"best": numbers, "best_of": f"highest mean top-1: {shorten(row.label, 60)}, n = {line['n']}"}


def _footer(
    table: AblationTable, rows: Sequence[Row], results: Sequence[RunRecord], benchmark: Benchmark, seeds: int | None
) -> str:
    runs = [run for row in rows for run in runs_of(row, results, seeds).values()]
    ids = sorted({run.benchmark_id for run in runs})
    versions = sorted({f"{name} {version}" for run in runs for name, version in run.versions.items()})
    commits = sorted({run.commit for run in runs if run.commit})
    used = sorted({run.seed for run in runs})
    parts = [
        f"benchmark {benchmark.name} {', '.join(ids)}".rstrip(),
        _few("device", sorted({run.device for run in runs})),
        ", ".join(versions[:8]),
        _few("commit", commits),
        _few("seed", [str(seed) for seed in used]),
        "the runs behind each number are named in the .json beside this page",
    ]
    return " · ".join(shorten(part, 160) for part in parts if part)


def _few(name: str, values: Sequence[str]) -> str:
    more = f" and {len(values) - 12} more" if len(values) > 12 else ""
    return f"{name}{'s' * (len(values) > 1)} {', '.join(values[:12])}{more}" if values else ""
