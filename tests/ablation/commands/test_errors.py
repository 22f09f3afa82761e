"""`ablate errors` on real digits, with records and predictions written by hand: nothing is trained."""

import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from ablation.cli import main
from benchmarks.datasets.cache import prepare
from benchmarks.datasets.near_duplicates import NearDuplicate, NearDuplicates
from benchmarks.definition.benchmark import get_benchmark, identify
from benchmarks.execution import local
from benchmarks.records.paths import kept_file
from benchmarks.records.store import RecordStore, RunRecord

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
LABELS = np.repeat(np.arange(10), 10)  # ten test images of each digit

Record = Callable[..., RunRecord]


def wrong(*taken: tuple[int, int, int]) -> list[int]:
    """All right but for (class, images, what they are taken for)."""
    predictions = LABELS.copy()
    for own, number, other in taken:
        predictions[10 * own : 10 * own + number] = other
    return predictions.tolist()


@pytest.fixture
def record(tiny: Path, tmp_path: Path, make_result: Callable[..., RunRecord]) -> Record:
    """Records a run with such predictions, or without them, in out/."""
    benchmark = get_benchmark(str(tiny))
    images = prepare(benchmark.data, None)
    assert images.load(benchmark.data, "test")[1].labels.tolist() == LABELS.tolist()
    store = RecordStore(tmp_path / "out")
    store.create()

    def add(
        spec: str,
        seed: int,
        taken: Sequence[int],
        keep: bool = True,
        names: Sequence[str] = HOSTILE,
        fingerprint: str = images.fingerprint,
        plan: str = "baseline+se",
    ) -> RunRecord:
        right = np.array(taken) == LABELS
        definition = benchmark.definition(fingerprint, "cpu")
        run = make_result(
            spec,
            seed,
            100 * float(right.mean()),
            benchmark="tiny",
            benchmark_id=identify(definition),
            definition=definition,
            per_class={name: 100 * float(right[place == LABELS].mean()) for place, name in enumerate(names)},
            plan=plan,
        )
        store.append(run)
        if keep:
            file = kept_file(store.out, "predictions", run.run_id)
            file.parent.mkdir(exist_ok=True)
            save_file({"classes": np.array(taken, np.int16)}, file)
        return run

    return add


@pytest.fixture
def told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """What the command prints."""

    def run(*arguments: str) -> str:
        assert main(["errors", *arguments, "--out", str(tmp_path / "out")]) == 0
        captured = capsys.readouterr()
        assert captured.err == ""
        return captured.out

    return run


@pytest.fixture
def refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """The one line of a command that is refused."""

    def run(*arguments: str) -> str:
        assert main(["errors", *arguments, "--out", str(tmp_path / "out")]) == 2
        captured = capsys.readouterr()
        assert (captured.out, captured.err.count("\n")) == ("", 1)
        assert captured.err.startswith("ablate: ")
        return captured.err

    return run


def cells(file: str | Path) -> list[list[str]]:
    with Path(file).open(encoding="utf-8", newline="") as lines:
        return list(csv.reader(lines))


def test_errors_are_told_by_class_and_by_what_is_taken_for_what(
    record: Record, told: Callable[..., str], tmp_path: Path
) -> None:
    record("baseline", 0, wrong((0, 5, 1)))
    record("baseline+se", 0, wrong((0, 2, 1)))
    record("baseline+se", 1, wrong((0, 2, 1), (2, 1, 3)))
    content = json.loads(told("--json"))
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


def test_hostile_names_are_text_in_every_output(record: Record, told: Callable[..., str]) -> None:
    record("baseline", 0, wrong(*((own, 1 + own % 3, (own + 1) % 10) for own in range(10))), plan="baseline")
    printed = told()
    for name in PRINTED:
        assert name in printed or len(name) == 300  # which is folded
    assert printed.count("x") > 2 * 300
    assert "\u202e" not in printed
    content = json.loads(told("--json"))
    assert {line["class"] for line in content["confusions"]} == set(HOSTILE)
    by_class, matrix, _ = content["files"]
    guarded = [f"'{name}" if name[0] in "=+" else name for name in PRINTED]
    assert [line[0] for line in cells(by_class)[1:]] == guarded
    assert cells(matrix)[0] == ["", *guarded]
    assert [line[0] for line in cells(matrix)[1:]] == guarded
    assert all(cell[:1] not in "=+-@" for line in cells(matrix) for cell in line if cell)


def test_where_no_test_image_is_wrong_nothing_is_taken_for_another(record: Record, told: Callable[..., str]) -> None:
    record("baseline", 0, wrong(), plan="baseline")
    assert "100.00" in told()
    content = json.loads(told("--json"))
    assert content["confusions"] == []
    assert {line["top1"] for line in content["per_class"]} == {100}


def test_without_predictions_there_is_no_matrix_and_the_rest_is_told(record: Record, told: Callable[..., str]) -> None:
    record("baseline", 0, wrong((0, 5, 1)), keep=False, plan="baseline")
    printed = told()
    assert "no predictions are kept of these runs, so that there is no confusion matrix" in printed
    assert "50.00" in printed
    content = json.loads(told("--json"))
    assert (content["confusions"], content["seeds_without_predictions"]) == (None, [0])
    assert [Path(file).name for file in content["files"]] == ["tiny_baseline_errors.csv"]


def test_seeds_without_predictions_are_named(record: Record, told: Callable[..., str]) -> None:
    for seed in range(4):
        record("baseline", seed, wrong((0, seed + 1, 1)), keep=seed % 2 == 0, plan="baseline")
    printed = told()
    assert "no predictions are kept of seeds 1, 3: left out of the matrix" in printed
    assert "mean over 4 seed(s)" in printed
    assert json.loads(told("--json"))["confusions"][0]["percent"] == 20  # of seeds 0 and 2


def test_of_fewer_seeds_than_are_recorded_only_these_are_told(
    record: Record, told: Callable[..., str], refused: Callable[..., str]
) -> None:
    record("baseline", 1, wrong((0, 10, 1)), plan="baseline")
    assert "no row has a result among seeds 0 to 0" in refused("--seeds", "1")
    record("baseline", 0, wrong((0, 1, 1)), plan="baseline")
    assert json.loads(told("--seeds", "1", "--json"))["per_class"][0]["top1"] == 90
    assert json.loads(told("--json"))["per_class"][0]["top1"] == 45


def test_where_the_last_row_has_no_result_the_one_that_is_told_is_named(
    record: Record, told: Callable[..., str]
) -> None:
    record("baseline", 0, wrong((0, 1, 1)))
    record("baseline+se", 0, wrong((0, 2, 1)), plan="baseline+se+cbam")
    printed = told()
    assert "resnet8+se+cbam has no result: this is of resnet8+se, the last row that has one\n" in printed
    assert "resnet8+se, mean over 1 seed(s)" in printed
    assert json.loads(told("--json"))["spec"] == "resnet8+se"
    assert "has no result" not in told("baseline+se")


def test_without_a_result_of_the_first_row_no_change_is_told(record: Record, told: Callable[..., str]) -> None:
    record("baseline+se", 0, wrong((0, 1, 1)))
    assert "nan" not in told()
    first = json.loads(told("--json"))["per_class"][0]
    assert (first["top1_first"], first["change"]) == (None, None)


@pytest.mark.parametrize("as_json", [False, True])
def test_near_duplicates_are_left_out_where_that_is_asked_for(
    as_json: bool, record: Record, told: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = NearDuplicates((NearDuplicate(0, 3, 0.9), NearDuplicate(99, 5, 1.0)), 100)
    monkeypatch.setattr(local, "call", lambda *_: found)
    record("baseline", 0, wrong((0, 2, 1)))
    record("baseline+se", 0, wrong(), keep=False)
    printed = told("--near-duplicates", "--device", "cpu", *(["--json"] if as_json else []))
    if as_json:
        doubles: dict[str, Any] = json.loads(printed)["near_duplicates"]
        assert (doubles["found"], doubles["test_images"]) == (2, 100)
        first, second = doubles["rows"]
        assert (first["n"], first["top1"], first["top1_duplicates"]) == (1, 98, 50)
        assert first["top1_without"] == pytest.approx(100 * 97 / 98)
        assert (second["n"], second["top1"]) == (0, None)
    else:
        assert "2 of 100 test images (2.0%) are near-duplicates of training images" in printed
        assert "98.98" in printed
        assert "nan" not in printed


@pytest.mark.slow
def test_near_duplicates_are_found_and_kept(
    record: Record, told: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record("baseline", 0, wrong((0, 2, 1)), plan="baseline")
    arguments = ("--near-duplicates", "--device", "cpu", "--json")
    first = json.loads(told(*arguments))
    assert first["near_duplicates"]["test_images"] == 100
    [row] = first["near_duplicates"]["rows"]
    assert (row["n"], row["top1"]) == (1, 98)
    [kept] = (tmp_path / "out" / "near_duplicates").iterdir()
    assert len(json.loads(kept.read_text())["found"]) == first["near_duplicates"]["found"]
    monkeypatch.setattr(local, "call", lambda *_: pytest.fail("they were looked for again"))
    assert json.loads(told(*arguments)) == first


def test_what_cannot_be_told_is_one_line(record: Record, refused: Callable[..., str], tmp_path: Path) -> None:
    assert "ablate run makes them" in refused()
    record("baseline", 0, wrong(), plan="baseline")
    assert "no such records of digits" in refused("--benchmark", "digits")
    assert "no records of resnet20 under tiny" in refused("resnet20")
    assert "unknown part 'sse'" in refused("baseline+sse")
    assert "--seeds" in refused("--seeds", "0")
    assert "no such records of tiny" in refused("--id", "0123456789ab")
    assert "is not a folder" in refused("--data", str(tmp_path / "nowhere"))
    assert "digits needs no --data" in refused("--data", str(tmp_path))
    assert "unknown --device 'gpu'" in refused("--near-duplicates", "--device", "gpu")


def test_other_images_than_the_records_are_refused(record: Record, refused: Callable[..., str]) -> None:
    record("baseline", 0, wrong(), fingerprint="another")
    assert "these are other images than the records'" in refused()


def test_files_that_cannot_be_written_are_one_line(record: Record, refused: Callable[..., str], tmp_path: Path) -> None:
    record("baseline", 0, wrong(), plan="baseline")
    (tmp_path / "out" / "tiny_baseline_errors.csv").mkdir()
    assert "cannot write to" in refused()
