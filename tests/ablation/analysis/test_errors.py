import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.numpy import save_file
from safetensors.torch import save_file as save_torch

from ablation.analysis.errors import (
    ErrorAnalysis,
    accuracies_without,
    analyze_errors,
    find_near_duplicates,
    load_predictions,
    most_frequent_confusions,
)
from ablation.analysis.records import RecordedPlan
from benchmarks.datasets.cache import CachedDataset
from benchmarks.datasets.near_duplicates import NearDuplicate, NearDuplicates
from benchmarks.definition.benchmark import DatasetConfig
from benchmarks.definition.registry import BENCHMARKS
from benchmarks.execution.local import LocalExecutor
from benchmarks.execution.progress import Display
from benchmarks.records.paths import run_file
from benchmarks.records.store import RunRecord

DIGITS = BENCHMARKS["digits"]
PLAN = "baseline+se+cbam"
CLASSES = ("a", "b", "c")
LABELS = np.repeat(np.arange(3), 4)
ONE_ERROR = [0, 0, 0, 1, 1, 1, 1, 1, 2, 2, 2, 2]
THREE_ERRORS = [0, 0, 1, 1, 1, 1, 1, 1, 2, 2, 2, 0]
RecordPredictions = Callable[[str, int, Sequence[int]], RunRecord]


@pytest.fixture
def recorded(tmp_path: Path, make_recorded: Callable[..., RecordedPlan]) -> Callable[..., RecordedPlan]:
    """Return a function that builds a recorded plan whose predictions are in the test's folder."""
    return lambda records, plan=PLAN: make_recorded(plan, records, out=tmp_path)


@pytest.fixture
def record(make_record: Callable[..., RunRecord], tmp_path: Path) -> RecordPredictions:
    """Return a function that builds a record with these predictions and writes them to a file."""

    def make(spec: str, seed: int, predicted: Sequence[int]) -> RunRecord:
        is_correct = np.array(predicted) == LABELS
        per_class = {name: 100 * float(is_correct[index == LABELS].mean()) for index, name in enumerate("abc")}
        run = make_record(spec, seed, 100 * float(is_correct.mean()), per_class=per_class)
        write_predictions(tmp_path, run, np.array(predicted, np.int16))
        return run

    return make


def write_predictions(out: Path, run: RunRecord, predicted: NDArray[Any]) -> Path:
    file = run_file(out, "predictions", run.name)
    file.parent.mkdir(parents=True, exist_ok=True)
    save_file({"classes": predicted}, file)
    return file


Recorded = Callable[..., RecordedPlan]


def test_accuracy_per_class_and_change_from_the_first_row(record: RecordPredictions, recorded: Recorded) -> None:
    runs = [
        record("baseline", 0, THREE_ERRORS),
        record("baseline+se", 0, LABELS.tolist()),
        record("baseline+se", 1, ONE_ERROR),
    ]
    plan = recorded(runs, "baseline+se")
    errors = analyze_errors(plan, LABELS, CLASSES)
    assert (errors.row, errors.seeds, errors.seeds_without_predictions) == (plan.rows[1], (0, 1), ())
    assert errors.per_class["class"].tolist() == ["a", "b", "c"]
    assert errors.per_class["images"].tolist() == [4, 4, 4]
    assert errors.per_class["top1"].tolist() == [87.5, 100, 100]
    assert errors.per_class["top1_first"].tolist() == [50, 100, 75]
    assert errors.per_class["change"].tolist() == [37.5, 0, 25]


def test_current_class_names_replace_those_of_the_records(record: RecordPredictions, recorded: Recorded) -> None:
    renamed = record("baseline", 1, THREE_ERRORS)
    renamed = replace(renamed, per_class=dict(zip("xyz", renamed.per_class.values(), strict=True)))
    plan = recorded([record("baseline", 0, ONE_ERROR), renamed], "baseline")
    errors = analyze_errors(plan, LABELS, ("goldfish", "crane", "cat"))
    assert errors.per_class["class"].tolist() == ["goldfish", "crane", "cat"]
    assert errors.per_class["top1"].tolist() == [62.5, 100, 87.5]
    assert errors.seeds_without_predictions == ()


def test_confusion_matrix_sums_over_seeds(record: RecordPredictions, recorded: Recorded) -> None:
    runs = [record("baseline", 1, THREE_ERRORS), record("baseline", 0, ONE_ERROR)]
    errors = analyze_errors(recorded(runs, "baseline"), LABELS, CLASSES)
    assert errors.seeds == (0, 1)
    assert errors.confusion is not None
    assert errors.confusion.tolist() == [[5, 3, 0], [0, 8, 0], [1, 0, 7]]


def test_last_row_with_records_is_analyzed(record: RecordPredictions, recorded: Recorded) -> None:
    plan = recorded([record("baseline+se", 0, ONE_ERROR), record("baseline", 0, ONE_ERROR)])
    assert analyze_errors(plan, LABELS, CLASSES).row == plan.rows[1]


def test_no_change_without_records_of_the_first_row(record: RecordPredictions, recorded: Recorded) -> None:
    errors = analyze_errors(recorded([record("baseline+se", 0, ONE_ERROR)]), LABELS, CLASSES)
    assert errors.per_class[["top1_first", "change"]].isna().all(axis=None)
    assert errors.per_class["top1"].tolist() == [75, 100, 100]


def test_plan_without_records_is_refused(record: RecordPredictions, recorded: Recorded) -> None:
    with pytest.raises(ValueError, match="no row has a result"):
        analyze_errors(recorded([record("baseline+se", 0, ONE_ERROR)], "baseline"), LABELS, CLASSES)


def test_confusion_matrix_excludes_seeds_without_predictions(
    record: RecordPredictions, recorded: Recorded, tmp_path: Path
) -> None:
    runs = [record("baseline", 0, THREE_ERRORS), record("baseline", 7, ONE_ERROR)]
    run_file(tmp_path, "predictions", runs[0].name).unlink()
    errors = analyze_errors(recorded(runs), LABELS, CLASSES)
    assert (errors.seeds, errors.seeds_without_predictions) == ((0, 7), (0,))
    assert errors.confusion is not None
    assert errors.confusion.tolist() == [[3, 1, 0], [0, 4, 0], [0, 0, 4]]
    assert errors.per_class["top1"].tolist() == [62.5, 100, 87.5]  # mean over both seeds


def test_no_confusion_matrix_without_predictions(
    record: RecordPredictions, make_recorded: Recorded, tmp_path: Path
) -> None:
    runs = [record("baseline", 0, ONE_ERROR)]
    errors = analyze_errors(make_recorded(PLAN, runs, out=tmp_path / "elsewhere"), LABELS, CLASSES)
    assert (errors.confusion, errors.seeds_without_predictions) == (None, (0,))


def test_predictions_are_loaded(record: RecordPredictions, tmp_path: Path) -> None:
    run = record("baseline", 0, ONE_ERROR)
    predicted = load_predictions(run, LABELS, run_file(tmp_path, "predictions", run.name))
    assert predicted is not None
    assert predicted.dtype == np.int64
    assert predicted.tolist() == ONE_ERROR
    write_predictions(tmp_path, run, np.array(ONE_ERROR, np.int32))  # int32 is used for more than 32,767 classes
    assert load_predictions(run, LABELS, run_file(tmp_path, "predictions", run.name)) is not None


@pytest.mark.parametrize("content", [b"", b"x", b"\xff" * 300, b'{"classes": 1}', None])
def test_damaged_file_is_ignored(content: bytes | None, record: RecordPredictions, tmp_path: Path) -> None:
    run = record("baseline", 0, ONE_ERROR)
    file = run_file(tmp_path, "predictions", run.name)
    file.write_bytes(file.read_bytes()[:-1] if content is None else content)
    assert load_predictions(run, LABELS, run_file(tmp_path, "predictions", run.name)) is None


def test_folder_with_the_name_of_the_file_is_ignored(record: RecordPredictions, tmp_path: Path) -> None:
    run = record("baseline", 0, ONE_ERROR)
    file = run_file(tmp_path, "predictions", run.name)
    file.unlink()
    file.mkdir()
    assert load_predictions(run, LABELS, run_file(tmp_path, "predictions", run.name)) is None


@pytest.mark.parametrize(
    "predicted",
    [
        np.array(ONE_ERROR[:-1], np.int16),
        np.array([ONE_ERROR], np.int16),
        np.array(ONE_ERROR, np.float32),
        np.full(12, np.nan, np.float32),
        np.array([0, 0, 0, 9999, 1, 1, 1, 1, 2, 2, 2, 2], np.int16),  # accuracy matches, but 9999 is no class
        np.array([0, 0, 0, -1, 1, 1, 1, 1, 2, 2, 2, 2], np.int16),
        np.array([0, 0, 0, 0, 1, 1, 1, 2, 2, 2, 2, 2], np.int16),  # same accuracy, but errors in another class
        np.array(THREE_ERRORS, np.int16),
    ],
)
def test_file_that_contradicts_the_record_is_ignored(
    predicted: NDArray[Any], record: RecordPredictions, tmp_path: Path
) -> None:
    run = record("baseline", 0, ONE_ERROR)
    write_predictions(tmp_path, run, predicted)
    assert load_predictions(run, LABELS, run_file(tmp_path, "predictions", run.name)) is None


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float8_e4m3fn, torch.bool])
def test_number_formats_without_numpy_equivalent_are_ignored(
    dtype: torch.dtype, record: RecordPredictions, tmp_path: Path
) -> None:
    run = record("baseline", 0, ONE_ERROR)
    save_torch({"classes": torch.tensor(ONE_ERROR).to(dtype)}, run_file(tmp_path, "predictions", run.name))
    assert load_predictions(run, LABELS, run_file(tmp_path, "predictions", run.name)) is None


def test_file_without_classes_is_ignored(record: RecordPredictions, tmp_path: Path) -> None:
    run = record("baseline", 0, ONE_ERROR)
    save_file({"other": np.array(ONE_ERROR)}, run_file(tmp_path, "predictions", run.name))
    assert load_predictions(run, LABELS, run_file(tmp_path, "predictions", run.name)) is None


def confusions(errors: ErrorAnalysis, limit: int = 10) -> list[tuple[Any, ...]]:
    return list(most_frequent_confusions(errors, limit).itertuples(index=False, name=None))


def test_confusions_are_sorted_by_frequency(record: RecordPredictions, recorded: Recorded) -> None:
    runs = [record("baseline", 0, ONE_ERROR), record("baseline", 1, THREE_ERRORS)]
    errors = analyze_errors(recorded(runs), LABELS, CLASSES)
    assert confusions(errors) == [("a", "b", 37.5), ("c", "a", 12.5)]
    assert confusions(errors, 1) == [("a", "b", 37.5)]


def test_no_errors_give_no_confusions(record: RecordPredictions, recorded: Recorded) -> None:
    errors = analyze_errors(recorded([record("baseline", 0, LABELS.tolist())]), LABELS, CLASSES)
    assert confusions(errors) == []
    assert list(most_frequent_confusions(errors)) == ["class", "taken_for", "percent"]


def test_accuracy_without_near_duplicates_and_on_them(
    record: RecordPredictions, recorded: Recorded, tmp_path: Path
) -> None:
    runs = [record("baseline", 0, ONE_ERROR), record("baseline", 1, THREE_ERRORS), record("baseline+se", 0, ONE_ERROR)]
    run_file(tmp_path, "predictions", runs[2].name).unlink()
    plan = recorded(runs)
    table = accuracies_without(plan, LABELS, [2, 3])
    assert table["step"].tolist() == [row.label for row in plan.rows]
    assert table["n"].tolist() == [2, 0, 0]
    first = table.iloc[0]
    assert first["top1"] == pytest.approx(100 * 20 / 24)
    assert first["top1_without"] == pytest.approx(100 * 19 / 20)
    assert first["top1_duplicates"] == pytest.approx(100 * 1 / 4)
    assert table.iloc[1:, 2:].isna().all(axis=None)


def test_no_near_duplicates_change_nothing(record: RecordPredictions, recorded: Recorded) -> None:
    table = accuracies_without(recorded([record("baseline", 0, ONE_ERROR)], "baseline"), LABELS, [])
    assert table.iloc[0]["top1"] == table.iloc[0]["top1_without"]
    assert np.isnan(table.iloc[0]["top1_duplicates"])


DUPLICATES = NearDuplicates((NearDuplicate(0, 4, 0.9), NearDuplicate(11, 2, 1.0)), len(LABELS))


@pytest.fixture
def searched(monkeypatch: pytest.MonkeyPatch) -> list[DatasetConfig]:
    """Replace the worker that searches for near-duplicates, and return the list of data sets passed to it."""
    configs: list[DatasetConfig] = []

    def call(
        executor: LocalExecutor, name: str, report: object, data: CachedDataset, config: DatasetConfig, device: str
    ) -> NearDuplicates:
        assert name == "benchmarks.datasets.near_duplicates:near_duplicates"
        configs.append(config)
        return DUPLICATES

    monkeypatch.setattr(LocalExecutor, "call", call)
    return configs


def find(out: Path, config: DatasetConfig = DIGITS.data) -> NearDuplicates:
    cache = out / "cache"
    cache.mkdir(exist_ok=True)
    for split in ("train", "test"):
        np.save(cache / f"{split}_labels.npy", LABELS)
    data = CachedDataset(cache, ("a", "b", "c"), "fingerprint", (1, 8, 8), {})
    return find_near_duplicates(data, config, "cpu", out, Display())


def test_near_duplicates_are_searched_once(searched: list[DatasetConfig], tmp_path: Path) -> None:
    assert find(tmp_path) == find(tmp_path) == DUPLICATES
    assert searched == [DIGITS.data]


def test_each_selection_of_images_is_searched(searched: list[DatasetConfig], tmp_path: Path) -> None:
    other = DatasetConfig("digits", 10, image_size=8, in_chans=1, train_per_class=5)
    for _ in range(2):
        find(tmp_path)
        find(tmp_path, other)
    assert searched == [DIGITS.data, other]


@pytest.mark.parametrize(
    "content",
    [
        "",
        "null",
        "[1]",
        "{}",
        '{"found": [{}], "test_images": 12}',
        json.dumps({"found": [{"test": 12, "train": 0, "similarity": 1.0}], "test_images": 12}),
        json.dumps({"found": [{"test": -1, "train": 0, "similarity": 1.0}], "test_images": 12}),
        json.dumps({"found": [{"test": "a", "train": 0, "similarity": 1.0}], "test_images": 12}),
    ],
)
def test_invalid_stored_near_duplicates_are_searched_again(
    content: str, searched: list[DatasetConfig], tmp_path: Path
) -> None:
    find(tmp_path)
    [file] = (tmp_path / "near_duplicates").iterdir()
    file.write_text(content)
    assert find(tmp_path) == DUPLICATES
    assert len(searched) == 2
    assert find(tmp_path) == DUPLICATES
    assert len(searched) == 2
