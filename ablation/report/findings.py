"""What a table says, as drafted sentences: plain text, and no number that its records do not give."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ablation.analysis.statistics import ALPHA, change
from ablation.analysis.table_formats import AblationTable
from ablation.plans.row import Pairing, Row, runs_of
from arch.text import shorten
from benchmarks.budget.verdict import format_count, format_hours
from benchmarks.records.store import RunRecord


def findings(
    rows: Sequence[Row], table: AblationTable, results: Sequence[RunRecord], pairing: Pairing, seeds: int | None = None
) -> list[str]:
    """One sentence for each row that is compared with another, and one for all steps together and the best row.

    results, pairing, seeds: those that the table was made with.
    """
    lines = table.frame.to_dict("records")
    top1 = [{seed: run.top1 for seed, run in runs_of(row, results, seeds).items()} for row in rows]
    if len(lines) != len(rows) or any(line["n"] != len(own) for line, own in zip(lines, top1, strict=True)):
        raise ValueError("the table was made of other rows or results")
    told = [_of_row(place, rows, lines, top1, pairing) for place, row in enumerate(rows) if row.against]
    return [*told, *_of_all(rows, lines, top1, pairing)]


def _of_row(
    place: int,
    rows: Sequence[Row],
    lines: Sequence[Mapping[Any, Any]],
    top1: Sequence[Mapping[int, float]],
    pairing: Pairing,
) -> str:
    row, line = rows[place], lines[place]
    subject = _subject(row, rows)
    if not line["n"]:
        failed = f", {line['failed']} of {line['seeds']} runs failed" if line["failed"] else ""
        return f"{subject}: no result{failed}."
    if math.isnan(line["change"]):
        empty = [shorten(rows[i].label) for i, _ in row.against if not lines[i]["n"]]
        why = (
            f"{' and '.join(empty)} {'has' if len(empty) == 1 else 'have'} no result" if empty else "no seed is common"
        )
        return f"{subject}: nothing to compare with, {why}."
    beyond = " beyond the sum of both" if row.is_interaction else ""
    n = _seeds(top1[place], [top1[i] for i, _ in row.against], "paired" if row.is_interaction else pairing)
    low, high = line["change_low"], line["change_high"]
    if n < 2:
        return f"{subject}: one seed shows nothing, {line['change']:+.2f} points{beyond} (n = {n})."
    if line["verdict"] == "not shown":
        corrected = " after correction" if line["p"] <= ALPHA else ""
        amount = f"{line['change']:+.2f} {_interval(low, high)} points"
        return f"{subject}: no change is shown{corrected}{beyond}, {amount} (n = {n})."
    if line["verdict"] == "real":
        return f"{subject} raises top-1 by {line['change']:.2f} {_interval(low, high)} points{beyond} (n = {n})."
    return f"{subject} lowers top-1 by {-line['change']:.2f} {_interval(-high, -low)} points{beyond} (n = {n})."


def _seeds(own: Mapping[int, float], others: Sequence[Mapping[int, float]], pairing: Pairing) -> int:
    """The seeds that a change is of: those in common, or unpaired as many as the row with fewest has."""
    if pairing == "paired":
        return len([seed for seed in own if all(seed in other for other in others)])
    return min(len(own), *map(len, others))


def _subject(row: Row, rows: Sequence[Row]) -> str:
    """What was done, as the subject of a sentence, under the name that the table has for it."""
    label = shorten(row.label)
    if row.kind == "alternative":
        return f"In place of {shorten(rows[row.against[0][0]].label)}, {label}"
    return f"Leaving {label[1:]} out" if row.kind == "without" else label


def _of_all(
    rows: Sequence[Row],
    lines: Sequence[Mapping[Any, Any]],
    top1: Sequence[Mapping[int, float]],
    pairing: Pairing,
) -> list[str]:
    """From the first row to the last that is no alternative, and what the best one has and costs."""
    best = best_line(lines)
    if best is None:
        return ["No run has a result yet."]
    sentences = []
    last = max((i for i, row in enumerate(rows) if top1[i] and row.kind == "step"), default=0)
    pairs = sum(row.is_interaction for row in rows)  # of several none is the whole
    if (
        top1[0] and last and pairs < 2 and rows[last].key != rows[0].key and _leads_on(rows, last)
    ):  # else the row's own sentence has said it
        total = change(top1[last], [(top1[0], -1)], pairing)
        if not math.isnan(total.points):
            known = f" {_interval(total.low, total.high)}" if total.n > 1 else ""
            alone = "; one seed shows nothing" if total.n == 1 else ""
            names = f"{shorten(rows[0].label)} to {shorten(rows[last].label)}"
            sentences.append(f"In all, {names}: {total.points:+.2f}{known} points (n = {total.n}{alone}).")
    cost = f"{int(best['params']):,} params, {with_unit(2 * best['macs'], 'FLOPs')} (1 MAC = 2 FLOPs)"
    means = f"top-1 {spread(best, 'top1')}, top-5 {best['top5_mean']:.2f} (n = {best['n']})"
    name = shorten(best["step"])
    sentences.append(f"Highest mean top-1: {name} with {means}, {cost}, {format_hours(best['hours'])}.")
    return sentences


def _leads_on(rows: Sequence[Row], last: int) -> bool:
    """Whether several steps, each from the one before, lead from the first row to this."""
    place, steps = last, 0
    while rows[place].against:
        place, steps = rows[place].against[0][0], steps + 1
    return place == 0 and steps > 1


def best_line(lines: Sequence[Mapping[Any, Any]]) -> Mapping[Any, Any] | None:
    """The line of the frame with the highest mean top-1."""
    return max((line for line in lines if line["n"]), key=lambda line: line["top1_mean"], default=None)


def spread(line: Mapping[Any, Any], name: str) -> str:
    """The mean, and where there are two seeds or more its standard deviation."""
    std = f" ± {line[f'{name}_std']:.2f}" if line["n"] > 1 else ""
    return f"{line[f'{name}_mean']:.2f}{std}"


def with_unit(count: float, unit: str) -> str:
    """2,609,823,744 FLOPs as 2.610 GFLOPs."""
    text = format_count(count)
    return text + unit if text[-1:].isalpha() else f"{text} {unit}"


def _interval(low: float, high: float) -> str:
    return f"[{low:.2f}, {high:.2f}]"
