"""`ablate verify`: a run made again, to the bit."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ablation.cli import main
from benchmarks.datasets.cache import prepare
from benchmarks.definition.benchmark import get_benchmark, identify
from benchmarks.execution import local
from benchmarks.records.store import RecordStore, RunRecord


def files_in(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.slow
def test_a_run_is_the_same_to_the_bit_and_a_changed_record_is_found_out(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    shared = ["--benchmark", str(tiny), "--device", "cpu"]
    assert main(["run", "baseline", "--seeds", "1", *shared, "--out", str(out)]) == 0
    before = files_in(out)
    capsys.readouterr()
    assert main(["verify", "--out", str(out), "--device", "cpu"]) == 0
    [recorded] = RecordStore(out).results()
    top1 = f"{recorded.top1:.2f}"
    line = f"resnet8 seed 0 ({recorded.benchmark_id}): top-1 {top1} recorded, {top1} now: the same to the bit\n"
    assert capsys.readouterr().out == line
    assert files_in(out) == before

    changed = RecordStore(tmp_path / "changed")
    changed.create()
    changed.append(replace(recorded, top1=recorded.top1 + 1))
    before = files_in(changed.out)
    assert main(["verify", "--out", str(changed.out), "--device", "cpu", "--json"]) == 1
    content = json.loads(capsys.readouterr().out)
    assert content["same"] is False
    assert content["top1"] == [recorded.top1 + 1, recorded.top1]
    assert content["top5"] == [recorded.top5] * 2
    assert files_in(changed.out) == before


Record = Callable[..., RunRecord]


@pytest.fixture
def record(tiny: Path, tmp_path: Path, make_result: Record) -> Record:
    """Records a run of `tiny` that was never trained."""
    benchmark = get_benchmark(str(tiny))
    store = RecordStore(tmp_path / "out")
    store.create()

    def add(
        spec: str = "baseline",
        seed: int = 0,
        fingerprint: str | None = None,
        device: str = "cpu",
        plan: str = "baseline",
        **fields: Any,
    ) -> RunRecord:
        definition = benchmark.definition(fingerprint or prepare(benchmark.data, None).fingerprint, device)
        made = {"benchmark": "tiny", "benchmark_id": identify(definition), "definition": definition}
        result = make_result(spec, seed, **made, plan=plan, **fields)
        store.append(result)
        return result

    return add


@pytest.fixture
def returned(monkeypatch: pytest.MonkeyPatch) -> Callable[[RunRecord], None]:
    """Sets what the second training ends in."""

    def use(result: RunRecord) -> None:
        monkeypatch.setattr(local, "call", lambda *_: result)

    return use


@pytest.mark.parametrize(
    ("difference", "words"),
    [
        ({"top1": 51.0}, "top-1 50.00 recorded, 51.00 now: not the same\n"),
        ({"top1": 50.0 + 1e-12}, "top-1 50.00 recorded, 50.00 now: not the same\n"),
        ({"top5": 94.0}, "not the same\n"),
        ({"per_class": {"0": 49.0}}, "not the same\n"),
    ],
)
def test_other_numbers_are_said_with_what_they_were_made_with(
    difference: dict[str, Any],
    words: str,
    record: Record,
    returned: Callable[[RunRecord], None],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    result = record()
    for versions, told in (
        ({"torch": "2.10.0"}, "made with: the same device, versions and commit\n"),
        ({"torch": "2.11.0"}, "made with: torch 2.10.0, now 2.11.0\n"),
    ):
        returned(replace(result, versions=versions, **difference))
        assert main(["verify", "--out", str(tmp_path / "out"), "--device", "cpu"]) == 1
        printed = capsys.readouterr().out
        assert words in printed
        assert printed.endswith(told)
    assert len(RecordStore(tmp_path / "out").results()) == 1


def test_the_same_numbers_on_other_versions_and_in_another_time_are_the_same(
    record: Record, returned: Callable[[RunRecord], None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = record()
    curve = [{**line, "train_seconds": 7.0} for line in result.curve]
    returned(replace(result, hours=9.0, finished="later", curve=curve, versions={"torch": "2.11.0"}))
    assert main(["verify", "--out", str(tmp_path / "out"), "--device", "cpu", "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert (content["same"], content["differ"]) == (True, ["torch 2.10.0, now 2.11.0"])
    assert content["hours"] == [0.02, 9.0]


def test_another_curve_to_the_same_end_is_not_the_same(
    record: Record, returned: Callable[[RunRecord], None], tmp_path: Path
) -> None:
    result = record()
    first, *rest = result.curve
    returned(replace(result, curve=[{**first, "loss": 2.5}, *rest]))
    assert main(["verify", "--out", str(tmp_path / "out"), "--device", "cpu"]) == 1


@pytest.mark.parametrize(("arguments", "seed"), [([], 2), (["--seed", "5"], 5), (["--seed", "2"], 2)])
def test_the_first_seed_or_the_one_that_is_asked_for_is_trained(
    arguments: list[str],
    seed: int,
    record: Record,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    found = {number: record("baseline+se", number, top1=40.0 + number) for number in (5, 2, 9)}
    record("baseline", 0)  # of another row
    monkeypatch.setattr(local, "call", lambda function, report, run: found[run.seed])
    out = ["--out", str(tmp_path / "out"), "--device", "cpu", "--json"]
    assert main(["verify", "baseline+se", *arguments, *out]) == 0
    assert (content := json.loads(capsys.readouterr().out))["seed"] == seed
    assert (content["spec"], content["top1"]) == ("resnet8+se", [40.0 + seed] * 2)


@pytest.fixture
def refused(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """The one line of a command that is refused, and trains nothing."""
    monkeypatch.setattr(local, "call", lambda *_: pytest.fail("it was trained"))

    def run(*arguments: str) -> str:
        before = files_in(tmp_path)
        assert main(["verify", *arguments, "--out", str(tmp_path / "out")]) == 2
        captured = capsys.readouterr()
        assert (captured.out, captured.err.count("\n")) == ("", 1)
        assert captured.err.startswith("ablate: ")
        assert files_in(tmp_path) == before
        return captured.err

    return run


def test_an_unknown_seed_names_those_that_are_recorded(record: Record, refused: Callable[..., str]) -> None:
    for seed in (4, 0, 11):
        record(seed=seed)
    assert "no record of resnet8 with seed 1: recorded are seeds 0, 4, 11\n" in refused("--seed", "1")


def test_a_last_row_without_records_is_one_line(record: Record, refused: Callable[..., str]) -> None:
    record(plan="baseline+se")
    assert refused("--device", "cpu") == "ablate: no record of resnet8+se\n"
    assert refused("--seed", "0") == "ablate: no record of resnet8+se with seed 0\n"


def test_other_images_and_another_kind_of_device_are_one_line(record: Record, refused: Callable[..., str]) -> None:
    one = record(fingerprint="another")
    line = refused("--device", "cpu")
    assert (
        f"this would be another benchmark id than the record's {one.benchmark_id}: data.fingerprint (another, " in line
    )
    other = record(device="cuda")
    assert "device (cuda, cpu)" in refused("--device", "cpu", "--id", other.benchmark_id)
    assert "choose one with --id" in refused()


def test_bad_options_are_one_line(record: Record, refused: Callable[..., str], tmp_path: Path) -> None:
    assert "ablate run makes them" in refused()
    record()
    assert "--seed" in refused("--seed", "-1")
    assert "--seed" in refused("--seed", "x")
    assert "no such records of digits" in refused("--benchmark", "digits")
    assert "unknown part 'sse'" in refused("baseline+sse")
    assert "unknown --device 'gpu'" in refused("--device", "gpu")
    assert "is not a folder" in refused("--data", str(tmp_path / "nowhere"))
