import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.numpy import save_file
from safetensors.torch import save_file as save_torch

from ablation.analysis.errors import ErrorAnalysis, analyse, confusions, find_duplicates, predictions, without
from ablation.plans.plan import path
from benchmarks.datasets.cache import CachedDataset
from benchmarks.datasets.near_duplicates import NearDuplicate, NearDuplicates
from benchmarks.definition.benchmark import BENCHMARKS, DatasetConfig
from benchmarks.execution import local
from benchmarks.execution.progress import Display
from benchmarks.records.paths import kept_file
from benchmarks.records.store import RunRecord

DIGITS = BENCHMARKS["digits"]
ROWS = path("baseline+se+cbam", DIGITS)
LABELS = np.repeat(np.arange(3), 4)
ONE_WRONG = [0, 0, 0, 1, 1, 1, 1, 1, 2, 2, 2, 2]  # a 0 is taken for a 1
THREE_WRONG = [0, 0, 1, 1, 1, 1, 1, 1, 2, 2, 2, 0]
Made = Callable[[str, int, Sequence[int]], RunRecord]


def keep(out: Path, run: RunRecord, taken: Sequence[int] | NDArray[Any], **others: NDArray[Any]) -> Path:
    file = kept_file(out, "predictions", run.run_id)
    file.parent.mkdir(parents=True, exist_ok=True)
    kept = taken if isinstance(taken, np.ndarray) else np.array(taken, np.int16)
    save_file({"classes": kept, **others}, file)
    return file


@pytest.fixture
def made(make_result: Callable[..., RunRecord], tmp_path: Path) -> Made:
    """A record whose accuracies are those of such predictions, which are kept beside it."""

    def make(spec: str, seed: int, taken: Sequence[int]) -> RunRecord:
        right = np.array(taken) == LABELS
        per_class = {name: 100 * float(right[place == LABELS].mean()) for place, name in enumerate("abc")}
        run = make_result(spec, seed, 100 * float(right.mean()), per_class=per_class)
        keep(tmp_path, run, taken)
        return run

    return make


def test_classes_are_told_with_their_mean_and_the_change_from_the_first_row(made: Made, tmp_path: Path) -> None:
    runs = [
        made("baseline", 0, THREE_WRONG),
        made("baseline+se", 0, LABELS.tolist()),
        made("baseline+se", 1, ONE_WRONG),
    ]
    errors = analyse(ROWS[:2], runs, LABELS, tmp_path)
    assert (errors.row, errors.seeds, errors.lacking) == (ROWS[1], (0, 1), ())
    assert errors.per_class["class"].tolist() == ["a", "b", "c"]
    assert errors.per_class["images"].tolist() == [4, 4, 4]
    assert errors.per_class["top1"].tolist() == [87.5, 100, 100]
    assert errors.per_class["top1_first"].tolist() == [50, 100, 75]
    assert errors.per_class["change"].tolist() == [37.5, 0, 25]


def test_the_confusion_matrix_adds_the_seeds_up(made: Made, tmp_path: Path) -> None:
    runs = [made("baseline", 1, THREE_WRONG), made("baseline", 0, ONE_WRONG)]
    errors = analyse(ROWS[:1], runs, LABELS, tmp_path)
    assert errors.seeds == (0, 1)
    assert errors.confusion is not None
    assert errors.confusion.tolist() == [[5, 3, 0], [0, 8, 0], [1, 0, 7]]


def test_the_last_row_that_has_results_is_taken(made: Made, tmp_path: Path) -> None:
    runs = [made("baseline+se", 0, ONE_WRONG), made("baseline", 0, ONE_WRONG)]
    assert analyse(ROWS, runs, LABELS, tmp_path).row == ROWS[1]


def test_without_results_of_the_first_row_there_is_no_change(made: Made, tmp_path: Path) -> None:
    errors = analyse(ROWS, [made("baseline+se", 0, ONE_WRONG)], LABELS, tmp_path)
    assert errors.per_class[["top1_first", "change"]].isna().all(axis=None)
    assert errors.per_class["top1"].tolist() == [75, 100, 100]


def test_without_results_there_is_nothing_to_tell(made: Made, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no row has a result"):
        analyse(ROWS[:1], [made("baseline+se", 0, ONE_WRONG)], LABELS, tmp_path)


def test_seeds_without_predictions_are_left_out_of_the_matrix_alone(made: Made, tmp_path: Path) -> None:
    runs = [made("baseline", 0, THREE_WRONG), made("baseline", 7, ONE_WRONG)]
    kept_file(tmp_path, "predictions", runs[0].run_id).unlink()
    errors = analyse(ROWS, runs, LABELS, tmp_path)
    assert (errors.seeds, errors.lacking) == ((0, 7), (0,))
    assert errors.confusion is not None
    assert errors.confusion.tolist() == [[3, 1, 0], [0, 4, 0], [0, 0, 4]]
    assert errors.per_class["top1"].tolist() == [62.5, 100, 87.5]  # of both


def test_where_no_predictions_are_kept_there_is_no_matrix(made: Made, tmp_path: Path) -> None:
    errors = analyse(ROWS, [made("baseline", 0, ONE_WRONG)], LABELS, tmp_path / "elsewhere")
    assert (errors.confusion, errors.lacking) == (None, (0,))


def test_predictions_are_read_as_they_were_kept(made: Made, tmp_path: Path) -> None:
    run = made("baseline", 0, ONE_WRONG)
    taken = predictions(run, LABELS, tmp_path)
    assert taken is not None
    assert taken.dtype == np.int64
    assert taken.tolist() == ONE_WRONG
    keep(tmp_path, run, np.array(ONE_WRONG, np.int32))  # of more than 32,767 classes
    assert predictions(run, LABELS, tmp_path) is not None


@pytest.mark.parametrize("content", [b"", b"x", b"\xff" * 300, b'{"classes": 1}', None])
def test_a_damaged_file_counts_as_none(content: bytes | None, made: Made, tmp_path: Path) -> None:
    run = made("baseline", 0, ONE_WRONG)
    file = kept_file(tmp_path, "predictions", run.run_id)
    file.write_bytes(file.read_bytes()[:-1] if content is None else content)
    assert predictions(run, LABELS, tmp_path) is None


def test_a_folder_in_the_place_of_the_file_counts_as_none(made: Made, tmp_path: Path) -> None:
    run = made("baseline", 0, ONE_WRONG)
    file = kept_file(tmp_path, "predictions", run.run_id)
    file.unlink()
    file.mkdir()
    assert predictions(run, LABELS, tmp_path) is None


@pytest.mark.parametrize(
    "foreign",
    [
        np.array(ONE_WRONG[:-1], np.int16),
        np.array([ONE_WRONG], np.int16),
        np.array(ONE_WRONG, np.float32),
        np.full(12, np.nan, np.float32),
        np.array([0, 0, 0, 9999, 1, 1, 1, 1, 2, 2, 2, 2], np.int16),  # no class, though its accuracy is the recorded
        np.array([0, 0, 0, -1, 1, 1, 1, 1, 2, 2, 2, 2], np.int16),
        np.array([0, 0, 0, 0, 1, 1, 1, 2, 2, 2, 2, 2], np.int16),  # of other images: right as often, in other classes
        np.array(THREE_WRONG, np.int16),
    ],
)
def test_a_foreign_file_counts_as_none(foreign: NDArray[Any], made: Made, tmp_path: Path) -> None:
    run = made("baseline", 0, ONE_WRONG)
    keep(tmp_path, run, foreign)
    assert predictions(run, LABELS, tmp_path) is None


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float8_e4m3fn, torch.bool])
def test_number_formats_that_numpy_lacks_count_as_none(dtype: torch.dtype, made: Made, tmp_path: Path) -> None:
    run = made("baseline", 0, ONE_WRONG)
    save_torch({"classes": torch.tensor(ONE_WRONG).to(dtype)}, kept_file(tmp_path, "predictions", run.run_id))
    assert predictions(run, LABELS, tmp_path) is None


def test_a_file_without_classes_counts_as_none(made: Made, tmp_path: Path) -> None:
    run = made("baseline", 0, ONE_WRONG)
    save_file({"other": np.array(ONE_WRONG)}, kept_file(tmp_path, "predictions", run.run_id))
    assert predictions(run, LABELS, tmp_path) is None


def told(errors: ErrorAnalysis, most: int = 10) -> list[tuple[Any, ...]]:
    return list(confusions(errors, most).itertuples(index=False, name=None))


def test_confusions_are_told_from_the_most_frequent_on(made: Made, tmp_path: Path) -> None:
    errors = analyse(ROWS, [made("baseline", 0, ONE_WRONG), made("baseline", 1, THREE_WRONG)], LABELS, tmp_path)
    assert told(errors) == [("a", "b", 37.5), ("c", "a", 12.5)]
    assert told(errors, 1) == [("a", "b", 37.5)]


def test_where_nothing_is_wrong_there_are_no_confusions(made: Made, tmp_path: Path) -> None:
    errors = analyse(ROWS, [made("baseline", 0, LABELS.tolist())], LABELS, tmp_path)
    assert told(errors) == []
    assert list(confusions(errors)) == ["class", "taken_for", "percent"]


def test_rows_are_judged_without_the_near_duplicates_and_on_those_alone(made: Made, tmp_path: Path) -> None:
    runs = [made("baseline", 0, ONE_WRONG), made("baseline", 1, THREE_WRONG), made("baseline+se", 0, ONE_WRONG)]
    kept_file(tmp_path, "predictions", runs[2].run_id).unlink()
    table = without(ROWS, runs, LABELS, [2, 3], tmp_path)
    assert table["step"].tolist() == [row.label for row in ROWS]
    assert table["n"].tolist() == [2, 0, 0]
    first = table.iloc[0]
    assert first["top1"] == pytest.approx(100 * 20 / 24)
    assert first["top1_without"] == pytest.approx(100 * 19 / 20)
    assert first["top1_duplicates"] == pytest.approx(100 * 1 / 4)
    assert table.iloc[1:, 2:].isna().all(axis=None)


def test_without_near_duplicates_nothing_changes(made: Made, tmp_path: Path) -> None:
    table = without(ROWS[:1], [made("baseline", 0, ONE_WRONG)], LABELS, [], tmp_path)
    assert table.iloc[0]["top1"] == table.iloc[0]["top1_without"]
    assert np.isnan(table.iloc[0]["top1_duplicates"])


FOUND = NearDuplicates((NearDuplicate(0, 4, 0.9), NearDuplicate(11, 2, 1.0)), 12)


class Search:
    """In place of the child that looks for near-duplicates."""

    def __init__(self) -> None:
        self.asked: list[DatasetConfig] = []

    def __call__(
        self, name: str, report: object, data: CachedDataset, definition: DatasetConfig, device: str
    ) -> NearDuplicates:
        assert name == "benchmarks.datasets.near_duplicates:near_duplicates"
        self.asked.append(definition)
        return FOUND


@pytest.fixture
def search(monkeypatch: pytest.MonkeyPatch) -> Search:
    looking = Search()
    monkeypatch.setattr(local, "call", looking)
    return looking


def duplicates(out: Path, definition: DatasetConfig = DIGITS.data) -> NearDuplicates:
    data = CachedDataset(out / "cache", ("a", "b", "c"), "fingerprint", (1, 8, 8), {})
    return find_duplicates(data, definition, len(LABELS), "cpu", out, Display())


def test_near_duplicates_are_looked_for_once(search: Search, tmp_path: Path) -> None:
    assert duplicates(tmp_path) == duplicates(tmp_path) == FOUND
    assert search.asked == [DIGITS.data]


def test_other_images_have_near_duplicates_of_their_own(search: Search, tmp_path: Path) -> None:
    other = DatasetConfig("digits", 10, image_size=8, in_chans=1, train_per_class=5)
    for _ in range(2):
        duplicates(tmp_path)
        duplicates(tmp_path, other)
    assert search.asked == [DIGITS.data, other]


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
def test_what_was_kept_of_near_duplicates_and_cannot_be_is_looked_for_anew(
    content: str, search: Search, tmp_path: Path
) -> None:
    duplicates(tmp_path)
    [file] = (tmp_path / "near_duplicates").iterdir()
    file.write_text(content)
    assert duplicates(tmp_path) == FOUND
    assert len(search.asked) == 2
    assert duplicates(tmp_path) == FOUND
    assert len(search.asked) == 2
