import re
from collections.abc import Callable
from dataclasses import replace

import pytest
from torch import nn

from benchmarks.budget.builders import Builder
from benchmarks.budget.counting import check_cost
from benchmarks.budget.throughput import DoesNotFit
from benchmarks.budget.timing import TimedTraining, add_timing, hours_by_architecture, modes_to_try, try_modes
from benchmarks.budget.verdict import ModelCost, PredictedHours, Speed, Throughput, Verdict
from benchmarks.definition.benchmark import Benchmark, Budget
from benchmarks.definition.config_parser import read_run_config
from benchmarks.execution.device import device_name
from benchmarks.training.compile_mode import COMPILED_MODES, CompileMode

IMAGE_COUNTS = (80, 50)
EXPECTED_SECONDS = 2 * (64 / 64.0 + 50 / 100.0)  # 2 epochs of 2 batches of 32 images, at the fixture's throughput
LOW_SECONDS = 2 * (64 / 70.0 + 50 / 110.0)
HIGH_SECONDS = 2 * (64 / 60.0 + 50 / 90.0)

Time = Callable[..., Verdict]


def with_hours(benchmark: Benchmark, max_hours: float = 1.0) -> Benchmark:
    return replace(benchmark, budget=Budget(200_000, max_hours))


@pytest.fixture
def time_linear(tiny: Benchmark, linear: Builder) -> Time:
    """Return a function that checks and times a model with the given limit on training hours."""

    def time(max_hours: float = 1.0) -> Verdict:
        benchmark = with_hours(tiny, max_hours)
        counted = check_cost("mine", linear, benchmark, "cpu")
        return add_timing(counted, TimedTraining(linear, benchmark, "cpu", IMAGE_COUNTS))

    return time


def set_throughputs(monkeypatch: pytest.MonkeyPatch, *throughputs: Throughput) -> list[Throughput]:
    """Make successive measurements return the given throughputs, and return the list of unused ones."""
    remaining = [*throughputs]
    monkeypatch.setattr("benchmarks.budget.timing.measure_throughput", lambda *_: remaining.pop(0))
    return remaining


@pytest.mark.usefixtures("timed_models")
def test_throughput_and_hours_are_added(time_linear: Time, throughput: Throughput) -> None:
    verdict = time_linear()
    assert verdict.throughput == throughput
    assert verdict.hours is not None
    assert verdict.hours.predicted == pytest.approx(EXPECTED_SECONDS / 3600)
    assert verdict.hours.low == pytest.approx(LOW_SECONDS / 3600)
    assert verdict.hours.high == pytest.approx(HIGH_SECONDS / 3600)


@pytest.mark.usefixtures("timed_models")
def test_hours_over_the_limit_are_named(time_linear: Time) -> None:
    verdict = time_linear(0.0005)
    assert verdict.problems == (f"3 s predicted on {device_name('cpu')} > 2 s",)
    assert verdict.conclusion == f"OVER: {verdict.problems[0]}"


@pytest.mark.usefixtures("timed_models")
@pytest.mark.parametrize(("factor", "passed"), [(0.999, False), (1.001, True)])
def test_hours_exceed_the_limit_if_their_whole_interval_does(time_linear: Time, factor: float, passed: bool) -> None:
    assert time_linear(factor * LOW_SECONDS / 3600).passed is passed


@pytest.mark.usefixtures("timed_models")
@pytest.mark.parametrize(
    ("seconds", "is_close"),
    [
        ((LOW_SECONDS + EXPECTED_SECONDS) / 2, True),
        (EXPECTED_SECONDS, True),
        ((EXPECTED_SECONDS + HIGH_SECONDS) / 2, True),
        (1.001 * HIGH_SECONDS, False),
    ],
)
def test_limit_inside_the_interval_is_noted(time_linear: Time, seconds: float, is_close: bool) -> None:
    verdict = time_linear(seconds / 3600)
    assert verdict.passed
    assert any("too close to call" in note for note in verdict.notes) is is_close


def test_slow_measurement_is_repeated(
    time_linear: Time, throughput: Throughput, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = replace(throughput, training=Speed(0.1, 0.1, 0.1))
    remaining = set_throughputs(monkeypatch, slow, throughput)
    verdict = time_linear(0.1)
    assert verdict.passed
    assert verdict.throughput == throughput
    assert remaining == []


def test_extrapolated_throughput_is_noted(
    time_linear: Time, throughput: Throughput, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_throughputs(monkeypatch, replace(throughput, batch_size=8))
    (note,) = time_linear().notes
    assert "up to 8 images" in note
    assert "batch of 32" in note


@pytest.mark.parametrize(("longest", "is_busy"), [(0.19, False), (0.81, True)])
def test_busy_computer_is_noted(
    longest: float, is_busy: bool, time_linear: Time, throughput: Throughput, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_throughputs(monkeypatch, replace(throughput, step_seconds=(0.1, longest)))
    notes = time_linear().notes
    assert [("0.1 to 0.81 s" in note and "busy" in note) for note in notes] == [True] * is_busy


def test_model_with_too_little_free_memory_is_over(
    time_linear: Time, timed_models: list[nn.Module], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.budget.timing.free_memory", lambda _: 1)
    verdict = time_linear()
    (problem,) = verdict.problems
    assert re.search(r"batch of 32 .* \d+ MiB .* 0 MiB are free", problem)
    assert (verdict.hours, timed_models) == (None, [])


@pytest.mark.parametrize(("missing", "passes"), [(0, True), (1, False)])
def test_gpu_must_have_room_for_the_images_too(
    missing: int, passes: bool, tiny: Benchmark, throughput: Throughput, monkeypatch: pytest.MonkeyPatch
) -> None:
    needed = 2**20 + (80 + 50) * 8 * 8  # the peak of training, and images of 8 x 8 pixels
    monkeypatch.setattr("benchmarks.budget.timing.free_memory", lambda _: needed - missing)
    monkeypatch.setattr(TimedTraining, "measure", lambda _: replace(throughput, peak_memory=2**20))
    verdict = Verdict("mine", "tiny", tiny.budget, 8, 32, ModelCost(1, 1))
    verdict = add_timing(verdict, TimedTraining(nn.Identity, tiny, "cuda", (80, 50)))
    assert (verdict.passed, verdict.hours is not None) == (passes, passes)
    assert all("images" in problem for problem in verdict.problems)


def test_batch_that_does_not_fit_is_over(time_linear: Time, monkeypatch: pytest.MonkeyPatch) -> None:
    def measure(*_: object) -> Throughput:
        raise DoesNotFit("a batch of 32 does not fit")

    monkeypatch.setattr("benchmarks.budget.timing.measure_throughput", measure)
    verdict = time_linear()
    assert verdict.problems == ("a batch of 32 does not fit",)
    assert verdict.hours is None


@pytest.mark.parametrize(
    ("changes", "max_hours", "worth"),
    [
        ({}, 1.0, True),
        ({}, LOW_SECONDS / 3600 / 1.9, True),
        ({}, LOW_SECONDS / 3600 / 2.1, False),  # exceeds the limit even when compiled
        ({"batch_size": 8}, 1.0, False),  # the recipe's batch size was not timed
    ],
)
def test_compilation_is_tried_if_it_may_help(
    changes: dict[str, int],
    max_hours: float,
    worth: bool,
    time_linear: Time,
    throughput: Throughput,
    tiny: Benchmark,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    measured = replace(throughput, batch_size=changes.get("batch_size", 32))
    set_throughputs(monkeypatch, measured, measured)
    verdict = time_linear(max_hours)
    for minimum, expected in ((EXPECTED_SECONDS / 3600 / 1.01, worth), (1.01 * EXPECTED_SECONDS / 3600, False)):
        monkeypatch.setattr("benchmarks.budget.timing.MIN_HOURS_TO_COMPILE", minimum)
        training = TimedTraining(nn.Identity, with_hours(tiny, max_hours), "cpu", IMAGE_COUNTS)
        hours = verdict.hours.predicted if verdict.hours else 0.0
        assert modes_to_try(verdict, training, hours) == (("compile",) if expected else ())


@pytest.mark.parametrize(
    ("hours_to_come", "speedup", "tried", "expected"),
    [
        (1e-4, 0.1, [], ["cuda_graphs"]),  # too short to compile
        (0.14, 0.1, [], ["cuda_graphs"]),
        (0.16, 0.1, [], ["cuda_graphs", "compile", "compile_cuda_graphs"]),
        (0.16, 0.1, ["cuda_graphs", "compile"], ["compile_cuda_graphs"]),
        (0.16, 2.1, [], ["cuda_graphs"]),
        (0.16, 5.1, [], []),
    ],
)
def test_modes_that_may_help_are_tried_on_a_gpu(
    hours_to_come: float, speedup: float, tried: list[str], expected: list[str], tiny: Benchmark, throughput: Throughput
) -> None:
    hours = PredictedHours(1.0, 1.0, 1.0)
    verdict = Verdict("mine", "tiny", tiny.budget, 8, 32, ModelCost(1, 1), throughput=throughput, hours=hours)
    training = TimedTraining(nn.Identity, with_hours(tiny, 1.0 / speedup), "cuda:1", IMAGE_COUNTS)
    assert modes_to_try(verdict, training, hours_to_come, tried) == tuple(expected)


def test_runs_of_one_architecture_share_the_compiled_code(tiny: Benchmark) -> None:
    trainings = [
        replace(TimedTraining.of(read_run_config(spec), tiny, "cpu", IMAGE_COUNTS), num_runs=number)
        for spec, number in (("resnet8", 3), ("resnet8@epochs=2", 4), ("resnet8+se", 5))
    ]
    verdict = Verdict("mine", "tiny", tiny.budget, 8, 32, ModelCost(1, 1))
    hours = [PredictedHours(predicted, 0.0, 1.0) for predicted in (0.01, 0.02, 0.1)]
    found = hours_by_architecture([replace(verdict, hours=each) for each in hours], trainings)
    assert list(found.values()) == [pytest.approx(3 * 0.01 + 4 * 0.02), pytest.approx(5 * 0.1)]


@pytest.fixture
def compile_linear(
    tiny: Benchmark, linear: Builder, throughput: Throughput, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[Verdict, list[str]]]:
    """Return a function that sets each compile mode's outcome and returns the verdict and the modes that were tried."""

    def run(device: str = "cpu", **outcomes: Throughput | Exception) -> tuple[Verdict, list[str]]:
        modes: list[str] = []

        def measure(training: TimedTraining, compile_mode: CompileMode = "eager") -> Throughput:
            modes.append(compile_mode)
            outcome = {"eager": throughput, **outcomes}[compile_mode]
            if isinstance(outcome, Exception):
                raise outcome
            return replace(outcome, compile_mode=compile_mode)

        monkeypatch.setattr(TimedTraining, "measure", measure)
        monkeypatch.setattr("benchmarks.budget.timing.free_memory", lambda _: 2**40)
        benchmark = with_hours(tiny)
        counted = check_cost("mine", linear, benchmark, "cpu")
        training = TimedTraining(linear, benchmark, device, IMAGE_COUNTS)
        eager = add_timing(counted, training)
        verdict, errors = try_modes(counted, eager, training, COMPILED_MODES[training.device.partition(":")[0]])
        assert list(errors) == modes[1:]
        return verdict, modes

    return run


def compile_mode(verdict: Verdict) -> str:
    assert verdict.throughput is not None
    return verdict.throughput.compile_mode


CompileLinear = Callable[..., tuple[Verdict, list[str]]]


def test_model_that_is_faster_compiled_is_compiled(
    compile_linear: CompileLinear, throughput: Throughput, tiny: Benchmark
) -> None:
    fast = replace(throughput, training=Speed(640.0, 640.0, 640.0), compile_seconds=0.5)
    verdict, modes = compile_linear(compile=fast)
    assert (compile_mode(verdict), modes) == ("compile", ["eager", "compile"])
    assert verdict.hours == fast.hours(tiny.recipe, *IMAGE_COUNTS)


def test_model_that_compiles_longer_than_it_gains_stays_eager(
    compile_linear: CompileLinear, throughput: Throughput, tiny: Benchmark
) -> None:
    slow = replace(throughput, training=Speed(640.0, 640.0, 640.0), compile_seconds=EXPECTED_SECONDS)
    verdict, _ = compile_linear(compile=slow)
    assert compile_mode(verdict) == "eager"
    assert verdict.hours == throughput.hours(tiny.recipe, *IMAGE_COUNTS)


def test_failed_compilation_is_noted(compile_linear: CompileLinear) -> None:
    verdict, _ = compile_linear(compile=RuntimeError("no C++ compiler\nand more"))
    assert compile_mode(verdict) == "eager"
    assert verdict.passed
    (note,) = verdict.notes
    assert "compile" in note
    assert "no C++ compiler" in note
    assert "\n" not in note


def test_fastest_of_three_modes_is_used_on_a_gpu(compile_linear: CompileLinear, throughput: Throughput) -> None:
    fast, faster = (replace(throughput, training=Speed(speed, speed, speed)) for speed in (640.0, 1280.0))
    failed = RuntimeError("the losses differ")
    verdict, modes = compile_linear("cuda:1", compile=fast, cuda_graphs=faster, compile_cuda_graphs=failed)
    assert modes == ["eager", "cuda_graphs", "compile", "compile_cuda_graphs"]
    assert ["compile_cuda_graphs" in note and "the losses differ" in note for note in verdict.notes] == [True]
    assert compile_mode(verdict) == "cuda_graphs"
