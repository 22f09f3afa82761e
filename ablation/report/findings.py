"""Findings: the results of a table as draft sentences. They contain only numbers that are in the records."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ablation.analysis.records import RecordedPlan
from ablation.analysis.statistics import ALPHA, Change, estimate_change
from ablation.analysis.table import UNDECIDED
from ablation.analysis.table_formats import AblationTable
from ablation.plans.row import Row, RowKind
from arch.text import plural, shorten
from benchmarks.budget.verdict import format_count, format_hours

Line = Mapping[Any, Any]  # one row of `AblationTable.frame`
EXCLUDED_KINDS: Mapping[RowKind, str] = {  # rows that are never the headline, as a name
    "alternative": "~ rows",
    "carried": "carried-over rows",
}


def findings(recorded: RecordedPlan, table: AblationTable) -> list[str]:
    """Return one sentence for each row that is compared with another, then one for all steps, then the best row.

    Args:
        recorded: The rows and records that the table was made from.
        table: The table.

    Raises:
        ValueError: If the table was made from different rows or records.
    """
    lines, rows = table.frame.to_dict("records"), recorded.rows
    if [line["n"] for line in lines] != [len(recorded.runs(row)) for row in rows]:
        raise ValueError("the table was made from different rows or records")
    sentences = [_row_sentence(row, line, rows, lines) for row, line in zip(rows, lines, strict=True) if row.against]
    return [*sentences, *_overall_sentence(recorded, table), _best_sentence(rows, lines)]


def _row_sentence(row: Row, line: Line, rows: Sequence[Row], lines: Sequence[Line]) -> str:
    subject = _subject(row, rows)
    if not line["n"]:
        failed = f"; {line['failed']} of {plural(line['seeds'], 'run')} failed" if line["failed"] else ""
        return f"{subject}: no result{failed}."
    if math.isnan(line["change"]):
        return f"{subject}: no comparison, because {_missing_reference(row, rows, lines)}."
    return f"{subject}{_change_phrase(line, ' beyond the sum of both parts' if row.is_interaction else '')}."


def _change_phrase(line: Line, beyond: str) -> str:
    points = line["change"]
    if line["change_n"] < 2:
        return f": {points:+z.2f} points{beyond}; one seed cannot show a change (n = {line['change_n']})"
    small = ", less than the margin" if "equivalent" in line["verdict"] else ""
    if line["verdict"].startswith("real"):
        return f" raises top-1 by {points:.2f} points{beyond}{small} ({row_evidence(line)})"
    if line["verdict"].startswith("worse"):
        return f" lowers top-1 by {-points:.2f} points{beyond}{small} ({row_evidence(line, is_decrease=True)})"
    if small:
        return f": change shown to be less than the margin, {points:+z.2f} points{beyond} ({row_evidence(line)})"
    if line["verdict"] == UNDECIDED:
        return f": change not decided yet, {points:+z.2f} points{beyond} ({row_evidence(line)})"
    corrected = " after Holm correction" if line["p"] <= ALPHA else ""
    return f": change not shown{corrected}, {points:+z.2f} points{beyond} ({row_evidence(line)})"


def row_evidence(line: Line, is_decrease: bool = False) -> str:
    """Return the 95% CI of a row's change over the seeds, that over seeds and test images, and the number of seeds."""
    low, high, images_low, images_high = (
        line[name] for name in ("change_low", "change_high", "change_images_low", "change_images_high")
    )
    if is_decrease:
        low, high, images_low, images_high = -high, -low, -images_high, -images_low
    images = "" if math.isnan(images_low) else f"over seeds and test images [{images_low:z.2f}, {images_high:z.2f}], "
    return format_evidence(low, high, line["change_n"], images)


def format_evidence(low: float, high: float, n: int, more: str = "") -> str:
    """Return the 95% CI, if there is one, more evidence, and the number of seeds."""
    interval = "" if math.isnan(low) else f"95% CI [{low:z.2f}, {high:z.2f}], "
    return f"{interval}{more}n = {n}"


def _missing_reference(row: Row, rows: Sequence[Row], lines: Sequence[Line]) -> str:
    names = [shorten(rows[index].label) for index, _ in row.against if not lines[index]["n"]]
    if not names:
        return "the rows have no seed in common"
    return f"{' and '.join(names)} {'has' if len(names) == 1 else 'have'} no result"


def _subject(row: Row, rows: Sequence[Row]) -> str:
    """Return the change as the subject of a sentence, with its label in the table."""
    label = shorten(row.label)
    if row.kind == "alternative":
        return f"In place of {shorten(rows[row.against[0][0]].label)}, {label}"
    is_default = row.kind == "without" and label.startswith("-")
    return f"Removing {label[1:]}" if is_default else label


def _overall_sentence(recorded: RecordedPlan, table: AblationTable) -> list[str]:
    """Return the change from the first row to the last step, unless another sentence contains it."""
    rows = recorded.rows
    steps = [index for index, row in enumerate(rows) if row.kind == "step" and recorded.runs(row)]
    first, last = rows[0], max(steps, default=0)
    has_pairs = sum(row.is_interaction for row in rows) > 1  # none of several pairs contains all steps
    if not recorded.runs(first) or has_pairs or rows[last].key == first.key or not _is_path(rows, last):
        return []
    total = estimate_change(recorded.accuracies(rows[last]), [(recorded.accuracies(first), -1)], table.pairing)
    if math.isnan(total.points):
        return []
    return [f"Overall, {shorten(first.label)} to {shorten(rows[last].label)}: {_total_phrase(total)}."]


def _total_phrase(total: Change) -> str:
    if total.n == 1:
        return f"{total.points:+z.2f} points; one seed cannot show a change (n = 1)"
    return f"{total.points:+z.2f} points ({format_evidence(total.low, total.high, total.n)})"


def _is_path(rows: Sequence[Row], last: int) -> bool:
    """Return whether several steps, each compared with the one before, lead from the first row to this one."""
    index, steps = last, 0
    while rows[index].against:
        index, steps = rows[index].against[0][0], steps + 1
    return index == 0 and steps > 1


def _best_sentence(rows: Sequence[Row], lines: Sequence[Line]) -> str:
    title, best = best_row(rows, lines)
    if best is None:
        return title
    cost = f"{int(best['params']):,} params, {format_with_unit(2 * best['macs'], 'FLOPs')} (1 MAC = 2 FLOPs)"
    means = f"top-1 {format_top1(best)} and top-5 {best['top5_mean']:.2f} (n = {best['n']})"
    return f"{title}: {shorten(best['step'])} with {means}, {cost}, {format_hours(best['hours'])}."


def best_row(rows: Sequence[Row], lines: Sequence[Line]) -> tuple[str, Line | None]:
    """Return a headline and the line with the highest mean top-1, except rows of `EXCLUDED_KINDS`.

    Args:
        rows: The rows.
        lines: Their lines in the frame.

    Returns:
        The headline, which names an excluded row that is better, and the line. Without a line, the headline says why.
    """
    finished = [(row, line) for row, line in zip(rows, lines, strict=True) if line["n"]]
    candidates = [line for row, line in finished if row.kind not in EXCLUDED_KINDS]
    if not finished:
        return "No run has finished yet.", None
    if not candidates:
        return f"Only {EXCLUDED_KINDS[finished[0][0].kind]} have finished.", None
    best = max(candidates, key=_top1)
    row, highest = max(finished, key=lambda pair: _top1(pair[1]))
    if _top1(highest) <= _top1(best):
        return "Highest mean top-1", best
    excluded = f"{EXCLUDED_KINDS[row.kind]} ({shorten(highest['step'])}: {format_top1(highest)})"
    return f"Highest mean top-1 except for {excluded}", best


def _top1(line: Line) -> float:
    return float(line["top1_mean"])


def format_top1(line: Line) -> str:
    """Return the mean top-1 of a line and, if it has several seeds, the standard deviation."""
    std = f" ± {line['top1_std']:.2f}" if line["n"] > 1 else ""
    return f"{line['top1_mean']:.2f}{std}"


def format_with_unit(count: float, unit: str) -> str:
    """Return a count with a metric prefix: 2,609,823,744 FLOPs become "2.610 GFLOPs"."""
    text = format_count(count)
    return text + unit if text[-1:].isalpha() else f"{text} {unit}"
