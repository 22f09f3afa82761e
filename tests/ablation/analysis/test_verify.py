from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ablation.analysis.verify import compare, train_again
from ablation.plans.row import Row
from arch.errors import InputError
from benchmarks.datasets.cache import prepare
from benchmarks.definition.benchmark import Benchmark, get_benchmark, identify
from benchmarks.definition.overrides import read_run_config
from benchmarks.execution import local
from benchmarks.execution.progress import Display
from benchmarks.records.store import RunRecord
from benchmarks.runs.run import Run

Make = Callable[..., RunRecord]


@pytest.fixture
def benchmark(tiny: Path) -> Benchmark:
    return get_benchmark(str(tiny))


@pytest.fixture
def record(benchmark: Benchmark, make_result: Make) -> RunRecord:
    definition = benchmark.definition(prepare(benchmark.data, None).fingerprint, "cpu")
    made = {"benchmark": "tiny", "benchmark_id": identify(definition), "definition": definition}
    return make_result("baseline+se", 3, compile_mode="compile", predicted_hours=0.25, **made)


@pytest.fixture
def trained(record: RunRecord, monkeypatch: pytest.MonkeyPatch) -> list[Run]:
    """The runs that were given to a child, which has trained none of them."""
    found: list[Run] = []

    def call(function: str, report: object, run: Run) -> RunRecord:
        assert function == "benchmarks.runs.dispatch:execute_run"
        assert run.out.is_dir()
        (run.out / "weights").mkdir()
        found.append(run)
        return record

    monkeypatch.setattr(local, "call", call)
    return found


def again(record: RunRecord, benchmark: Benchmark, device: str = "cpu") -> RunRecord:
    return train_again(
        record, Row(record.spec, read_run_config(record.spec)), benchmark, None, Path("runs"), device, Display()
    )


def test_a_run_is_trained_as_it_was_recorded_in_a_folder_that_is_gone_afterwards(
    record: RunRecord, benchmark: Benchmark, trained: list[Run]
) -> None:
    again(record, benchmark)
    [run] = trained
    assert (run.id, run.seed, run.spec) == (record.run_id, 3, "resnet8+se")
    assert (run.compile_mode, run.params, run.macs) == ("compile", record.params, record.macs)
    assert (run.split, run.device) == ("test", "cpu")
    assert not run.out.exists()


def test_the_folder_is_gone_where_the_training_fails(
    record: RunRecord, benchmark: Benchmark, trained: list[Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    call = local.call

    def fail(*arguments: Any) -> None:
        call(*arguments)
        raise RuntimeError

    monkeypatch.setattr(local, "call", fail)
    with pytest.raises(RuntimeError):
        again(record, benchmark)
    assert not trained[0].out.exists()


@pytest.mark.parametrize(
    ("section", "field", "value", "words"),
    [
        ("data", "fingerprint", "another", r"data\.fingerprint \(another, [0-9a-f]+\)"),
        ("", "device", "cuda", r"device \(cuda, cpu\)"),
        ("", "protocol", 1, r"protocol \(1, \d+\)"),
        ("", "split", "val", r"split \(val, test\)"),
        ("recipe", "lr", 9.0, r"recipe\.lr \(9\.0, 0\.05\)"),
    ],
)
def test_what_would_have_another_id_is_refused_untrained(
    section: str, field: str, value: object, words: str, record: RunRecord, benchmark: Benchmark, trained: list[Run]
) -> None:
    old = record.definition
    definition = {**old, section: {**old[section], field: value}} if section else {**old, field: value}
    other = replace(record, definition=definition, benchmark_id=identify(definition))
    with pytest.raises(InputError, match=rf"^this would be another benchmark id than the record's \w+: {words}$"):
        again(other, benchmark)
    assert trained == []


def test_what_two_runs_were_made_with_is_compared(make_result: Make) -> None:
    before = make_result(versions={"torch": "2.9.0", "timm": "1.0"}, device="cpu (2 threads)", commit="")
    assert compare(before, before) == []
    now = replace(before, versions={"torch": "2.10.0", "timm": "1.0", "python": "3.11"}, commit="abc", top1=1.0)
    assert compare(before, now) == ["commit unknown, now abc", "python None, now 3.11", "torch 2.9.0, now 2.10.0"]
    assert compare(before, replace(before, device="cpu (4 threads)")) == ["device cpu (2 threads), now cpu (4 threads)"]
