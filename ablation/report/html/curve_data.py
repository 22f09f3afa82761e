"""The learning curves of the HTML report: mean, range and standard deviation over the seeds at each epoch."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ablation.analysis.records import RecordedPlan
from ablation.report.html.table_data import known_number

METRICS = {"top1": "top-1 (%)", "loss": "loss", "train_top1": "training top-1 (%)", "train_loss": "training loss"}
MAX_ROWS = 30
MAX_POINTS = 120  # per row; more epochs are thinned out
SIGNIFICANT_DIGITS = 5

Curve = Sequence[Mapping[str, float]]  # the epochs of a run: see `benchmarks.training.state.EpochMetrics`
CurvesByKey = Mapping[str, Sequence[Curve]]


def curve_data(recorded: RecordedPlan, running_curves: CurvesByKey) -> dict[str, Any]:
    """Return the curves of the rows that have any, and notes on what is left out.

    Args:
        recorded: The rows and their records, with learning curves.
        running_curves: The curves of unfinished runs by the key of their row.
    """
    with_curves = []
    for index, row in enumerate(recorded.rows):
        finished: list[Curve] = [run.curve for run in recorded.runs(row) if run.curve]
        curves = [*finished, *(curve for curve in running_curves.get(row.key, ()) if curve)]
        if curves:
            with_curves.append((index, curves))
    notes = []
    if len(with_curves) > MAX_ROWS:
        notes.append(f"Only the first {MAX_ROWS} of {len(with_curves)} rows have curves here.")
    lines = [_row_curve(index, curves) for index, curves in with_curves[:MAX_ROWS]]
    longest = max((int(curve[-1]["epoch"]) for _, curves in with_curves for curve in curves), default=0)
    if longest > MAX_POINTS:
        notes.append(f"Of {longest} epochs, at most {MAX_POINTS} are shown.")
    return {"metrics": METRICS, "rows": lines, "notes": notes}


def _row_curve(index: int, curves: Sequence[Curve]) -> dict[str, Any]:
    """Return the curve of a row. Its runs may have different numbers of epochs."""
    by_epoch: dict[int, list[Mapping[str, float]]] = {}
    for curve in curves:
        for epoch in curve:
            by_epoch.setdefault(int(epoch["epoch"]), []).append(epoch)
    epochs = thin_out(sorted(by_epoch), MAX_POINTS)
    metrics = {name: _statistics([[run.get(name) for run in by_epoch[epoch]] for epoch in epochs]) for name in METRICS}
    return {
        "row": index,
        "seeds": len(curves),
        "epochs": epochs,
        "metrics": {name: values for name, values in metrics.items() if any(mean is not None for mean in values[0])},
    }


def _statistics(values: Sequence[Sequence[float | None]]) -> list[list[float | None]]:
    """Return the mean, minimum, maximum and sample standard deviation over the seeds at each epoch."""
    lists: list[list[float | None]] = [[], [], [], []]
    for of_epoch in values:
        known = [value for value in of_epoch if value is not None]
        std = float(np.std(known, ddof=1)) if len(known) > 1 else 0.0
        numbers = (float(np.mean(known)), min(known), max(known), std) if known else (None,) * 4
        for target, number in zip(lists, numbers, strict=True):
            target.append(known_number(number, SIGNIFICANT_DIGITS))
    return lists


def thin_out(items: Sequence[Any], limit: int) -> list[Any]:
    """Return at most `limit` items at equal distances, always with the first and the last one."""
    if len(items) <= limit:
        return list(items)
    return [items[round(index)] for index in np.linspace(0, len(items) - 1, limit)]
