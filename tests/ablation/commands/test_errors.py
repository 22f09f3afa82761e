"""Test `ablate errors` on real digits with made-up records and predictions, without training."""

import csv
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from ablation.cli import main
from benchmarks.datasets.near_duplicates import NearDuplicate, NearDuplicates
from benchmarks.datasets.prepare import prepare_dataset
from benchmarks.definition.benchmark import identify
from benchmarks.definition.registry import get_benchmark
from benchmarks.execution.local import LocalExecutor
from benchmarks.records.paths import run_file
from benchmarks.records.store import RecordStore, RunRecord

pytestmark = pytest.mark.slow

HOSTILE = [
    "=cmd",
    "<script>",
    "a|b",
    "$x$",
    "new\nline",
    "שלום\u202e",
    "e\u0301\u0301",
    "x" * 300,
    ":dog: [red]",
    "+1\\",
]
PRINTED = [name.replace("\n", "?").replace("\u202e", "?") for name in HOSTILE]
LABELS = np.repeat(np.arange(10), 10)  # ten test images per digit

Record = Callable[..., RunRecord]


def predictions_with(*errors: tuple[int, int, int]) -> list[int]:
    """Return correct predictions except for these errors: (class, number of images, predicted class)."""
    predictions = LABELS.copy()
    for true_class, count, predicted_class in errors:
        predictions[10 * true_class : 10 * true_class + count] = predicted_class
    return predictions.tolist()


@pytest.fixture
def record(
    tiny: Path, tmp_path: Path, make_record: Callable[..., RunRecord], monkeypatch: pytest.MonkeyPatch
) -> Record:
    """Return a function that records a run in out/, with or without its predictions. The classes have hostile names."""
    benchmark = get_benchmark(str(tiny))
    images = replace(prepare_dataset(benchmark.data, None), classes=tuple(HOSTILE))
    monkeypatch.setattr("benchmarks.datasets.prepare.open_or_decode", lambda *_: images)
    assert images.load(benchmark.data, "test")[1].labels.tolist() == LABELS.tolist()
    store = RecordStore(tmp_path / "out")
    store.create()

    def add(
        spec: str,
        seed: int,
        predictions: Sequence[int],
        keep: bool = True,
        names: Sequence[str] = HOSTILE,
        fingerprint: str = images.fingerprint,
        plan: str = "baseline+se",
    ) -> RunRecord:
        correct = np.array(predictions) == LABELS
        definition = benchmark.definition(fingerprint, "cpu")
        run = make_record(
            spec,
            seed,
            100 * float(correct.mean()),
            benchmark="tiny",
            benchmark_id=identify(definition),
            definition=definition,
            per_class={name: 100 * float(correct[label == LABELS].mean()) for label, name in enumerate(names)},
            plan=plan,
        )
        store.append(run)
        if keep:
            file = run_file(store.out, "predictions", run.name)
            file.parent.mkdir(parents=True, exist_ok=True)
            save_file({"classes": np.array(predictions, np.int16)}, file)
        return run

    return add


@pytest.fixture
def printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Return a function that returns the output of `ablate errors`."""

    def run(*arguments: str) -> str:
        assert main(["errors", *arguments, "--out", str(tmp_path / "out")]) == 0
        captured = capsys.readouterr()
        assert captured.err == ""
        return captured.out

    return run


@pytest.fixture
def errors_line(error_line: Callable[..., str], tmp_path: Path) -> Callable[..., str]:
    """Return a function that runs `ablate errors` with invalid arguments, and returns the error message."""
    return lambda *arguments: error_line("errors", *arguments, "--out", str(tmp_path / "out"))


def cells(file: str | Path) -> list[list[str]]:
    with Path(file).open(encoding="utf-8", newline="") as lines:
        return list(csv.reader(lines))


def test_accuracy_per_class_and_confusions(record: Record, printed: Callable[..., str], tmp_path: Path) -> None:
    record("baseline", 0, predictions_with((0, 5, 1)))
    record("baseline+se", 0, predictions_with((0, 2, 1)))
    record("baseline+se", 1, predictions_with((0, 2, 1), (2, 1, 3)))
    content = json.loads(printed("--json"))
    assert (content["spec"], content["seeds"], content["seeds_without_predictions"]) == ("resnet8+se", [0, 1], [])
    assert [line["class"] for line in content["per_class"]] == HOSTILE
    first = content["per_class"][0]
    assert first == {"class": "=cmd", "images": 10, "top1": 80, "top1_first": 50, "change": 30}
    assert content["confusions"] == [
        {"class": "=cmd", "taken_for": "<script>", "percent": 20},
        {"class": "a|b", "taken_for": "$x$", "percent": 5},
    ]
    assert content["near_duplicates"] is None
    by_class, matrix, picture = content["files"]
    assert cells(by_class)[:2] == [
        ["class", "images", "top1", "top1_first", "change"],
        ["'=cmd", "10", "80.0", "50.0", "30.0"],
    ]
    counts = np.array([line[1:] for line in cells(matrix)[1:]], int)
    assert (counts[0, 0], counts[0, 1], counts[2, 3], counts.sum()) == (16, 4, 1, 200)
    assert Path(picture).read_bytes().startswith(b"\x89PNG")


def test_hostile_class_names_are_text_in_every_output(record: Record, printed: Callable[..., str]) -> None:
    record("baseline", 0, predictions_with(*((own, 1 + own % 3, (own + 1) % 10) for own in range(10))), plan="baseline")
    output = printed()
    for name in PRINTED:
        assert name in output or len(name) == 300  # the long name is wrapped
    assert output.count("x") > 2 * 300
    assert "\u202e" not in output
    content = json.loads(printed("--json"))
    assert {line["class"] for line in content["confusions"]} == set(HOSTILE)
    by_class, matrix, _ = content["files"]
    guarded = [f"'{name}" if name[0] in "=+" else name for name in PRINTED]
    assert [line[0] for line in cells(by_class)[1:]] == guarded
    assert cells(matrix)[0] == ["", *guarded]
    assert [line[0] for line in cells(matrix)[1:]] == guarded
    assert all(cell[:1] not in "=+-@" for line in cells(matrix) for cell in line if cell)


def test_perfect_predictions_have_no_confusions(record: Record, printed: Callable[..., str]) -> None:
    record("baseline", 0, predictions_with(), plan="baseline")
    assert "100.00" in printed()
    content = json.loads(printed("--json"))
    assert content["confusions"] == []
    assert {line["top1"] for line in content["per_class"]} == {100}


def test_without_predictions_there_is_no_confusion_matrix(record: Record, printed: Callable[..., str]) -> None:
    record("baseline", 0, predictions_with((0, 5, 1)), keep=False, plan="baseline")
    output = printed()
    assert "no confusion matrix" in output
    assert "50.00" in output
    content = json.loads(printed("--json"))
    assert (content["confusions"], content["seeds_without_predictions"]) == (None, [0])
    assert [Path(file).name for file in content["files"]] == ["tiny_baseline_errors.csv"]


def test_seeds_without_predictions_are_listed(record: Record, printed: Callable[..., str]) -> None:
    for seed in range(4):
        record("baseline", seed, predictions_with((0, seed + 1, 1)), keep=seed % 2 == 0, plan="baseline")
    output = printed()
    assert "seeds 1, 3" in output
    assert "mean over 4 seeds" in output
    assert json.loads(printed("--json"))["confusions"][0]["percent"] == 20  # mean of seeds 0 and 2


def test_seeds_option_limits_the_records(
    record: Record, printed: Callable[..., str], errors_line: Callable[..., str]
) -> None:
    record("baseline", 1, predictions_with((0, 10, 1)), plan="baseline")
    assert "seeds 0 to 0" in errors_line("--seeds", "1")
    record("baseline", 0, predictions_with((0, 1, 1)), plan="baseline")
    assert json.loads(printed("--seeds", "1", "--json"))["per_class"][0]["top1"] == 90
    assert json.loads(printed("--json"))["per_class"][0]["top1"] == 45


def test_last_row_with_records_is_analyzed(record: Record, printed: Callable[..., str]) -> None:
    record("baseline", 0, predictions_with((0, 1, 1)))
    record("baseline+se", 0, predictions_with((0, 2, 1)), plan="baseline+se+cbam")
    output = printed()
    [line] = [line for line in output.splitlines() if "resnet8+se+cbam" in line]
    assert "analyzing resnet8+se instead" in line
    assert "resnet8+se, mean over 1 seed:" in output
    assert json.loads(printed("--json"))["spec"] == "resnet8+se"
    assert "has no records" not in printed("baseline+se")


def test_no_change_without_records_of_the_first_row(record: Record, printed: Callable[..., str]) -> None:
    record("baseline+se", 0, predictions_with((0, 1, 1)))
    assert "nan" not in printed()
    first = json.loads(printed("--json"))["per_class"][0]
    assert (first["top1_first"], first["change"]) == (None, None)


@pytest.mark.parametrize("as_json", [False, True])
def test_accuracy_without_near_duplicates(
    as_json: bool, record: Record, printed: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = NearDuplicates((NearDuplicate(0, 3, 0.9), NearDuplicate(99, 5, 1.0)), 100)
    monkeypatch.setattr(LocalExecutor, "call", staticmethod(lambda *_: found))
    record("baseline", 0, predictions_with((0, 2, 1)))
    record("baseline+se", 0, predictions_with(), keep=False)
    output = printed("--near-duplicates", "--device", "cpu", *(["--json"] if as_json else []))
    if as_json:
        doubles: dict[str, Any] = json.loads(output)["near_duplicates"]
        assert (doubles["found"], doubles["test_images"]) == (2, 100)
        first, second = doubles["rows"]
        assert (first["n"], first["top1"], first["top1_duplicates"]) == (1, 98, 50)
        assert first["top1_without"] == pytest.approx(100 * 97 / 98)
        assert (second["n"], second["top1"]) == (0, None)
    else:
        assert "2 of 100 test images (2.0%) are near-duplicates of training images" in output
        assert "98.98" in output
        assert "nan" not in output


def test_near_duplicates_are_found_once(
    record: Record, printed: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record("baseline", 0, predictions_with((0, 2, 1)), plan="baseline")
    arguments = ("--near-duplicates", "--device", "cpu", "--json")
    first = json.loads(printed(*arguments))
    assert first["near_duplicates"]["test_images"] == 100
    [row] = first["near_duplicates"]["rows"]
    assert (row["n"], row["top1"]) == (1, 98)
    [kept] = (tmp_path / "out" / "near_duplicates").iterdir()
    assert len(json.loads(kept.read_text())["found"]) == first["near_duplicates"]["found"]
    monkeypatch.setattr(LocalExecutor, "call", staticmethod(lambda *_: pytest.fail("the search was repeated")))
    assert json.loads(printed(*arguments)) == first


def test_invalid_input_is_rejected_in_one_line(record: Record, errors_line: Callable[..., str], tmp_path: Path) -> None:
    assert "ablate run" in errors_line()
    record("baseline", 0, predictions_with(), plan="baseline")
    assert "digits" in errors_line("--benchmark", "digits")
    assert "resnet20" in errors_line("resnet20")
    assert "unknown part 'sse'" in errors_line("baseline+sse")
    assert "--seeds" in errors_line("--seeds", "0")
    assert "tiny" in errors_line("--id", "0123456789ab")
    assert "is not a folder" in errors_line("--data", str(tmp_path / "nowhere"))
    assert "digits needs no --data" in errors_line("--data", str(tmp_path))
    assert "unknown --device 'gpu'" in errors_line("--near-duplicates", "--device", "gpu")


def test_images_must_be_those_of_the_records(record: Record, errors_line: Callable[..., str]) -> None:
    record("baseline", 0, predictions_with(), fingerprint="another")
    assert "--data" in errors_line()


def test_unwritable_files_are_reported_in_one_line(
    record: Record, errors_line: Callable[..., str], tmp_path: Path
) -> None:
    record("baseline", 0, predictions_with(), plan="baseline")
    (tmp_path / "out" / "tiny_baseline_errors.csv").mkdir()
    assert "cannot write to" in errors_line()


def test_images_are_not_needed_if_the_predictions_contain_the_labels(
    record: Record, printed: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the images were read")

    predicted = predictions_with((0, 5, 1))
    run = record("baseline", 0, predicted, keep=False, fingerprint="images of another computer", plan="baseline")
    file = run_file(tmp_path / "out", "predictions", run.name)
    file.parent.mkdir(parents=True)
    save_file({"classes": np.array(predicted, np.int16), "labels": np.array(LABELS, np.int16)}, file)
    monkeypatch.setattr("benchmarks.datasets.prepare.prepare_dataset", refuse)
    content = json.loads(printed("--json"))
    assert content["per_class"][0] == {"class": "=cmd", "images": 10, "top1": 50, "top1_first": 50, "change": 0}
    assert content["confusions"][0]["percent"] == 50


def test_labels_that_do_not_fit_are_ignored(record: Record, errors_line: Callable[..., str], tmp_path: Path) -> None:
    predicted = predictions_with()
    run = record("baseline", 0, predicted, keep=False, fingerprint="images of another computer", plan="baseline")
    file = run_file(tmp_path / "out", "predictions", run.name)
    file.parent.mkdir(parents=True)
    for labels in (np.full(100, 10, np.int16), np.full(100, -1, np.int16), np.zeros((100, 1), np.int16)):
        save_file({"classes": np.array(predicted, np.int16), "labels": labels}, file)
        assert "images differ" in errors_line()
