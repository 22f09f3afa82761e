"""The errors of the rows in the HTML report: accuracy by class, confusion matrices, and changed images."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ablation.analysis.errors import Integers, count_confusions, load_predictions, recorded_labels
from ablation.analysis.records import RecordedPlan
from ablation.report.html.image_data import changed_images, no_images
from ablation.report.html.table_data import known_number
from arch.errors import InputError
from arch.text import printable
from benchmarks.datasets.arrays import ImageArrays
from benchmarks.datasets.cache import find_cached

MAX_ROWS = 24
MAX_SEEDS = 10  # per row, whose predictions are read
MAX_CONFUSIONS = 5000  # per row: the most frequent ones
NO_PREDICTIONS = "The predictions of these runs were not kept: train the rows again with `ablate run`."
NO_IMAGES = (
    "The images are not in the cache of this computer: `ablate errors --near-duplicates` (with --data DIR for an image "
    "folder) reads them again."
)


@dataclass(frozen=True)
class _Predictions:
    """The classes of the images, and those that the runs of each row predicted, shape (seeds, images)."""

    labels: Integers
    by_row: Mapping[int, Integers]


def error_data(recorded: RecordedPlan) -> dict[str, Any]:
    """Return the sections `per_class`, `confusions` and `changed_images` of the page."""
    rows = [index for index, row in enumerate(recorded.rows) if recorded.runs(row)][:MAX_ROWS]
    if not rows:
        empty = {"classes": [], "rows": [], "notes": ["No run has finished yet."]}
        return {"per_class": empty, "confusions": empty, "changed_images": no_images("No run has finished yet.")}
    first_run = recorded.runs(recorded.rows[rows[0]])[0]
    classes = list(map(printable, first_run.per_class))
    images = _cached_images(recorded, str(first_run.definition.get("data", {}).get("fingerprint", "")))
    predictions = _read_predictions(recorded, rows, images)
    return {
        "per_class": _per_class(recorded, rows, classes),
        "confusions": _confusions(predictions, classes),
        "changed_images": _changed_images(recorded, predictions, images),
    }


def _cached_images(recorded: RecordedPlan, fingerprint: str) -> ImageArrays | None:
    """Return the images of the evaluation split if they are in the cache."""
    try:
        cached = find_cached(fingerprint)
        return None if cached is None else cached.load_evaluation(recorded.benchmark.data, recorded.split)
    except InputError:  # the cache is damaged
        return None


def _read_predictions(recorded: RecordedPlan, rows: Sequence[int], images: ImageArrays | None) -> _Predictions | None:
    """Return the predictions of these rows; None if no file contains any, or the labels are unknown."""
    runs = {index: recorded.runs(recorded.rows[index])[:MAX_SEEDS] for index in rows}
    if not any((out / "predictions").is_dir() for out in recorded.outs):
        return None
    kept = replace(recorded, records=[run for of_row in runs.values() for run in of_row])
    labels = recorded_labels(kept)
    if labels is None:
        if images is None:
            return None
        labels = images.labels
    loaded = {
        index: [load_predictions(run, labels, recorded.run_file("predictions", run)) for run in of_row]
        for index, of_row in runs.items()
    }
    known = {index: [one for one in of_row if one is not None] for index, of_row in loaded.items()}
    by_row = {index: np.array(of_row) for index, of_row in known.items() if of_row}
    return _Predictions(labels, by_row) if by_row else None


def _per_class(recorded: RecordedPlan, rows: Sequence[int], classes: Sequence[str]) -> dict[str, Any]:
    lines = []
    for index in rows:
        accuracies = [list(run.per_class.values()) for run in recorded.runs(recorded.rows[index])]
        complete = [values for values in accuracies if len(values) == len(classes)]
        if complete:
            top1 = [known_number(value, 5) for value in np.mean(complete, axis=0)]
            lines.append({"row": index, "n": len(complete), "top1": top1})
    return {"classes": classes, "rows": lines, "notes": _row_notes(recorded)}


def _row_notes(recorded: RecordedPlan) -> list[str]:
    num_finished = sum(bool(recorded.runs(row)) for row in recorded.rows)
    if num_finished <= MAX_ROWS:
        return []
    return [f"Only the first {MAX_ROWS} of {num_finished} rows are analyzed here; `ablate errors` analyzes any row."]


def _confusions(predictions: _Predictions | None, classes: Sequence[str]) -> dict[str, Any]:
    """Return the confusion matrix of each row as (class, predicted class, count) for the cells that are not 0."""
    if predictions is None:
        return {"classes": classes, "rows": [], "notes": [NO_PREDICTIONS]}
    rows, notes = [], set()
    for index, predicted in predictions.by_row.items():
        counts = count_confusions(list(predicted), predictions.labels, len(classes))
        cells = _most_frequent(counts)
        if len(cells) < np.count_nonzero(counts):
            notes.add(f"A matrix contains its {MAX_CONFUSIONS} most frequent confusions only.")
        rows.append({"row": index, "seeds": len(predicted), "cells": cells})
    notes |= {f"At most {MAX_SEEDS} seeds per row are analyzed."} if _reaches_limit(predictions) else set()
    return {"classes": classes, "rows": rows, "notes": sorted(notes)}


def _reaches_limit(predictions: _Predictions) -> bool:
    return any(len(predicted) == MAX_SEEDS for predicted in predictions.by_row.values())


def _most_frequent(counts: Integers) -> list[list[int]]:
    true, predicted = np.nonzero(counts)
    order = np.argsort(-counts[true, predicted], kind="stable")[:MAX_CONFUSIONS]
    cells: NDArray[np.int64] = np.stack([true, predicted, counts[true, predicted]], axis=1)[np.sort(order)]
    return [[int(number) for number in cell] for cell in cells]


def _changed_images(
    recorded: RecordedPlan, predictions: _Predictions | None, images: ImageArrays | None
) -> dict[str, Any]:
    if predictions is None:
        return no_images(NO_PREDICTIONS)
    if images is None or not np.array_equal(images.labels, predictions.labels):
        return no_images(NO_IMAGES)
    return changed_images(recorded.rows, predictions.by_row, images)
