import errno
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from ablation.analysis.verify import train_again
from ablation.plans.plan import path, read_plan
from ablation.plans.pretrained import with_pretrained
from ablation.runner import PlanRunner
from arch.errors import InputError
from arch.models import build
from arch.spec import parse
from benchmarks.datasets.cache import prepare
from benchmarks.definition.benchmark import Benchmark, Budget, get_benchmark
from benchmarks.execution import local
from benchmarks.execution.progress import Display, Progress
from benchmarks.records.paths import checkpoint_folder, kept_file
from benchmarks.records.store import FailedRun, RecordStore, RunRecord, make_run_id
from benchmarks.runs.run import PATIENCE, START_SECONDS, Run, record_outcome
from benchmarks.training.checkpoint import read_tensors, write_tensors
from benchmarks.training.distillation import weights_digest

SPEC = "baseline+drop_path=0.2"


class Quiet(Display):
    """Remembers what it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []
        self.told: list[Progress] = []

    def say(self, line: str) -> None:
        self.said.append(line)

    def __call__(self, progress: Progress) -> None:
        self.told.append(progress)


@pytest.fixture
def benchmark(tiny: Path) -> Benchmark:
    return get_benchmark(str(tiny))


def study(benchmark: Benchmark, out: Path, runs_per_device: int | None, seeds: int = 2) -> PlanRunner:
    rows = path(SPEC, benchmark)
    return PlanRunner(SPEC, rows, seeds, benchmark, prepare(benchmark.data, None), "cpu", out, runs_per_device)


def store(out: Path) -> RecordStore:
    records = RecordStore(out)
    records.create()
    return records


@pytest.mark.slow
def test_side_by_side_the_numbers_are_those_of_one_after_the_other(benchmark: Benchmark, tmp_path: Path) -> None:
    found: list[dict[str, dict[str, object]]] = []
    for count in (1, 2):
        out, display = tmp_path / str(count), Quiet()
        study(benchmark, out, count).carry_out(store(out), display)
        assert store(out).failures() == []
        results = store(out).results()
        assert {(result.spec, result.seed) for result in results} == {
            (spec, seed) for spec in ("resnet8", "resnet8+drop_path=0.2") for seed in (0, 1)
        }
        assert {result.runs_per_device for result in results} == {count}
        assert ("2 trainings share the device" in display.said) is (count == 2)
        assert [line.rpartition("(")[2] for line in display.said[-4:]] == [f"{n} of 4 runs)" for n in (1, 2, 3, 4)]
        assert list((out / "checkpoints").iterdir()) == []
        found.append({result.run_id: result.numbers() for result in results})
    assert found[0] == found[1]
    assert len({str(line) for line in found[0].values()}) == 4


@pytest.mark.slow
def test_the_progress_of_all_runs_is_one_bar(benchmark: Benchmark, tmp_path: Path) -> None:
    display = Quiet()
    study(benchmark, tmp_path, 2).carry_out(store(tmp_path), display)
    epochs = [progress for progress in display.told if progress.total == 4 * benchmark.recipe.epochs]
    done = [progress.done for progress in epochs]
    assert done == sorted(done)
    assert (done[0], done[-1]) == (0, epochs[-1].total)
    assert {progress.task for progress in epochs} == {
        f"{label} seed {seed} ({2 * seed + place + 1}/4)"
        for seed in (0, 1)
        for place, label in enumerate(("baseline (resnet8)", "+drop_path=0.2"))
    }


@pytest.mark.slow
def test_one_of_two_side_by_side_that_fails_does_not_stop_the_other(benchmark: Benchmark, tmp_path: Path) -> None:
    recipe = replace(benchmark.recipe, lr=1e30, warmup_epochs=0)
    failing, display = replace(benchmark, recipe=recipe), Quiet()
    study(failing, tmp_path, 2, seeds=1).carry_out(store(tmp_path), display)
    failures = store(tmp_path).failures()
    assert {failure.spec for failure in failures} == {"resnet8", "resnet8+drop_path=0.2"}
    assert sum(" seed 0 failed: " in line for line in display.said) == 2
    assert all("the loss is" in failure.reason and "Traceback" in failure.details for failure in failures)
    assert store(tmp_path).results() == []


@pytest.mark.slow
def test_without_a_number_as_many_share_the_device_as_measuring_says(
    benchmark: Benchmark, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[Run, int]] = []

    def best_number(run: Run, verdict: object, runs: int, report: object) -> int:
        asked.append((run, runs))
        return 3

    used: list[tuple[int, set[int]]] = []

    def call_each(
        function: str, arguments: list[tuple[Run]], runs_per_device: int, report: object, time_limit: float
    ) -> Iterator[object]:
        used.append((runs_per_device, {run.runs_per_device for (run,) in arguments}))
        yield from ()

    monkeypatch.setattr("ablation.runner.best_number", best_number)
    verdicts = study(benchmark, tmp_path, 1)._check(path(SPEC, benchmark), Quiet())
    monkeypatch.setattr(PlanRunner, "_check", lambda *_: verdicts)
    monkeypatch.setattr(local, "call_each", call_each)
    study(benchmark, tmp_path, None).carry_out(store(tmp_path), Quiet())
    peaks = {spec: verdict.throughput.peak_memory or 0 for spec, verdict in verdicts.items() if verdict.throughput}
    assert [(run.spec, run.seed, runs) for run, runs in asked] == [(max(peaks, key=peaks.__getitem__), 0, 4)]
    assert used == [(3, {3})]


class Returning(Quiet):
    """Brings a folder back as soon as a run has failed."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder

    def let_go(self, *args: object) -> int:
        """In place of what comes between the check and the first run."""
        self.folder.rename(self.folder.with_suffix(".away"))
        return 1

    def say(self, line: str) -> None:
        super().say(line)
        if " failed: " in line:
            self.folder.with_suffix(".away").rename(self.folder)


@pytest.mark.slow
def test_images_that_are_gone_in_the_middle_fail_their_row_alone_and_the_next_run_makes_it_good(
    benchmark: Benchmark, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    carried, records = study(benchmark, tmp_path / "out", 1, seeds=1), store(tmp_path / "out")
    display = Returning(carried.data.folder)
    with monkeypatch.context() as patch:
        patch.setattr(PlanRunner, "_side_by_side", display.let_go)
        carried.carry_out(records, display)
    [failure] = records.failures()
    assert (failure.spec, failure.seed, failure.benchmark_id) == ("resnet8", 0, carried.benchmark_id)
    assert f"the cached images in {carried.data.folder} are gone: the same command decodes them anew" in failure.reason
    assert [result.spec for result in records.results()] == ["resnet8+drop_path=0.2"]
    carried.carry_out(records, Quiet())
    assert failure.run_id in {result.run_id for result in records.results()}
    assert carried.missing(records) == []


@pytest.mark.slow
def test_a_run_over_its_time_limit_is_a_failure(benchmark: Benchmark, tmp_path: Path) -> None:
    hurried, display = replace(study(benchmark, tmp_path, 1, seeds=1), time_limit=0.0), Quiet()
    hurried.carry_out(store(tmp_path), display)
    failures = store(tmp_path).failures()
    assert [failure.spec for failure in failures] == ["resnet8", "resnet8+drop_path=0.2"]
    assert {failure.reason for failure in failures} == {"it was ended after its time limit of 0:00:00"}
    assert store(tmp_path).results() == []


def test_the_time_limit_follows_from_the_longest_prediction_and_from_what_shares_the_device(
    benchmark: Benchmark, tmp_path: Path
) -> None:
    carried = study(benchmark, tmp_path, None)
    row = carried.rows[0]
    runs = [Run(row.config, benchmark, 0, carried.data, "cpu", tmp_path, SPEC, 1, 1, hours) for hours in (0.5, 2.0)]
    assert carried._time_limit(runs, 3) == START_SECONDS + PATIENCE * 2 * 3600 * 3
    assert replace(carried, time_limit=7.0)._time_limit(runs, 3) == 7.0


def test_a_torn_line_is_told_of_before_anything_else_and_what_is_recorded_needs_no_training(
    benchmark: Benchmark, tmp_path: Path, make_result: Callable[..., RunRecord]
) -> None:
    carried, records, display = study(benchmark, tmp_path, 1, seeds=1), store(tmp_path), Quiet()
    for row in carried.rows:
        records.append(make_result(key=row.key, benchmark_id=carried.benchmark_id))
    left = tmp_path / "checkpoints" / records.results()[0].run_id
    left.mkdir(parents=True)
    failure = FailedRun("resnet8", "0", 0, "0", SPEC, "by nothing", "", "2026-01-01T00:00:00+00:00")
    records.append(failure)
    torn = tmp_path / "failures.jsonl"
    torn.write_bytes(torn.read_bytes() + b'{"spec": "res')
    carried.carry_out(records, display)
    said = f"warning: the last line of {torn} was cut off in the middle of a write: its run goes on"
    assert display.said == [said]
    assert records.failures() == [failure]
    assert not left.exists()


@pytest.mark.parametrize("refusals", [0, 1, 2])
def test_on_a_full_disk_a_result_takes_the_room_of_its_checkpoint(
    refusals: int,
    benchmark: Benchmark,
    tmp_path: Path,
    make_result: Callable[..., RunRecord],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    carried, records = study(benchmark, tmp_path, 1), store(tmp_path)
    [row, _] = carried.rows
    run = Run(row.config, benchmark, 0, carried.data, "cpu", tmp_path, SPEC, 1, 1, 0.1)
    run.checkpoint.mkdir(parents=True)
    append, refused = RecordStore.append, list[bool]()

    def refuse_first(self: RecordStore, record: RunRecord) -> None:
        if len(refused) < refusals:
            refused.append(run.checkpoint.exists())
            raise OSError(errno.ENOSPC, "No space left on device")
        append(self, record)

    monkeypatch.setattr(RecordStore, "append", refuse_first)
    if refusals == 2:
        with pytest.raises(OSError, match="No space left"):
            record_outcome(records, run, make_result())
    else:
        record_outcome(records, run, make_result())
        assert records.results() == [make_result()]
    assert refused == [True, False][:refusals]
    assert not run.checkpoint.exists()


TAUGHT = "compare:resnet8+width=0.5,resnet8+width=0.5@teacher=(resnet8)"


def of_plan(plan: str, benchmark: Benchmark, out: Path, seeds: int = 1) -> PlanRunner:
    return PlanRunner(plan, read_plan(plan, benchmark), seeds, benchmark, prepare(benchmark.data, None), "cpu", out, 1)


def test_a_teacher_is_trained_before_its_students_whether_it_is_a_row_or_not(
    benchmark: Benchmark, tmp_path: Path
) -> None:
    again = "resnet8@teacher=(resnet8+width=0.5@teacher=(resnet8))"
    missing = of_plan(f"{TAUGHT},{again},resnet8", benchmark, tmp_path, seeds=2).missing(store(tmp_path))
    assert [(row.label, row.config.generation) for row, seed in missing if seed == 0] == [
        ("resnet8+width=0.5", 0),
        ("@teacher=(resnet8)", 1),
        (again, 2),
        ("resnet8", 0),
    ]
    alone = of_plan(f"compare:{again}", benchmark, tmp_path).missing(store(tmp_path))
    assert [row.label for row, _ in alone] == ["resnet8", "resnet8+width=0.5@teacher=(resnet8)", again]


@pytest.mark.slow
def test_a_student_learns_from_what_its_teacher_has_left(benchmark: Benchmark, tmp_path: Path) -> None:
    plan, display = of_plan(TAUGHT, benchmark, tmp_path), Quiet()
    plan.carry_out(store(tmp_path), display)
    results = {result.spec: result for result in store(tmp_path).results()}
    assert set(results) == {"resnet8", "resnet8+width=0.5", "resnet8+width=0.5@teacher=(resnet8)"}
    assert store(tmp_path).failures() == []
    student, teacher = results["resnet8+width=0.5@teacher=(resnet8)"], results["resnet8"]
    net = build(parse("resnet8").variant(), 10, 1)
    weights = kept_file(tmp_path, "weights", teacher.run_id)
    net.load_state_dict(read_tensors(weights)[0])
    assert student.overrides == {
        "teacher": "resnet8",
        "teacher_key": teacher.key,
        "teacher_weights": weights_digest(net),
    }
    assert student.numbers() != results["resnet8+width=0.5"].numbers()
    assert student.params == results["resnet8+width=0.5"].params

    plan.carry_out(store(tmp_path), display)  # nothing is left to do
    assert len(store(tmp_path).results()) == 3
    before = weights.read_bytes()
    weights.unlink()
    more = of_plan(f"{TAUGHT},resnet8@teacher=(resnet8)", benchmark, tmp_path)
    more.carry_out(store(tmp_path), display)
    assert "resnet8 seed 0 is trained again: others learn from its weights, which are gone" in display.said
    assert weights.read_bytes() == before
    assert store(tmp_path).failures() == []
    assert len(store(tmp_path).results()) == 4


def test_what_a_teacher_that_is_trained_again_has_reached_is_kept(
    benchmark: Benchmark, tmp_path: Path, make_result: Callable[..., RunRecord], monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = of_plan(TAUGHT, benchmark, tmp_path)
    of_plan_id = {"benchmark": benchmark.name, "benchmark_id": plan.benchmark_id}
    teacher, student = make_result("resnet8", **of_plan_id), make_result("resnet8+width=0.5", **of_plan_id)
    for result in (teacher, student):
        store(tmp_path).append(result)
        checkpoint_folder(tmp_path, result.run_id).mkdir(parents=True)

    def refuse(*_: object) -> None:
        raise InputError("no further")

    monkeypatch.setattr(PlanRunner, "_check", refuse)
    with pytest.raises(InputError, match="no further"):
        plan.carry_out(store(tmp_path), Quiet())
    assert checkpoint_folder(tmp_path, teacher.run_id).exists()  # its weights are gone
    assert not checkpoint_folder(tmp_path, student.run_id).exists()


@pytest.mark.slow
def test_a_record_of_a_student_is_made_again_to_the_bit(benchmark: Benchmark, tmp_path: Path) -> None:
    plan = of_plan(TAUGHT, benchmark, tmp_path / "runs")
    plan.carry_out(store(tmp_path / "runs"), Quiet())
    row = plan.rows[-1]
    [record] = [result for result in store(tmp_path / "runs").results() if result.key == row.key]
    again = train_again(record, row, benchmark, None, tmp_path / "runs", "cpu", Quiet())
    assert again.numbers() == record.numbers()
    (
        tmp_path
        / "runs"
        / "weights"
        / f"{make_run_id(parse('resnet8').variant().key(), 0, plan.benchmark_id)}.safetensors"
    ).unlink()
    with pytest.raises(InputError, match=r"the weights that .* learns from are gone"):
        train_again(record, row, benchmark, None, tmp_path / "runs", "cpu", Quiet())


def test_two_parts_of_the_same_images_are_one_too_many(benchmark: Benchmark, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"resnet8 1/2 and resnet8 51/100 learn from the same 100 images: leave one"):
        of_plan("datasize(0.5,0.51,1):resnet8", benchmark, tmp_path).carry_out(store(tmp_path), Quiet())


def test_a_path_that_comes_back_has_one_row_twice_and_trains_it_once(benchmark: Benchmark, tmp_path: Path) -> None:
    plan = of_plan("baseline+se-se", benchmark, tmp_path)
    plan._check_images(plan.rows)  # nothing to refuse
    assert [row.spec for row, _ in plan.missing(store(tmp_path))] == ["resnet8", "resnet8+se"]


def test_a_model_that_cannot_take_the_images_says_how_it_could(benchmark: Benchmark, tmp_path: Path) -> None:
    wide = replace(benchmark, budget=Budget(100_000_000))
    with pytest.raises(InputError, match=r"cannot take images of 8 pixels .*: timm/vgg11/PIXELS resizes them"):
        of_plan("compare:timm/vgg11", wide, tmp_path).carry_out(store(tmp_path), Quiet())


def test_a_part_of_the_images_that_fills_no_batch_is_refused_by_its_row(benchmark: Benchmark, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"resnet8 1/10: 20 training images do not fill one batch of 50"):
        of_plan("datasize(1/10,1):resnet8", benchmark, tmp_path).carry_out(store(tmp_path), Quiet())


@pytest.mark.slow
def test_weights_of_another_net_are_refused_before_any_training(benchmark: Benchmark, tmp_path: Path) -> None:
    other = tmp_path / "other.safetensors"
    write_tensors(other, build(parse("resnet20").variant(), 10, 1).state_dict(), {})
    plan = with_pretrained(f"compare:resnet8,resnet8@init={other}", tmp_path)
    with pytest.raises(InputError, match=r"does not fit this net: .* not of it"):
        of_plan(plan, benchmark, tmp_path).carry_out(store(tmp_path), Quiet())
    assert store(tmp_path).results() == []
