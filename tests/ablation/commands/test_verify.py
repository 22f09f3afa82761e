"""Test `ablate verify`, which trains a run again and compares the numbers bit for bit."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ablation.cli import main
from benchmarks.datasets.prepare import prepare_dataset
from benchmarks.definition.benchmark import identify
from benchmarks.definition.registry import get_benchmark
from benchmarks.execution.local import LocalExecutor
from benchmarks.records.store import RecordStore, RunRecord


def files_in(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.slow
def test_trained_run_is_bit_identical_and_a_changed_record_is_detected(
    trained_copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = files_in(trained_copy)
    assert main(["verify", "--out", str(trained_copy), "--device", "cpu"]) == 0
    [recorded] = [r for r in RecordStore(trained_copy).records() if (r.spec, r.seed) == ("resnet8+se", 0)]
    [line] = capsys.readouterr().out.splitlines()
    assert line.startswith(f"resnet8+se seed 0 ({recorded.benchmark_id}): top-1 {recorded.top1:.2f}")
    assert line.endswith(f"{recorded.top1:.2f} now: bit-identical")
    assert files_in(trained_copy) == before

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
def record(tiny: Path, tmp_path: Path, make_record: Record) -> Record:
    """Return a function that records a made-up run of the `tiny` benchmark."""
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
        definition = benchmark.definition(fingerprint or prepare_dataset(benchmark.data, None).fingerprint, device)
        made = {"benchmark": "tiny", "benchmark_id": identify(definition), "definition": definition}
        result = make_record(spec, seed, **made, plan=plan, **fields)
        store.append(result)
        return result

    return add


@pytest.fixture
def returned(monkeypatch: pytest.MonkeyPatch) -> Callable[[RunRecord], None]:
    """Return a function that sets the record that the second run returns."""

    def use(result: RunRecord) -> None:
        monkeypatch.setattr(LocalExecutor, "call", staticmethod(lambda *_: result))

    return use


@pytest.mark.parametrize(
    ("difference", "change"),
    [
        ({"top1": 51.0}, "51.00 now: different\n"),
        ({"top1": 50.0 + 1e-12}, "50.00 now: different\n"),
        ({"top5": 94.0}, "now: different\n"),
        ({"per_class": {"0": 49.0}}, "now: different\n"),
    ],
)
def test_different_numbers_are_reported_with_differing_conditions(
    difference: dict[str, Any],
    change: str,
    record: Record,
    returned: Callable[[RunRecord], None],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    result = record()
    for versions, conditions in (
        ({"torch": "2.10.0"}, "the same device, versions and commit"),
        ({"torch": "2.11.0"}, "torch 2.10.0, now 2.11.0"),
    ):
        returned(replace(result, versions=versions, **difference))
        assert main(["verify", "--out", str(tmp_path / "out"), "--device", "cpu"]) == 1
        printed = capsys.readouterr().out
        assert change in printed
        assert conditions in printed.splitlines()[-1]
    assert len(RecordStore(tmp_path / "out").records()) == 1


def test_only_versions_and_times_may_differ(
    record: Record, returned: Callable[[RunRecord], None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = record()
    curve = [{**line, "train_seconds": 7.0} for line in result.curve]
    returned(replace(result, hours=9.0, finished="later", curve=curve, versions={"torch": "2.11.0"}))
    assert main(["verify", "--out", str(tmp_path / "out"), "--device", "cpu", "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert (content["same"], content["differ"]) == (True, ["torch 2.10.0, now 2.11.0"])
    assert content["hours"] == [0.02, 9.0]


def test_different_curve_is_a_difference(record: Record, returned: Callable[[RunRecord], None], tmp_path: Path) -> None:
    result = record()
    first, *rest = result.curve
    returned(replace(result, curve=[{**first, "loss": 2.5}, *rest]))
    assert main(["verify", "--out", str(tmp_path / "out"), "--device", "cpu"]) == 1


@pytest.mark.parametrize(("arguments", "seed"), [([], 2), (["--seed", "5"], 5), (["--seed", "2"], 2)])
def test_seed_option_or_first_recorded_seed_is_trained(
    arguments: list[str],
    seed: int,
    record: Record,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    found = {number: record("baseline+se", number, top1=40.0 + number) for number in (5, 2, 9)}
    record("baseline", 0)  # a record of another row
    monkeypatch.setattr(LocalExecutor, "call", staticmethod(lambda function, report, run: found[run.seed]))
    out = ["--out", str(tmp_path / "out"), "--device", "cpu", "--json"]
    assert main(["verify", "baseline+se", *arguments, *out]) == 0
    assert (content := json.loads(capsys.readouterr().out))["seed"] == seed
    assert (content["spec"], content["top1"]) == ("resnet8+se", [40.0 + seed] * 2)


@pytest.fixture
def verify_line(error_line: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Return a function that returns the error message of `ablate verify`, which must not train or write files."""
    monkeypatch.setattr(LocalExecutor, "call", staticmethod(lambda *_: pytest.fail("it was trained")))

    def run(*arguments: str) -> str:
        before = files_in(tmp_path)
        line = error_line("verify", *arguments, "--out", str(tmp_path / "out"))
        assert files_in(tmp_path) == before
        return line

    return run


def test_unknown_seed_error_lists_the_recorded_seeds(record: Record, verify_line: Callable[..., str]) -> None:
    for seed in (4, 0, 11):
        record(seed=seed)
    assert "0, 4, 11" in verify_line("--seed", "1")


def test_last_row_must_have_records(record: Record, verify_line: Callable[..., str]) -> None:
    record(plan="baseline+se")
    assert "resnet8+se" in verify_line("--device", "cpu")
    assert "resnet8+se with seed 0" in verify_line("--seed", "0")


def test_other_images_or_device_types_are_rejected(record: Record, verify_line: Callable[..., str]) -> None:
    one = record(fingerprint="another")
    line = verify_line("--device", "cpu")
    assert one.benchmark_id in line
    assert "data.fingerprint (another, " in line
    other = record(device="cuda")
    assert "device (cuda, cpu)" in verify_line("--device", "cpu", "--id", other.benchmark_id)
    assert "--id" in verify_line()


def test_invalid_options_are_rejected_in_one_line(
    record: Record, verify_line: Callable[..., str], tmp_path: Path
) -> None:
    assert "ablate run" in verify_line()
    record()
    assert "--seed" in verify_line("--seed", "-1")
    assert "--seed" in verify_line("--seed", "x")
    assert "digits" in verify_line("--benchmark", "digits")
    assert "unknown part 'sse'" in verify_line("baseline+sse")
    assert "unknown --device 'gpu'" in verify_line("--device", "gpu")
    assert "is not a folder" in verify_line("--data", str(tmp_path / "nowhere"))
