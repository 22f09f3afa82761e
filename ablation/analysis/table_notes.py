"""The notes below an ablation table: failed runs, what the seeds cannot show, and selection bias."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from ablation.analysis.distillation_choice import is_grid
from ablation.analysis.plugin_notes import plugin_notes
from ablation.analysis.power import DETECTION_POWER, detectable_change, fewest_seeds, selection_bias
from ablation.analysis.records import RecordedPlan
from ablation.analysis.statistics import ALPHA, MIN_BOOTSTRAP_VALUES
from ablation.plans.choices import Pairing
from ablation.plans.row import Row, count_changes
from arch.text import plural, printable, shorten

MAX_NAMES_IN_NOTE = 3


def table_notes(frame: pd.DataFrame, recorded: RecordedPlan, pairing: Pairing, num_candidates: int | None) -> list[str]:
    """Return the notes on a frame of `ablation.analysis.table.ablation_frame`.

    Args:
        frame: The table.
        recorded: The records that the frame was made from.
        pairing: How its changes are tested.
        num_candidates: The number of architectures that the best row was picked from; None: all with records.
    """
    rows = recorded.rows
    undetectable = _undetectable(frame, rows)
    notes = failure_notes(recorded) + _seed_notes(frame, rows, pairing, undetectable)
    notes += _detection_notes(frame, rows, pairing) + _interval_notes(frame)
    notes += _image_notes(frame)
    is_datasize_study = len({row.overrides.data_fraction for row in rows}) > 1  # such a study does not pick a best row
    if not is_datasize_study and not is_grid(recorded) and not undetectable:  # a grid has a note on its best setting
        count = num_candidates or len({record.key for record in recorded.records})
        notes += _selection_notes(frame, count)
    return notes + plugin_notes(recorded)


def failure_notes(recorded: RecordedPlan) -> list[str]:
    """Return one line for each failed run, under its row's label."""
    labels = {row.key: shorten(row.label) for row in recorded.rows}
    return [printable(f"{labels[run.key]} seed {run.seed} failed: {run.reason}") for run in recorded.failed_runs]


def pooled_std(frame: pd.DataFrame) -> float:
    """Return the standard deviation over seeds, in points, pooled over the rows; NaN if no row has two seeds."""
    repeated = frame[frame["n"] > 1]
    degrees = repeated["n"] - 1
    return float(np.sqrt((repeated["top1_std"] ** 2 * degrees).sum() / degrees.sum())) if len(repeated) else math.nan


def _compared(frame: pd.DataFrame, rows: Sequence[Row]) -> list[tuple[Row, dict[Any, Any]]]:
    """Return the rows that have a change, with their lines in the frame."""
    pairs = zip(rows, frame.to_dict("records"), strict=True)
    return [(row, line) for row, line in pairs if row.against and not math.isnan(line["least_p"])]


def _undetectable(frame: pd.DataFrame, rows: Sequence[Row]) -> list[Row]:
    """Return the rows whose change cannot be significant with the seeds they have."""
    family = count_changes(rows)
    return [row for row, line in _compared(frame, rows) if family * line["least_p"] > ALPHA]


def _seed_notes(frame: pd.DataFrame, rows: Sequence[Row], pairing: Pairing, undetectable: Sequence[Row]) -> list[str]:
    lines = [line for _, line in _compared(frame, rows)]
    if not lines:
        return []
    notes, counts = [], [line["change_n"] for line in lines]
    if len(undetectable) == len(lines):
        family, seeds = count_changes(rows), max(counts)
        test: Pairing = "paired" if all(row.is_interaction for row in undetectable) else pairing
        notes.append(
            f"With {plural(seeds, 'seed')}, no change can be significant after Holm correction over "
            f"{plural(family, 'row')}; use --seeds {fewest_seeds(family, test)} or more."
        )
    elif undetectable:
        names = ", ".join(shorten(row.label) for row in undetectable)
        notes.append(f"With so few seeds, no change can be significant, however large: {names}")
    min_seeds = MIN_BOOTSTRAP_VALUES if pairing == "paired" else MIN_BOOTSTRAP_VALUES // 2
    if any(1 < count < min_seeds for count in counts):
        notes.append(f"Intervals use Student's t because the bootstrap needs at least {min_seeds} seeds.")
    return [printable(note) for note in notes]


def _detection_notes(frame: pd.DataFrame, rows: Sequence[Row], pairing: Pairing) -> list[str]:
    """Return the smallest change that the table could have detected; nothing if it could not detect any."""
    compared, spread = _compared(frame, rows), pooled_std(frame)
    counts = [line["change_n"] for row, line in compared if not row.is_interaction]
    if not counts or not spread > 0:
        return []
    seeds, family = min(counts), count_changes(rows)
    change = detectable_change(spread, seeds, family, pairing)
    if math.isinf(change):
        return []
    conditions = f"{plural(seeds, 'seed')}, std over seeds {spread:.2f}, Holm correction over {plural(family, 'row')}"
    return [f"A true change of {change:.2f} points or more is shown with {DETECTION_POWER:.0%} power ({conditions})."]


def _interval_notes(frame: pd.DataFrame) -> list[str]:
    """Explain why an interval can exclude zero although the change is not shown."""
    excludes_zero = (frame["change_low"] > 0) | (frame["change_high"] < 0)
    steps = frame.loc[excludes_zero & (frame["verdict"] == "not shown"), "step"]
    if steps.empty:
        return []
    names = ", ".join(map(shorten, steps[:MAX_NAMES_IN_NOTE]))
    names += f" and {len(steps) - MAX_NAMES_IN_NOTE} more" if len(steps) > MAX_NAMES_IN_NOTE else ""
    return [
        f'{names}: the 95% CI excludes zero, but the verdict is "not shown", because the verdict uses the exact test '
        "with Holm correction, which is stricter with few seeds."
    ]


def _image_notes(frame: pd.DataFrame) -> list[str]:
    """Name the changes that are shown over the seeds, but not over seeds and test images."""
    low, high = frame["change_images_low"], frame["change_images_high"]
    is_uncertain = frame["verdict"].str.match("real|worse") & (low <= 0) & (high >= 0)
    columns = ["step", "verdict", "change_images_low", "change_images_high"]
    return [
        f'{shorten(step)}: the verdict over the seeds is "{word}", but the 95% CI over seeds and test images, '
        f"[{low:.2f}, {high:.2f}], contains zero: there might be no change on other test images."
        for step, word, low, high in frame.loc[is_uncertain, columns].itertuples(index=False)
    ]


def _selection_notes(frame: pd.DataFrame, num_candidates: int) -> list[str]:
    """Compare the gain of the best row with the chance gain of the best of equally good rows."""
    spread = pooled_std(frame)
    if num_candidates < 3 or math.isnan(spread):  # with only one row besides the first, there is no choice
        return []
    gain, step, n = max(zip(frame["change_from_first"].fillna(0.0), frame["step"], frame["n"], strict=True))
    if gain <= 0:
        return []
    bias = selection_bias(num_candidates - 1, spread, n)  # the first row is not a candidate
    rows = "rows" if num_candidates <= len(frame) else "rows, in this table and others,"
    return [
        f"Picking the best of {num_candidates - 1} {rows} gains {bias:.2f} points by chance; {gain - bias:+.2f} of the "
        f"observed {gain:+.2f} points remain. Best row: {shorten(step)} (std over seeds {spread:.2f}, n = {n})."
    ]
