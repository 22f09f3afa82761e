"""Error analysis of a row: accuracy by class, confusions, and accuracy without near-duplicates."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file

from ablation.analysis.records import RecordedPlan
from ablation.plans.row import Row
from arch.text import printable
from benchmarks.datasets.cache import CachedDataset
from benchmarks.definition.benchmark import DatasetConfig
from benchmarks.execution.local import LocalExecutor
from benchmarks.execution.progress import Display
from benchmarks.records.atomic_write import replace_file
from benchmarks.records.store import RunRecord

if TYPE_CHECKING:
    from benchmarks.datasets.near_duplicates import NearDuplicates

Integers = NDArray[np.int64]
# raised for a file that is missing or damaged; AttributeError: for a number format that NumPy lacks
UNREADABLE = (OSError, KeyError, ValueError, TypeError, AttributeError, SafetensorError)


@dataclass(frozen=True)
class ErrorAnalysis:
    """The errors of one row over its seeds.

    Attributes:
        row: The analyzed row.
        seeds: Its recorded seeds.
        per_class: One line per class with the columns class, images, top1 in percent, and top1_first and change in
            points relative to the plan's first row.
        confusion: Test images of each class (rows) that were predicted as each class (columns), summed over the seeds;
            None if no predictions are kept.
        seeds_without_predictions: The seeds that `confusion` does not include.
    """

    row: Row
    seeds: tuple[int, ...]
    per_class: pd.DataFrame
    confusion: Integers | None
    seeds_without_predictions: tuple[int, ...]


def recorded_labels(recorded: RecordedPlan) -> Integers | None:
    """Return the labels of the test images that the predictions of a row contain; None if no file contains them."""
    for run in (run for row in recorded.rows for run in recorded.runs(row)):
        try:
            labels = load_file(recorded.run_file("predictions", run))["labels"].astype(np.int64)
        except UNREADABLE:
            continue
        if labels.ndim == 1 and ((labels >= 0) & (labels < len(run.per_class))).all():
            return labels
    return None


def analyze_errors(recorded: RecordedPlan, labels: Integers, classes: Sequence[str]) -> ErrorAnalysis:
    """Analyze the errors of the last step that has records.

    Args:
        recorded: The plan, its records, and the folder that contains the predictions.
        labels: The labels of the test images, in the order of the images.
        classes: The names of the classes. Those in the records can be older.

    Raises:
        ValueError: If no row has a record.
    """
    finished_rows = [row for row in recorded.rows if recorded.runs(row)]
    if not finished_rows:
        raise ValueError("no row has a result")
    row = [*finished_rows, *(row for row in finished_rows if row.kind == "step")][-1]
    runs = recorded.runs(row)
    predictions = {run.seed: load_predictions(run, labels, recorded.run_file("predictions", run)) for run in runs}
    known = [predicted for predicted in predictions.values() if predicted is not None]
    return ErrorAnalysis(
        row=row,
        seeds=tuple(predictions),
        per_class=_per_class(runs, recorded.runs(recorded.rows[0]), labels, classes),
        confusion=count_confusions(known, labels, len(classes)) if known else None,
        seeds_without_predictions=tuple(seed for seed, predicted in predictions.items() if predicted is None),
    )


def count_confusions(predictions: Sequence[Integers], labels: Integers, num_classes: int) -> Integers:
    """Return how many test images of each class (rows) were predicted as each class (columns), over all predictions."""
    counts = np.zeros((num_classes, num_classes), np.int64)
    for predicted in predictions:
        np.add.at(counts, (labels, predicted), 1)
    return counts


def _per_class(
    runs: Sequence[RunRecord], first_runs: Sequence[RunRecord], labels: Integers, classes: Sequence[str]
) -> pd.DataFrame:
    per_class = pd.DataFrame({"class": classes, "images": np.bincount(labels, minlength=len(classes))})
    per_class["top1"] = _mean_per_class(runs, len(classes))
    per_class["top1_first"] = _mean_per_class(first_runs, len(classes))
    per_class["change"] = per_class["top1"] - per_class["top1_first"]
    return per_class


def _mean_per_class(runs: Sequence[RunRecord], num_classes: int) -> list[float]:
    accuracies = [list(run.per_class.values()) for run in runs] or [[float("nan")] * num_classes]
    return [float(np.mean(of_class)) for of_class in zip(*accuracies, strict=True)]


def load_predictions(run: RunRecord, labels: Integers, file: Path) -> Integers | None:
    """Return the predicted class of each test image; None without a file that matches the recorded accuracy per class.

    Args:
        run: The record.
        labels: The labels of the test images.
        file: The file with the run's predictions.
    """
    try:
        predicted = load_file(file)["classes"]
    except UNREADABLE:
        return None
    num_classes = len(run.per_class)
    if predicted.dtype.kind != "i" or predicted.shape != labels.shape:
        return None
    if ((predicted < 0) | (predicted >= num_classes)).any():
        return None
    predicted = predicted.astype(np.int64)
    counts = np.bincount(labels, minlength=num_classes).clip(1)
    accuracies = np.bincount(labels[predicted == labels], minlength=num_classes) / counts
    return predicted if np.allclose(100 * accuracies, list(run.per_class.values())) else None


def most_frequent_confusions(errors: ErrorAnalysis, limit: int = 10) -> pd.DataFrame:
    """Return the most frequent confusions, with the columns class, taken_for and percent of the class's images."""
    assert errors.confusion is not None
    shares = 100 * errors.confusion / errors.confusion.sum(1, keepdims=True).clip(1)
    np.fill_diagonal(shares, 0)
    names = errors.per_class["class"].tolist()
    largest = np.argsort(-shares, axis=None, kind="stable")[:limit]
    indices = np.dstack(np.unravel_index(largest, shares.shape))[0]
    lines = [(names[i], names[j], shares[i, j]) for i, j in indices if shares[i, j] > 0]
    return pd.DataFrame(lines, columns=["class", "taken_for", "percent"])


def find_near_duplicates(
    data: CachedDataset, config: DatasetConfig, device: str, out: Path, display: Display
) -> "NearDuplicates":
    """Return the test images that are near-duplicates of training images.

    The search runs once in a worker process; its result is stored in `out`.

    Args:
        data: The images.
        config: The selection of the images.
        device: The device that compares the images.
        out: The folder that contains the records.
        display: Shows the progress.
    """
    from benchmarks.datasets.near_duplicates import THRESHOLD, NearDuplicate, NearDuplicates

    subset = f"{config.train_per_class or 'all'}_{config.test_per_class or 'all'}"
    file = out / "near_duplicates" / f"{data.fingerprint}_{subset}_{THRESHOLD}.json"
    _, num_test_images = data.counts(config)
    try:
        content = json.loads(file.read_text())
        stored = NearDuplicates(tuple(NearDuplicate(**pair) for pair in content["found"]), content["test_images"])
        if stored.test_images == num_test_images and all(pair.test in range(num_test_images) for pair in stored.found):
            return stored
    except (OSError, ValueError, TypeError, KeyError):
        pass
    duplicates: NearDuplicates = LocalExecutor().call(
        "benchmarks.datasets.near_duplicates:near_duplicates", display, data, config, device
    )
    replace_file(file, lambda path: path.write_text(json.dumps(asdict(duplicates))))
    return duplicates


def accuracies_without(recorded: RecordedPlan, labels: Integers, duplicates: Sequence[int]) -> pd.DataFrame:
    """Return each row's mean top-1 on all test images, without the duplicates, and on the duplicates alone.

    Only seeds with predictions are included.

    Args:
        recorded: The plan, its records, and the folder that contains the predictions.
        labels: The labels of the test images.
        duplicates: Indices of test images.
    """
    is_duplicate = np.zeros(len(labels), bool)
    is_duplicate[list(duplicates)] = True
    lines: list[dict[str, Any]] = []
    for row in recorded.rows:
        loaded = (load_predictions(run, labels, recorded.run_file("predictions", run)) for run in recorded.runs(row))
        predictions = [predicted for predicted in loaded if predicted is not None]
        is_correct = np.array([predicted == labels for predicted in predictions]).reshape(-1, len(labels))
        subsets = {
            "top1": is_correct,
            "top1_without": is_correct[:, ~is_duplicate],
            "top1_duplicates": is_correct[:, is_duplicate],
        }
        means = {name: 100 * float(subset.mean()) if subset.size else float("nan") for name, subset in subsets.items()}
        lines.append({"step": printable(row.label), "n": len(predictions), **means})
    return pd.DataFrame(lines)
