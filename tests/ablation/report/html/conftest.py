"""Fixtures for the tests of the HTML report: a recorded plan with predictions, and hostile names."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from ablation.analysis.records import RecordedPlan
from ablation.analysis.table import make_table
from ablation.report.html.page_data import page_data
from benchmarks.datasets.prepare import prepare_dataset
from benchmarks.definition.registry import BENCHMARKS
from benchmarks.records.paths import run_file
from benchmarks.records.store import RunRecord

HOSTILE_LABELS = ["<img src=x onerror=alert(1)>", "</script><script>alert(2)</script>", "=1+1 $\\textbf{x}$ \u202eabc"]
WRONG = {"baseline": (0, 1, 2), "baseline+se": (2,)}  # the images that each row predicts wrongly


@pytest.fixture
def with_predictions(
    make_record: Callable[..., RunRecord],
    make_recorded: Callable[..., RecordedPlan],
    tmp_path: Path,
) -> RecordedPlan:
    """Return the records of baseline+se with two seeds and their predictions: +se fixes the images 0 and 1."""
    data = replace(BENCHMARKS["digits"].data, train_per_class=8, test_per_class=5)
    benchmark, images = replace(BENCHMARKS["digits"], data=data), prepare_dataset(data, None)
    definition = benchmark.definition(images.fingerprint, "cpu")
    labels = images.load_evaluation(data, "test").labels
    records = []
    for spec, wrong in WRONG.items():
        predicted = labels.copy()
        predicted[list(wrong)] = (labels[list(wrong)] + 1) % 10
        correct = predicted == labels
        per_class = {str(digit): 100 * float(correct[labels == digit].mean()) for digit in range(10)}
        for seed in range(2):
            top1 = 100 * float(correct.mean())
            run = make_record(spec, seed, top1, per_class=per_class, definition=definition)
            file = run_file(tmp_path, "predictions", run.name)
            file.parent.mkdir(parents=True, exist_ok=True)
            save_file({"classes": predicted.astype(np.int16), "labels": labels.astype(np.int16)}, file)
            records.append(run)
    return make_recorded("baseline+se", records, out=tmp_path, benchmark=benchmark)


@pytest.fixture
def hostile(with_predictions: RecordedPlan) -> RecordedPlan:
    """Return a recorded plan whose labels, devices and versions contain markup."""
    rows = [replace(row, label=label) for row, label in zip(with_predictions.rows, HOSTILE_LABELS, strict=False)]
    records = [
        replace(record, device="<b>cpu</b>", versions={"torch": "</script>"}, commit=HOSTILE_LABELS[2])
        for record in with_predictions.records
    ]
    return replace(with_predictions, plan=replace(with_predictions.plan, rows=tuple(rows)), records=records)


@pytest.fixture
def data_of() -> Callable[..., dict[str, Any]]:
    """Return a function that returns the page's data of a recorded plan."""
    return lambda recorded, *arguments: page_data(recorded, make_table(recorded), *arguments)
