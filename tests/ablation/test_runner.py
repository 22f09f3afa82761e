import json
import shutil
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from ablation.analysis.records import collect
from ablation.analysis.verify import train_again
from ablation.plans.plan import parse_plan
from ablation.plans.pretrained import with_pretrained
from ablation.plans.row import Row
from ablation.runner import OverBudget, PlanRunner
from arch.errors import InputError
from arch.models import build
from arch.spec import parse
from benchmarks.budget.performance import Inference, Latency
from benchmarks.budget.verdict import ModelCost, PredictedHours, Speed, Throughput, Verdict
from benchmarks.datasets.prepare import prepare_dataset
from benchmarks.definition.benchmark import Benchmark, Budget
from benchmarks.definition.registry import get_benchmark
from benchmarks.execution.local import LocalExecutor
from benchmarks.execution.progress import Display, Progress
from benchmarks.records.paths import checkpoint_folder, run_file
from benchmarks.records.store import FailedRun, RecordStore, RunRecord
from benchmarks.runs.run import Run
from benchmarks.training.distillation import weights_digest
from benchmarks.training.tensor_file import read_tensors, write_tensors

SPEC = "baseline+drop_path=0.2"
DISTILLATION = "compare:resnet8+width=0.5,resnet8+width=0.5@teacher=(resnet8)"

BENCHMARK = """
name = "tiny"
baseline = "resnet8"
[data]
source = "digits"
num_classes = 10
image_size = 8
in_chans = 1
train_per_class = 20
test_per_class = 10
[recipe]
epochs = 2
batch_size = 50
lr = 0.05
warmup_epochs = 1
crop_padding = 1
flip = 0.0
[budget]
max_params = 200_000
max_hours = 0.5
"""


class RecordingDisplay(Display):
    """Records messages and progress instead of showing them."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []
        self.reports: list[Progress] = []

    def say(self, line: str) -> None:
        self.lines.append(line)

    def __call__(self, progress: Progress) -> None:
        self.reports.append(progress)


@dataclass(frozen=True)
class TrainedPlan:
    """A plan that was run, with its messages and progress."""

    runner: PlanRunner
    store: RecordStore
    display: RecordingDisplay


@pytest.fixture(scope="module")
def benchmark(cache_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Benchmark:
    file = tmp_path_factory.mktemp("benchmark") / "tiny.toml"
    file.write_text(BENCHMARK)
    return get_benchmark(str(file))


def make_runner(plan: str, benchmark: Benchmark, out: Path, seeds: int = 1) -> PlanRunner:
    parsed = parse_plan(plan, benchmark)
    return PlanRunner(
        parsed, range(seeds), benchmark, prepare_dataset(benchmark.data, None), "cpu", out, runs_per_device=1
    )


def open_store(out: Path) -> RecordStore:
    store = RecordStore(out)
    store.create()
    return store


def run(runner: PlanRunner) -> TrainedPlan:
    store, display = open_store(runner.out), RecordingDisplay()
    runner.run(store, display)
    return TrainedPlan(runner, store, display)


def make_verdicts(rows: Sequence[Row], benchmark: Benchmark) -> dict[str, Verdict]:
    """Return passing verdicts; each model needs more memory than the previous one."""
    speed, hours = Speed(100.0, 90.0, 110.0), PredictedHours(0.1, 0.1, 0.1)
    return {
        row.spec: Verdict(
            row.spec,
            benchmark.name,
            benchmark.budget,
            8,
            50,
            ModelCost(1000, 1000, macs_torch=1000),
            Throughput(speed, speed, 50, peak_memory=number),
            hours,
        )
        for number, row in enumerate(rows)
    }


@pytest.fixture
def without_check(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every row pass the budget check, and measure nothing."""
    monkeypatch.setattr(PlanRunner, "_check", lambda self, rows, num_runs, display: make_verdicts(rows, self.benchmark))


# Inference


@pytest.mark.parametrize("batch_size", [0, 64])
def test_inference_is_measured_on_request_and_recorded(
    batch_size: int, benchmark: Benchmark, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def call(executor: LocalExecutor, function: str, report: object, *arguments: Any) -> list[Inference]:
        calls.append((function.partition(":")[2], *arguments))
        return [inference for _ in arguments[0]]

    calls: list[tuple[object, ...]] = []
    latency = Latency(1, 100, 2.0, 1.5, None, 500.0)
    inference = Inference(latency, latency, 999, "fp32", "cpu", "2026")
    monkeypatch.setattr(LocalExecutor, "call", call)
    runner = replace(make_runner(SPEC, benchmark, tmp_path), inference_batch=batch_size)
    verdicts = list(make_verdicts(runner.rows, benchmark).values())
    specs = [row.spec for row in runner.rows]
    completed = runner._with_inference(verdicts, specs, RecordingDisplay())
    assert calls == ([("measure_specs", specs, benchmark, "cpu", 64)] if batch_size else [])
    runs = [runner._make_run(row, 0, verdict) for row, verdict in zip(runner.rows, completed, strict=True)]
    assert {run.inference for run in runs} == ({inference} if batch_size else {None})


# Training


@pytest.fixture(scope="module")
def trained(benchmark: Benchmark, tmp_path_factory: pytest.TempPathFactory) -> dict[int, TrainedPlan]:
    """Train the rows of SPEC with two seeds; return the trained plans by number of runs per device."""
    runner = make_runner(SPEC, benchmark, Path(), seeds=2)
    outs = {number: tmp_path_factory.mktemp(f"{number}-at-once") for number in (1, 2)}
    return {number: run(replace(runner, out=out, runs_per_device=number)) for number, out in outs.items()}


@pytest.mark.slow
def test_runs_that_share_the_device_give_the_same_numbers(trained: dict[int, TrainedPlan]) -> None:
    numbers: list[dict[str, dict[str, object]]] = []
    for runs_per_device, plan in trained.items():
        assert plan.store.failed_runs() == []
        records = plan.store.records()
        assert {(record.spec, record.seed) for record in records} == {
            (spec, seed) for spec in ("resnet8", "resnet8+drop_path=0.2") for seed in (0, 1)
        }
        assert {record.runs_per_device for record in records} == {runs_per_device}
        shares = [line for line in plan.display.lines if "share the device" in line]
        assert [line.split()[0] for line in shares] == (["2"] if runs_per_device == 2 else [])
        ends = [line.rpartition("(")[2] for line in plan.display.lines[-4:]]
        assert ends == [f"{number} of 4 runs)" for number in (1, 2, 3, 4)]
        assert list((plan.runner.out / "checkpoints").iterdir()) == []
        numbers.append({record.run_id: record.numbers() for record in records})
    assert numbers[0] == numbers[1]
    assert len({str(line) for line in numbers[0].values()}) == 4


@pytest.mark.slow
def test_the_progress_of_all_runs_is_one_bar(trained: dict[int, TrainedPlan]) -> None:
    plan = trained[2]
    epochs = [report for report in plan.display.reports if report.total == 4 * plan.runner.benchmark.recipe.epochs]
    done = [report.done for report in epochs]
    assert done == sorted(done)
    assert (done[0], done[-1]) == (0, epochs[-1].total)
    assert {report.task for report in epochs} == {
        f"{label} seed {seed} ({2 * seed + index}/4)"
        for seed in (0, 1)
        for index, label in enumerate(("baseline (resnet8)", "+drop_path=0.2"), start=1)
    }


@pytest.mark.slow
@pytest.mark.usefixtures("without_check")
def test_a_failed_run_does_not_stop_the_others(benchmark: Benchmark, tmp_path: Path) -> None:
    recipe = replace(benchmark.recipe, lr=1e30, warmup_epochs=0)
    runner = make_runner(SPEC, replace(benchmark, recipe=recipe), tmp_path)
    plan = run(replace(runner, runs_per_device=2))
    failed_runs = plan.store.failed_runs()
    assert {failed.spec for failed in failed_runs} == {"resnet8", "resnet8+drop_path=0.2"}
    assert sum(" seed 0 failed: " in line for line in plan.display.lines) == 2
    assert all("the loss is" in failed.reason and "Traceback" in failed.details for failed in failed_runs)
    assert plan.store.records() == []


class RestoringDisplay(RecordingDisplay):
    """Renames a folder, and restores its name as soon as a run has failed."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder, self.away = folder, folder.with_suffix(".away")
        folder.rename(self.away)

    def say(self, line: str) -> None:
        super().say(line)
        if " failed: " in line:
            self.away.rename(self.folder)


@pytest.mark.slow
@pytest.mark.usefixtures("without_check")
def test_missing_images_fail_their_run_only_and_the_next_command_trains_it(
    benchmark: Benchmark, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    runner, store = make_runner(SPEC, benchmark, tmp_path / "out"), open_store(tmp_path / "out")
    runner.run(store, RestoringDisplay(runner.data.folder))
    [failed] = store.failed_runs()
    assert (failed.spec, failed.seed, failed.benchmark_id) == ("resnet8", 0, runner.benchmark_id)
    assert str(runner.data.folder) in failed.reason
    assert [record.spec for record in store.records()] == ["resnet8+drop_path=0.2"]
    assert failed.run_id in {record.run_id for record in run(runner).store.records()}
    assert runner.missing(store) == []


@pytest.mark.usefixtures("without_check")
def test_a_run_over_its_time_limit_has_failed(benchmark: Benchmark, tmp_path: Path) -> None:
    plan = run(replace(make_runner(SPEC, benchmark, tmp_path), time_limit=0.0))
    failed_runs = plan.store.failed_runs()
    assert [failed.spec for failed in failed_runs] == ["resnet8", "resnet8+drop_path=0.2"]
    assert all("time limit of 0:00:00" in failed.reason for failed in failed_runs)
    assert plan.store.records() == []


# Decisions before training


@pytest.fixture
def executed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[list[Run], float]]:
    """Replace `execute_runs`, and return the list of the runs and the time limit of each call."""
    calls: list[tuple[list[Run], float]] = []
    monkeypatch.setattr(
        "ablation.runner.execute_runs", lambda runs, executor, limit, *_: calls.append((list(runs), limit))
    )
    return calls


@pytest.mark.usefixtures("without_check")
def test_the_runs_per_device_are_measured_with_the_model_that_needs_most_memory(
    benchmark: Benchmark, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, executed: list[tuple[list[Run], float]]
) -> None:
    measured: list[tuple[str, int, int]] = []

    def best_runs_per_device(run: Run, verdict: Verdict, num_runs: int, report: object) -> int:
        measured.append((run.spec, run.seed, num_runs))
        return 3

    monkeypatch.setattr("ablation.runner.best_runs_per_device", best_runs_per_device)
    run(replace(make_runner(SPEC, benchmark, tmp_path, seeds=2), runs_per_device=None))
    assert measured == [("resnet8+drop_path=0.2", 0, 4)]
    [(runs, _)] = executed
    assert [run.runs_per_device for run in runs] == [3] * 4


@pytest.mark.usefixtures("without_check")
def test_the_default_time_limit_follows_from_the_longest_prediction_and_the_runs_per_device(
    benchmark: Benchmark, tmp_path: Path, executed: list[tuple[list[Run], float]]
) -> None:
    runner = make_runner(SPEC, benchmark, tmp_path)
    for time_limit, runs_per_device in ((None, 1), (None, 3), (7.0, 3)):
        run(replace(runner, time_limit=time_limit, runs_per_device=runs_per_device))
    alone, shared, given = (limit for _, limit in executed)
    assert shared - alone == pytest.approx(2 * 5 * 0.1 * 3600)  # five times the predicted hours
    assert given == 7.0


def test_recorded_runs_are_not_trained_and_torn_lines_are_reported_first(
    benchmark: Benchmark, tmp_path: Path, make_record: Callable[..., RunRecord]
) -> None:
    runner, store = make_runner(SPEC, benchmark, tmp_path), open_store(tmp_path)
    for row in runner.rows:
        store.append(make_record(key=row.key, benchmark_id=runner.benchmark_id))
    leftover = checkpoint_folder(tmp_path, store.records()[0].run_id)
    leftover.mkdir(parents=True)
    failed = FailedRun("resnet8", "0", 0, "0", SPEC, "by nothing", "", "2026-01-01T00:00:00+00:00")
    store.append(failed)
    torn = tmp_path / "failed_runs.jsonl"
    torn.write_bytes(torn.read_bytes() + b'{"spec": "res')
    plan = run(runner)
    [warning] = plan.display.lines
    assert warning.startswith("warning: ")
    assert str(torn) in warning
    assert store.failed_runs() == [failed]
    assert not leftover.exists()


class FailingCheck(LocalExecutor):
    """Returns verdicts over the budget."""

    def call(self, function: str, on_progress: object, *args: Any, time_limit: float | None = None) -> Any:
        assert function == "benchmarks.budget.check:check_specs"
        specs, benchmark, _, counts = args
        assert counts == (200, 100)
        cost = ModelCost(1000, 1000, macs_torch=1000)
        return [Verdict(spec, benchmark.name, benchmark.budget, 8, 50, cost, problems=("too slow",)) for spec in specs]


class RecordingCheck(LocalExecutor):
    """Records the names of the called functions, and stops at the budget check."""

    def __init__(self) -> None:
        self.functions: list[str] = []

    def call(self, function: str, on_progress: object, *args: Any, time_limit: float | None = None) -> Any:
        self.functions.append(function.rpartition(":")[2])
        if function.endswith(":check_specs"):
            raise OverBudget([])


@pytest.mark.parametrize("remeasure", [False, True])
def test_measurements_are_deleted_before_the_check_if_asked_for(
    remeasure: bool, benchmark: Benchmark, tmp_path: Path
) -> None:
    executor = RecordingCheck()
    with pytest.raises(OverBudget):
        run(replace(make_runner("compare:resnet8", benchmark, tmp_path), executor=executor, remeasure=remeasure))
    assert executor.functions == ["delete_measurements"] * remeasure + ["check_specs"]


def test_rows_over_the_budget_prevent_all_runs(benchmark: Benchmark, tmp_path: Path) -> None:
    with pytest.raises(OverBudget, match=r"resnet8: too slow; resnet8\+se: too slow") as raised:
        run(replace(make_runner("compare:resnet8,resnet8+se", benchmark, tmp_path), executor=FailingCheck()))
    assert [verdict.model for verdict in raised.value.verdicts] == ["resnet8", "resnet8+se"]
    assert open_store(tmp_path).records() == []


@pytest.mark.parametrize(
    ("plan", "noted"),
    [
        ("compare:timm/resnet18.a1_in1k", True),
        ("compare:resnet8,resnet8@teacher=(timm/resnet18.a1_in1k)", True),
        ("compare:timm/resnet18", False),
        ("compare:timm/resnet18.a1_in1k,timm/resnet18.a1_in1k@init=0123456789abcdef@epochs=2", False),
    ],
)
def test_a_tag_whose_weights_are_not_used_is_noted(
    plan: str, noted: bool, benchmark: Benchmark, tmp_path: Path
) -> None:
    display = RecordingDisplay()
    runner = make_runner(plan, benchmark, tmp_path)
    runner._announce(runner.missing(open_store(tmp_path)), [], [], display)
    notes = [line for line in display.lines if "random weights" in line]
    assert (
        notes
        == ["timm/resnet18 starts from random weights: add @init=hub to start from those of its tag a1_in1k"] * noted
    )


def test_subsets_with_the_same_images_are_rejected(benchmark: Benchmark, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"resnet8 1/2 and resnet8 51/100 .* the same 100 images"):
        run(make_runner("datasize(0.5,0.51,1):resnet8", benchmark, tmp_path))


def test_a_subset_that_fills_no_batch_is_rejected(benchmark: Benchmark, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^resnet8 1/10: 20 training images .* 50$"):
        run(make_runner("datasize(1/10,1):resnet8", benchmark, tmp_path))


def test_a_path_that_returns_to_a_row_trains_it_once(benchmark: Benchmark, tmp_path: Path) -> None:
    runner = make_runner("baseline+se-se", benchmark, tmp_path)
    runner._check_images(runner.rows)  # does not raise an error
    assert [row.spec for row, _ in runner.missing(open_store(tmp_path))] == ["resnet8", "resnet8+se"]


@pytest.mark.slow
def test_a_model_that_cannot_take_the_images_is_rejected_with_an_alternative(
    benchmark: Benchmark, tmp_path: Path
) -> None:
    large = replace(benchmark, budget=Budget(100_000_000))
    with pytest.raises(InputError, match=r"images of 8 pixels .*timm/vgg11/PIXELS"):
        run(make_runner("compare:timm/vgg11", large, tmp_path))


def test_weights_of_another_model_are_rejected_before_any_training(benchmark: Benchmark, tmp_path: Path) -> None:
    other = tmp_path / "other.safetensors"
    write_tensors(other, build(parse("resnet20").variant(), 10, 1).state_dict(), {})
    unresolved = parse_plan(f"compare:resnet8,resnet8@init={other}", benchmark)
    plan = with_pretrained(unresolved, tmp_path)
    with pytest.raises(InputError, match="does not fit"):
        run(replace(make_runner("resnet8", benchmark, tmp_path), plan=plan))
    assert open_store(tmp_path).records() == []


# Teachers


def test_teachers_precede_their_students_whether_they_are_rows_or_not(benchmark: Benchmark, tmp_path: Path) -> None:
    chain = "resnet8@teacher=(resnet8+width=0.5@teacher=(resnet8))"
    runner = make_runner(f"{DISTILLATION},{chain},resnet8", benchmark, tmp_path, seeds=2)
    missing = runner.missing(open_store(tmp_path))
    assert [(row.label, row.config.dependency_depth) for row, seed in missing if seed == 0] == [
        ("resnet8+width=0.5", 0),
        ("@teacher=(resnet8)", 1),
        (chain, 2),
        ("resnet8", 0),
    ]
    alone = make_runner(f"compare:{chain}", benchmark, tmp_path).missing(open_store(tmp_path))
    assert [row.label for row, _ in alone] == ["resnet8", "resnet8+width=0.5@teacher=(resnet8)", chain]


@pytest.fixture(scope="module")
def distilled(benchmark: Benchmark, tmp_path_factory: pytest.TempPathFactory) -> TrainedPlan:
    """Return a trained plan with a teacher and its student. Tests must not change its folder."""
    return run(make_runner(DISTILLATION, benchmark, tmp_path_factory.mktemp("distilled")))


@pytest.fixture
def distilled_copy(distilled: TrainedPlan, tmp_path: Path) -> Path:
    return Path(shutil.copytree(distilled.runner.out, tmp_path / "out"))


@pytest.mark.slow
def test_a_student_learns_from_its_trained_teacher(distilled: TrainedPlan) -> None:
    records = {record.spec: record for record in distilled.store.records()}
    assert set(records) == {"resnet8", "resnet8+width=0.5", "resnet8+width=0.5@teacher=(resnet8)"}
    assert distilled.store.failed_runs() == []
    student, teacher = records["resnet8+width=0.5@teacher=(resnet8)"], records["resnet8"]
    model = build(parse("resnet8").variant(), 10, 1)
    model.load_state_dict(read_tensors(run_file(distilled.runner.out, "weights", teacher.name))[0])
    assert student.overrides == {
        "teacher": "resnet8",
        "teacher_key": teacher.key,
        "teacher_weights": weights_digest(model),
    }
    assert student.numbers() != records["resnet8+width=0.5"].numbers()
    assert student.params == records["resnet8+width=0.5"].params


@pytest.mark.slow
@pytest.mark.usefixtures("without_check")
@pytest.mark.parametrize("is_damaged", [False, True])
def test_a_teacher_whose_weights_are_lost_is_trained_again(
    is_damaged: bool, distilled: TrainedPlan, distilled_copy: Path, benchmark: Benchmark
) -> None:
    complete = run(replace(distilled.runner, out=distilled_copy))
    assert len(complete.store.records()) == 3  # nothing was trained again
    [teacher] = [record for record in complete.store.records() if record.spec == "resnet8"]
    weights = run_file(distilled_copy, "weights", teacher.name)
    before = weights.read_bytes()
    weights.unlink()
    if is_damaged:
        weights.write_bytes(before[:1000])
    plan = run(make_runner(f"{DISTILLATION},resnet8@teacher=(resnet8)", benchmark, distilled_copy))
    assert any(line.startswith("resnet8 seed 0 is trained again") for line in plan.display.lines)
    assert weights.read_bytes() == before
    assert plan.store.failed_runs() == []
    assert len(plan.store.records()) == 4


@pytest.mark.slow
@pytest.mark.usefixtures("without_check")
def test_a_repeated_teacher_has_the_compile_mode_of_its_record_and_a_different_result_is_reported(
    distilled: TrainedPlan, distilled_copy: Path, benchmark: Benchmark
) -> None:
    path = distilled_copy / "records.jsonl"
    [teacher] = [record for record in distilled.store.records() if record.spec == "resnet8"]
    records = [record for record in distilled.store.records() if record != teacher]
    path.unlink()
    store = RecordStore(distilled_copy)
    for record in [replace(teacher, compile_mode="cuda_graphs", top1=99.0), *records]:
        store.append(record)
    run_file(distilled_copy, "weights", teacher.name).unlink()
    plan = run(make_runner(f"{DISTILLATION},resnet8@teacher=(resnet8)", benchmark, distilled_copy))
    [kept] = [record for record in plan.store.records() if record.spec == "resnet8"]
    repeated = next(record for record in map(json.loads, path.read_text().splitlines()) if record["compile_failure"])
    assert (kept.top1, repeated["top1"], repeated["spec"]) == (99.0, teacher.top1, "resnet8")
    assert repeated["compile_failure"].startswith("compile mode cuda_graphs failed")  # on a CPU
    assert any(
        "resnet8 seed 0 has a different result than in its record (top-1 99.00)" in line for line in plan.display.lines
    )


CARRIED = "datasize(1/4,1/2,1,drawn,carried):resnet8+width=0.25"


@pytest.mark.usefixtures("without_check")
def test_a_carried_study_trains_each_fraction_after_the_next_smaller_one(benchmark: Benchmark, tmp_path: Path) -> None:
    recipe = replace(benchmark.recipe, batch_size=25)
    complete = run(make_runner(CARRIED, replace(benchmark, recipe=recipe), tmp_path))
    records = {record.spec: record for record in complete.store.records()}
    rows = complete.runner.rows
    assert complete.store.failed_runs() == []
    assert list(records) == [row.spec for row in rows]
    smallest, middle, _, carried, largest = (records[row.spec] for row in rows)
    assert largest.overrides["initial_run_key"] == carried.key
    assert carried.overrides["initial_run_key"] == smallest.key
    assert carried.train_digest == middle.train_digest != smallest.train_digest
    run_file(tmp_path, "weights", smallest.name).unlink()
    run_file(tmp_path, "weights", carried.name).unlink()
    complete.store.remove({largest.run_id})
    again = run(complete.runner)
    assert sum("is trained again" in line for line in again.display.lines) == 2
    repeated = {record.spec: record for record in again.store.records()}
    assert repeated[largest.spec].numbers() == largest.numbers()
    assert repeated[largest.spec].overrides == largest.overrides
    assert repeated[largest.spec].train_digest == largest.train_digest


@pytest.mark.parametrize(("fractions", "is_rejected"), [("0.9999,1,drawn", True), ("1/2,0.51,drawn", True),
                                                        ("1/2,1,drawn", False)])  # fmt: skip
def test_drawn_fractions_with_equal_subsets_are_rejected(
    fractions: str, is_rejected: bool, benchmark: Benchmark, tmp_path: Path
) -> None:
    runner = make_runner(f"datasize({fractions}):resnet8", benchmark, tmp_path)
    with pytest.raises(InputError, match="on the same") if is_rejected else nullcontext():
        runner._check_images(runner.rows)


def test_the_checkpoint_of_a_teacher_that_is_trained_again_is_kept(
    benchmark: Benchmark, tmp_path: Path, make_record: Callable[..., RunRecord], monkeypatch: pytest.MonkeyPatch
) -> None:
    runner, store = make_runner(DISTILLATION, benchmark, tmp_path), open_store(tmp_path)
    fields = {"benchmark": benchmark.name, "benchmark_id": runner.benchmark_id}
    teacher, student = make_record("resnet8", **fields), make_record("resnet8+width=0.5", **fields)
    for record in (teacher, student):
        store.append(record)
        checkpoint_folder(tmp_path, record.run_id).mkdir(parents=True)

    def reject(*_: object) -> None:
        raise InputError("no further")

    monkeypatch.setattr(PlanRunner, "_check", reject)
    with pytest.raises(InputError, match="no further"):
        run(runner)
    assert checkpoint_folder(tmp_path, teacher.run_id).exists()  # the teacher's weights are missing
    assert not checkpoint_folder(tmp_path, student.run_id).exists()


@pytest.mark.slow
def test_training_a_student_again_gives_identical_numbers(
    distilled: TrainedPlan, distilled_copy: Path, benchmark: Benchmark
) -> None:
    runner = replace(distilled.runner, out=distilled_copy)
    row = runner.rows[-1]
    [record] = [record for record in distilled.store.records() if record.key == row.key]
    recorded = collect(open_store(distilled_copy), runner.plan, benchmark, runner.benchmark_id)
    again = train_again(record, recorded, None, "cpu", RecordingDisplay())
    assert again.numbers() == record.numbers()
    [teacher] = [record for record in distilled.store.records() if record.spec == "resnet8"]
    run_file(distilled_copy, "weights", teacher.name).unlink()
    with pytest.raises(InputError, match=f"resnet8_seed0_{teacher.key}"):
        train_again(record, recorded, None, "cpu", RecordingDisplay())
