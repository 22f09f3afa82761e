"""From records to a table: a DataFrame with one line per row, a caption and notes."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import nan
from typing import Any

import numpy as np
import pandas as pd

from ablation.analysis.caption import caption
from ablation.analysis.decisions import completed_comparisons, decide
from ablation.analysis.extra_columns import extra_numbers, mean_rate
from ablation.analysis.factors import row_factors
from ablation.analysis.image_interval import (
    Correct,
    ImageInterval,
    correct_images,
    image_interval,
    missing_predictions_note,
)
from ablation.analysis.improvement import Improvement, probability_of_improvement
from ablation.analysis.layouts import DEFAULT_STYLE, TableStyle
from ablation.analysis.look_notes import look_notes
from ablation.analysis.records import RecordedPlan
from ablation.analysis.sequential import SequentialDesign, SequentialTest, sequential_test
from ablation.analysis.statistics import Change, Comparison, equivalence_p, estimate_change, holm, verdict
from ablation.analysis.table_formats import AblationTable
from ablation.analysis.table_notes import table_notes
from ablation.plans.choices import Pairing
from ablation.plans.row import Row, count_changes
from benchmarks.records.store import RunRecord

UNDECIDED = "undecided"  # the verdict before the last look
IMAGE_COLUMNS = ["change_images", "change_images_low", "change_images_high"]


@dataclass(frozen=True)
class TableSettings:
    """What a table shows, and how its changes are tested.

    Attributes:
        pairing: How changes are tested.
        margin: Changes that are shown to be smaller than this, in points, are equivalent; None: no such test.
        num_candidates: The number of architectures that the best row was picked from, for the note on selection bias;
            None: all architectures with records.
        style: How the table looks.
        test_images: Whether to compute intervals over test images, for which the predictions of all runs are read. The
            column "images" implies it.
        design: The looks and tests of a plan that is run until its changes are decided, with the same pairing and
            margin; None: one look.
        target: The top-1, in percent, for which a data-size study estimates the number of images; None: for each
            model, the best mean of the other models.
    """

    pairing: Pairing = "unpaired"
    margin: float | None = None
    num_candidates: int | None = None
    style: TableStyle = DEFAULT_STYLE
    test_images: bool = False
    design: SequentialDesign | None = None
    target: float | None = None

    @property
    def needs_predictions(self) -> bool:
        """Whether the predictions of the runs are read."""
        return self.test_images or "images" in self.style.columns.names


DEFAULT_SETTINGS = TableSettings()


def make_table(recorded: RecordedPlan, settings: TableSettings = DEFAULT_SETTINGS) -> AblationTable:
    """Return the table of a recorded plan.

    Raises:
        ValueError: If the records have several benchmark ids.
    """
    pairing, design = settings.pairing, settings.design
    frame = ablation_frame(recorded, settings)
    correct = correct_images(recorded) if settings.needs_predictions else []
    if correct:
        frame[IMAGE_COLUMNS] = _image_intervals(recorded, correct, pairing)
    notes = table_notes(frame, recorded, pairing, settings.num_candidates)
    notes += missing_predictions_note(recorded, correct) if correct else []
    if design is not None:
        notes = [*look_notes(recorded, design), *notes]
    is_needed = settings.style.layout == "checks"
    factors = row_factors(recorded.rows, recorded.names.name_weights) if is_needed else ()
    text = caption(recorded, pairing, settings.margin, design)
    return AblationTable(frame, text, tuple(notes), pairing, factors, settings.style)


def ablation_frame(recorded: RecordedPlan, settings: TableSettings = DEFAULT_SETTINGS) -> pd.DataFrame:
    """Return a DataFrame with one line per row, in the order of the plan.

    Columns:
        macs, flops: For one image; 1 MAC = 2 FLOPs.
        top1_mean, top1_std: Mean and sample standard deviation over the seeds, in percent.
        change, change_low, change_high, change_n, p, least_p: The change from the reference rows and its 95% CI in
            points, the number of seeds, the p-value, and the smallest p-value possible: see
            `ablation.analysis.statistics.Change`. With several looks, the p-values are those of
            `ablation.analysis.sequential`, and `least_p` is NaN.
        p_holm: The p-value after Holm correction over all rows of the plan that are compared with another.
        equivalence_p, equivalence_p_holm: The p-value of the equivalence test, and the same after Holm correction over
            the rows; NaN without a margin.
        change_from_first: The difference of the means from the first row, in points.
        better, better_low, better_high: The probability that a run of the row is better than a run of its reference
            row, and its 95% CI: see `ablation.analysis.improvement`. NaN for the interaction of two parts.
        change_images, change_images_low, change_images_high: The change of the runs whose predictions are kept, and its
            95% CI over seeds and test images: see `ablation.analysis.image_interval`. NaN unless requested.
        peak_memory, tflops_per_second, energy_watt_hours, latency_*, inference_*: See
            `ablation.analysis.extra_columns.extra_numbers`.
        seeds, n, failed: The numbers of runs that are expected, are recorded, and failed.

    Raises:
        ValueError: If the records have several benchmark ids.
    """
    if len({record.benchmark_id for record in recorded.records}) > 1:
        raise ValueError("records of different benchmarks cannot share a table")
    rows, failed_runs, pairing = recorded.rows, recorded.failed_runs, settings.pairing
    with pd.option_context("mode.string_storage", "python"):  # pyarrow, if installed, rejects names that are not UTF-8
        frame = pd.DataFrame([_line(row, recorded.runs(row)) for row in rows])
    counts = ["params", "macs", "flops"]
    frame[counts] = frame[counts].astype("Int64")  # keeps integers even if a row has no value
    seen_seeds = {run.seed for row in rows for run in recorded.runs(row)} | {run.seed for run in failed_runs}
    frame["seeds"] = len(seen_seeds) if recorded.seeds is None else recorded.seeds
    frame["failed"] = [sum(run.key == row.key for run in failed_runs) for row in rows]
    if settings.design is not None:  # rows stop as soon as they are decided
        frame["seeds"] = frame["n"] + frame["failed"]
    comparisons = recorded.comparisons
    changes = [Change(nan) if pair is None else estimate_change(*pair, pairing) for pair in comparisons]
    frame["change"] = [change.points for change in changes]
    frame["change_low"] = [change.low for change in changes]
    frame["change_high"] = [change.high for change in changes]
    frame["change_n"] = [change.n for change in changes]
    frame["least_p"] = [change.least_p for change in changes] if settings.design is None else nan
    _add_tests(frame, recorded, settings, [change.p for change in changes])
    frame["change_from_first"] = [nan, *(frame["top1_mean"] - frame["top1_mean"].iloc[0])[1:]]
    frame[["better", "better_low", "better_high"]] = [_improvement(pair) for pair in comparisons]
    frame[IMAGE_COLUMNS] = nan
    return frame


def _add_tests(frame: pd.DataFrame, recorded: RecordedPlan, settings: TableSettings, p_values: Sequence[float]) -> None:
    """Add the columns with p-values and verdicts to a frame with changes.

    Args:
        frame: The frame.
        recorded: The rows and their records.
        settings: How changes are tested.
        p_values: The p-value of each change if there is only one look.
    """
    design = settings.design
    if design is None:
        frame["p"], frame["equivalence_p"] = p_values, _equivalence_p_values(recorded, settings)
    else:
        comparisons = completed_comparisons(recorded, design)
        tests = [SequentialTest() if pair is None else sequential_test(pair, design) for pair in comparisons]
        frame["p"], frame["equivalence_p"] = [test.p for test in tests], [test.equivalence_p for test in tests]
    family = count_changes(recorded.rows)
    for name in ("p", "equivalence_p"):
        frame[f"{name}_holm"] = holm(frame[name].tolist(), family)
    numbers = zip(frame["change"], frame["p_holm"], frame["equivalence_p_holm"], strict=True)
    frame["verdict"] = [verdict(*of_row) for of_row in numbers]
    if design is not None:
        decisions = decide(comparisons, design, design.max_seeds)
        is_open = np.array([decision is None for decision in decisions])
        frame.loc[frame["change"].notna() & is_open, "verdict"] = UNDECIDED


def _equivalence_p_values(recorded: RecordedPlan, settings: TableSettings) -> list[float]:
    margin = settings.margin
    return [
        nan if pair is None or margin is None else equivalence_p(*pair, settings.pairing, margin)
        for pair in recorded.comparisons
    ]


def _image_intervals(recorded: RecordedPlan, correct: Sequence[Correct], pairing: Pairing) -> list[ImageInterval]:
    """Return for each row the interval of its change over seeds and test images."""
    return [
        image_interval(images, [(correct[index], weight) for index, weight in row.against], pairing)
        if row.against
        else ImageInterval()
        for row, images in zip(recorded.rows, correct, strict=True)
    ]


def _improvement(comparison: Comparison | None) -> Improvement:
    if comparison is None or len(comparison[1]) > 1:
        return Improvement()
    accuracies, [(reference, _)] = comparison
    return probability_of_improvement(list(accuracies.values()), list(reference.values()))


def _line(row: Row, runs: Sequence[RunRecord]) -> dict[str, Any]:
    first = runs[0] if runs else None

    def mean(name: str) -> float:
        return float(np.mean([getattr(run, name) for run in runs])) if runs else nan

    return {
        "step": row.label,
        "spec": row.spec,
        "params": first and first.params,
        "macs": first and first.macs,
        "flops": first and 2 * first.macs,
        "images_per_second": mean_rate([run.images_per_second for run in runs]),
        "hours": mean("hours"),
        "top1_mean": mean("top1"),
        "top1_std": float(np.std([run.top1 for run in runs], ddof=1)) if len(runs) > 1 else nan,
        "n": len(runs),
        "top5_mean": mean("top5"),
        "benchmark_id": first and first.benchmark_id,
        "device": first and first.device,
        **extra_numbers(row, runs),
    }
