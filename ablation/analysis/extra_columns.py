"""What an ablation table shows on request: memory, energy and inference of the rows, and notes on these columns."""

import math
from collections.abc import Sequence
from statistics import harmonic_mean

import numpy as np
import pandas as pd

from ablation.analysis.columns import COLUMNS, DEFAULT_COLUMNS
from ablation.plans.row import Row
from benchmarks.budget.performance import JOULES_PER_WATT_HOUR, training_flops
from benchmarks.records.store import RunRecord

NOTES = {
    "better": "P(better) is the probability that a run of the row is better than a run of the row it is compared with.",
    "images": "The CI of the change (images) is over seeds and test images together (two-way bootstrap).",
    "memory": "Memory is the peak of training.",
    "tflops": "TFLOP/s are those of training: 3 × 2 × MACs × img/s.",
    "energy": "Energy is that of a run with its evaluations, measured for the whole GPU or all CPU packages.",
}
INFERENCE_COLUMNS = {"latency", "inference"}  # measured before training, and only if they are requested


def extra_numbers(row: Row, runs: Sequence[RunRecord]) -> dict[str, float]:
    """Return the numbers of a row, averaged over the runs whose records contain them; NaN if none does.

    Keys:
        peak_memory: Bytes at the peak of training.
        tflops_per_second: Of training; NaN with a teacher or frozen layers, which the formula does not include.
        energy_watt_hours: Of a whole run.
        latency_mean_ms, latency_p50_ms, latency_p99_ms: Of one image.
        inference_batch, inference_images_per_second, inference_memory: With a batch of this size; bytes.
    """
    is_plain = row.overrides.teacher is None and not row.overrides.frozen_layers
    joules = [run.energy.get("joules") for run in runs]
    inference = [run.inference for run in runs if run.inference]
    single, batch = [figures["single"] for figures in inference], [figures["batch"] for figures in inference]
    return {
        "peak_memory": _mean([run.peak_memory for run in runs]),
        "tflops_per_second": mean_rate([_flops(run) for run in runs]) / 1e12 if is_plain else math.nan,
        "energy_watt_hours": _mean(joules) / JOULES_PER_WATT_HOUR,
        "latency_mean_ms": _mean([latency["mean"] for latency in single]),
        "latency_p50_ms": _mean([latency["p50"] for latency in single]),
        "latency_p99_ms": _mean([latency["p99"] for latency in single]),
        "inference_batch": _mean([latency["batch_size"] for latency in batch]),
        "inference_images_per_second": mean_rate([latency["images_per_second"] for latency in batch]),
        "inference_memory": _mean([figures["peak_memory"] for figures in inference]),
    }


def _flops(run: RunRecord) -> float:
    return training_flops(run.macs, run.images_per_second, run.definition.get("recipe", {}).get("aug_splits", 1))


def mean_rate(rates: Sequence[float]) -> float:
    """Return the rate of all runs together: their work divided by their time; NaN without runs.

    It is the harmonic mean, because all runs of a row do the same work. It therefore agrees with their mean time.
    """
    return harmonic_mean(rates) if rates else math.nan


def _mean(values: Sequence[float | None]) -> float:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else math.nan


def extra_notes(frame: pd.DataFrame, names: Sequence[str]) -> list[str]:
    """Return sentences about columns that not every table has: what they contain, and which of them are empty."""
    names = [name for name in names if name not in ("step", *DEFAULT_COLUMNS)]
    empty = [name for name in names if frame[COLUMNS[name].numbers[0]].isna().all()]
    shown = set(names) - set(empty)
    notes = [NOTES[name] for name in NOTES if name in shown]
    if INFERENCE_COLUMNS & shown:
        sizes = " and ".join(f"{size:.0f}" for size in sorted(frame["inference_batch"].dropna().unique()))
        notes.append(f"Latency is the median for one image; inference img/s is that of batches of {sizes} images.")
    if "better" in empty:
        notes.append("P(better) needs at least two seeds of a row and of the row it is compared with.")
    if "images" in empty:
        notes.append("The CI over test images needs the predictions of at least two seeds of both rows, kept in --out.")
    if missing := [name for name in empty if name not in {"better", "images", *INFERENCE_COLUMNS}]:
        notes.append(f"No record contains {' or '.join(missing)}.")
    if missing := [name for name in empty if name in INFERENCE_COLUMNS]:
        option = ",".join(f"+{name}" for name in missing)
        notes.append(
            f"No record contains {' or '.join(missing)}: `ablate run --columns {option}` measures inference before it "
            "trains new runs, and `budget-check --inference` that of any model."
        )
    return notes
