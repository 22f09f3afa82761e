from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from ablation.analysis.records import RecordedPlan
from ablation.analysis.verify import differing_conditions, train_again
from ablation.plans.plan import make_plan, parse_plan
from ablation.plans.recorded_rows import recorded_rows
from arch.errors import InputError
from benchmarks.datasets.prepare import prepare_dataset
from benchmarks.definition.benchmark import Benchmark, identify
from benchmarks.definition.registry import get_benchmark
from benchmarks.execution.local import LocalExecutor
from benchmarks.execution.progress import Display
from benchmarks.records.paths import RunName, run_file
from benchmarks.records.store import RunRecord
from benchmarks.runs.run import Run

Make = Callable[..., RunRecord]


@pytest.fixture
def benchmark(tiny: Path) -> Benchmark:
    return get_benchmark(str(tiny))


@pytest.fixture
def record(benchmark: Benchmark, make_record: Make) -> RunRecord:
    definition = benchmark.definition(prepare_dataset(benchmark.data, None).fingerprint, "cpu")
    fields = {"benchmark": "tiny", "benchmark_id": identify(definition), "definition": definition}
    return make_record("baseline+se", 3, compile_mode="compile", predicted_hours=0.25, **fields)


@pytest.fixture
def trained(record: RunRecord, monkeypatch: pytest.MonkeyPatch) -> list[Run]:
    """Replace the worker process, which then trains nothing, and return the list of runs passed to it."""
    runs: list[Run] = []

    def call(executor: LocalExecutor, function: str, report: object, run: Run) -> RunRecord:
        assert function == "benchmarks.runs.dispatch:execute_run"
        assert run.out.is_dir()
        (run.out / "weights").mkdir()
        runs.append(run)
        if run.seed == 99:
            raise RuntimeError
        return record

    monkeypatch.setattr(LocalExecutor, "call", call)
    return runs


def repeat(record: RunRecord, benchmark: Benchmark) -> RunRecord:
    plan = parse_plan(record.spec, benchmark)
    recorded = RecordedPlan(plan, benchmark, record.benchmark_id, [record], [], Path("runs"))
    return train_again(record, recorded, None, "cpu", Display())


def test_run_is_repeated_in_a_temporary_folder(record: RunRecord, benchmark: Benchmark, trained: list[Run]) -> None:
    repeat(record, benchmark)
    [run] = trained
    assert (run.id, run.seed, run.spec) == (record.run_id, 3, "resnet8+se")
    assert (run.compile_mode, run.params, run.macs) == ("compile", record.params, record.macs)
    assert (run.split, run.device) == ("test", "cpu")
    assert not run.out.exists()


def test_temporary_folder_is_removed_if_training_fails(
    record: RunRecord, benchmark: Benchmark, trained: list[Run]
) -> None:
    with pytest.raises(RuntimeError):
        repeat(replace(record, seed=99), benchmark)
    assert not trained[0].out.exists()


def test_weights_of_the_teacher_are_read_from_any_folder(
    record: RunRecord, benchmark: Benchmark, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = parse_plan("resnet8@teacher=(resnet20)", benchmark).rows[-1].config
    record = replace(record, spec=str(config), key=config.key)
    outs = tmp_path / "a", tmp_path / "b"
    plan = parse_plan(record.spec, benchmark)
    recorded = RecordedPlan(plan, benchmark, record.benchmark_id, [record], [], outs[0], other_outs=outs[1:])
    with pytest.raises(InputError, match=r"no longer exist: .*/a/weights/tiny_.*/resnet20_seed3_"):
        train_again(record, recorded, None, "cpu", Display())
    teacher = RunName("tiny", record.benchmark_id, "resnet20", parse_plan("resnet20", benchmark).rows[0].key, 3)
    file = run_file(outs[1], "weights", teacher)
    file.parent.mkdir(parents=True)
    file.write_text("teacher")
    linked: list[str] = []

    def call(executor: LocalExecutor, function: str, report: object, run: Run) -> RunRecord:
        linked.extend(path.read_text() for path in run.required_files)
        return record

    monkeypatch.setattr(LocalExecutor, "call", call)
    train_again(record, recorded, None, "cpu", Display())
    assert linked == ["teacher"]


def test_spec_that_cannot_be_read_is_not_trained(record: RunRecord, benchmark: Benchmark, trained: list[Run]) -> None:
    record = replace(record, spec="resnet8+simam", key="gone", plan="baseline+simam")
    plan = make_plan(recorded_rows(record.plan, [record]))
    recorded = RecordedPlan(plan, benchmark, record.benchmark_id, [record], [], Path("runs"))
    with pytest.raises(InputError, match="simam"):
        train_again(record, recorded, None, "cpu", Display())


@pytest.mark.parametrize(
    ("section", "field", "value", "difference"),
    [
        ("data", "fingerprint", "another", r"data\.fingerprint \(another, [0-9a-f]+\)"),
        ("", "device", "cuda", r"device \(cuda, cpu\)"),
        ("", "protocol", 1, r"protocol \(1, \d+\)"),
        ("", "split", "val", r"split \(val, test\)"),
        ("recipe", "lr", 9.0, r"recipe\.lr \(9\.0, 0\.05\)"),
    ],
)
def test_run_with_another_benchmark_id_is_not_trained(
    section: str,
    field: str,
    value: object,
    difference: str,
    record: RunRecord,
    benchmark: Benchmark,
    trained: list[Run],
) -> None:
    old = record.definition
    definition = {**old, section: {**old[section], field: value}} if section else {**old, field: value}
    other = replace(record, definition=definition, benchmark_id=identify(definition))
    with pytest.raises(InputError, match=rf"benchmark id .* {other.benchmark_id}: {difference}$"):
        repeat(other, benchmark)
    assert trained == []


def test_conditions_that_differ(make_record: Make) -> None:
    before = make_record(versions={"torch": "2.9.0", "timm": "1.0"}, device="cpu (2 threads)", commit="")
    assert differing_conditions(before, before) == []
    after = replace(before, versions={"torch": "2.10.0", "timm": "1.0", "python": "3.11"}, commit="abc", top1=1.0)
    assert differing_conditions(before, after) == [
        "commit unknown, now abc",
        "python None, now 3.11",
        "torch 2.9.0, now 2.10.0",
    ]
    [difference] = differing_conditions(before, replace(before, nondeterministic_operator="put_"))
    assert "none, now put_" in difference
    other_device = replace(before, device="cpu (4 threads)")
    assert differing_conditions(before, other_device) == ["device cpu (2 threads), now cpu (4 threads)"]
