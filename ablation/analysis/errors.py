"""Where a row errs: accuracy by class, what is taken for what, and the accuracy without near-duplicates."""

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

from ablation.plans.row import Row, runs_of
from arch.text import printable
from benchmarks.datasets.cache import CachedDataset
from benchmarks.definition.benchmark import DatasetConfig
from benchmarks.execution import local
from benchmarks.execution.progress import Display
from benchmarks.records.atomic_write import replace_file
from benchmarks.records.paths import kept_file
from benchmarks.records.store import RunRecord

if TYPE_CHECKING:
    from benchmarks.datasets.near_duplicates import NearDuplicates

Counts = NDArray[np.int64]


@dataclass(frozen=True)
class ErrorAnalysis:
    """Of one row, over its seeds.

    per_class: class, images, top1 in percent, and top1_first and change in points against the plan's first row.
    confusion: test images of each class (rows) taken for each class (columns), added up over the seeds; None where no
    predictions are kept.
    """

    row: Row
    seeds: tuple[int, ...]
    per_class: pd.DataFrame
    confusion: Counts | None
    lacking: tuple[int, ...]  # seeds without predictions


def analyse(rows: Sequence[Row], results: Sequence[RunRecord], labels: Counts, out: Path) -> ErrorAnalysis:
    """Of the last step that has results. labels: of the test images, in their order.

    Raises ValueError where no row has any.
    """
    there = [row for row in rows if runs_of(row, results)]
    if not there:
        raise ValueError("no row has a result")
    row = [*there, *(row for row in there if row.kind == "step")][-1]
    runs, first = (list(runs_of(one, results).values()) for one in (row, rows[0]))
    classes = list(runs[0].per_class)
    per_class = pd.DataFrame({"class": classes, "images": np.bincount(labels, minlength=len(classes))})
    per_class["top1"] = _mean_per_class(runs, classes)
    per_class["top1_first"] = _mean_per_class(first, classes)
    per_class["change"] = per_class["top1"] - per_class["top1_first"]
    kept = {run.seed: predictions(run, labels, out) for run in runs}
    known = [taken for taken in kept.values() if taken is not None]
    confusion = np.zeros((len(classes), len(classes)), np.int64)
    for taken in known:
        np.add.at(confusion, (labels, taken), 1)
    lacking = tuple(seed for seed, taken in kept.items() if taken is None)
    return ErrorAnalysis(row, tuple(kept), per_class, confusion if known else None, lacking)


def _mean_per_class(runs: Sequence[RunRecord], classes: Sequence[str]) -> list[float]:
    return [float(np.mean([run.per_class[name] for run in runs])) if runs else float("nan") for name in classes]


def predictions(run: RunRecord, labels: Counts, out: Path) -> Counts | None:
    """The class each test image was taken for in a run; None where no file has what gives its accuracy by class."""
    try:
        kept = load_file(kept_file(out, "predictions", run.run_id))["classes"]
    except (OSError, KeyError, ValueError, TypeError, AttributeError, SafetensorError):
        return None  # the last but one: number formats that numpy does not have
    number = len(run.per_class)
    if kept.dtype.kind != "i" or kept.shape != labels.shape or ((kept < 0) | (kept >= number)).any():
        return None
    taken: Counts = kept.astype(np.int64)
    right = np.bincount(labels[taken == labels], minlength=number) / np.bincount(labels, minlength=number).clip(1)
    return taken if np.allclose(100 * right, list(run.per_class.values())) else None


def confusions(errors: ErrorAnalysis, most: int = 10) -> pd.DataFrame:
    """The classes that are most often taken for another: class, taken_for, and of how many in percent."""
    assert errors.confusion is not None
    shares = 100 * errors.confusion / errors.confusion.sum(1, keepdims=True).clip(1)
    np.fill_diagonal(shares, 0)
    names = errors.per_class["class"].tolist()
    places = np.dstack(np.unravel_index(np.argsort(-shares, axis=None, kind="stable")[:most], shares.shape))[0]
    lines = [(names[i], names[j], shares[i, j]) for i, j in places if shares[i, j] > 0]
    return pd.DataFrame(lines, columns=["class", "taken_for", "percent"])


def find_duplicates(
    data: CachedDataset, definition: DatasetConfig, images: int, device: str, out: Path, display: Display
) -> "NearDuplicates":
    """The near-duplicates of these images; found once, and kept in `out`. images: how many there are to test on."""
    from benchmarks.datasets.near_duplicates import THRESHOLD, NearDuplicate, NearDuplicates

    subset = f"{definition.train_per_class or 'all'}_{definition.test_per_class or 'all'}"
    file = out / "near_duplicates" / f"{data.fingerprint}_{subset}_{THRESHOLD}.json"
    try:
        kept = json.loads(file.read_text())
        again = NearDuplicates(tuple(NearDuplicate(**one) for one in kept["found"]), kept["test_images"])
        if again.test_images == images and all(one.test in range(images) for one in again.found):
            return again
    except (OSError, ValueError, TypeError, KeyError):
        pass
    found: NearDuplicates = local.call(
        "benchmarks.datasets.near_duplicates:near_duplicates", display, data, definition, device
    )
    replace_file(file, lambda path: path.write_text(json.dumps(asdict(found))))
    return found


def without(
    rows: Sequence[Row], results: Sequence[RunRecord], labels: Counts, duplicates: Sequence[int], out: Path
) -> pd.DataFrame:
    """Each row's mean top-1 over the seeds with predictions: on all test images, without those, and on those alone."""
    is_double = np.zeros(len(labels), bool)
    is_double[list(duplicates)] = True
    lines: list[dict[str, Any]] = []
    for row in rows:
        there = [
            taken for run in runs_of(row, results).values() if (taken := predictions(run, labels, out)) is not None
        ]
        right = np.array([taken == labels for taken in there]).reshape(len(there), len(labels))
        parts = {"top1": right, "top1_without": right[:, ~is_double], "top1_duplicates": right[:, is_double]}
        means = {name: 100 * float(part.mean()) if part.size else float("nan") for name, part in parts.items()}
        lines.append({"step": printable(row.label), "n": len(there), **means})
    return pd.DataFrame(lines)
