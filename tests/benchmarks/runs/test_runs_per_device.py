from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.runs import runs_per_device as runs_per_device
from benchmarks.definition.benchmark import Benchmark
from benchmarks.budget.verdict import ModelCost, Speed, Throughput, Verdict
from benchmarks.execution.progress import Progress, silent
from benchmarks.runs.runs_per_device import best_number, measure
from benchmarks.datasets.cache import CachedDataset
from benchmarks.definition.overrides import read_run_config
from benchmarks.runs.run import Run

PEAK = 2**30
SINGLE_PROCESS = Throughput(Speed(100.0, 90.0, 110.0), Speed(200.0, 200.0, 200.0), batch_size=32, peak_memory=PEAK)


@pytest.fixture
def run(tiny: Benchmark, digits: CachedDataset, tmp_path: Path) -> Run:
    return Run(read_run_config("resnet8+width=0.5"), tiny, 0, digits, "cpu", tmp_path, "baseline", 19_000, 200_000, 0.01)


@pytest.fixture
def verdict(tiny: Benchmark) -> Verdict:
    return Verdict("resnet8", "tiny", tiny.budget, 8, 32, ModelCost(1, 1), throughput=SINGLE_PROCESS)


def told(speeds: Mapping[int, float], monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int, int]]:
    """So many trainings together are so fast. Returns what is measured: device, number and peak."""
    measured: list[tuple[str, int, int]] = []

    def measure(run: Run, number: int, peak: int) -> float:
        measured.append((run.device, number, peak))
        return speeds[number]

    monkeypatch.setattr(runs_per_device, "measure", measure)
    return measured


@pytest.mark.parametrize(("device", "runs"), [("cpu", 100), ("cuda", 1), ("cuda:1", 1)])
def test_on_a_cpu_and_for_one_run_nothing_is_measured(
    device: str, runs: int, run: Run, verdict: Verdict, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = told({}, monkeypatch)
    assert best_number(replace(run, device=device), verdict, runs, silent) == 1
    assert measured == []


def test_a_net_that_was_never_timed_trains_alone(run: Run, verdict: Verdict, monkeypatch: pytest.MonkeyPatch) -> None:
    measured = told({}, monkeypatch)
    assert best_number(replace(run, device="cuda"), replace(verdict, throughput=None), 9, silent) == 1
    assert measured == []


@pytest.mark.parametrize(
    ("speeds", "runs", "expected", "tried"),
    [
        ({2: 109.0}, 9, 1, [2]),
        ({2: 111.0, 4: 121.0}, 9, 2, [2, 4]),
        ({2: 150.0, 4: 250.0, 8: 260.0}, 9, 4, [2, 4, 8]),
        ({2: 150.0, 4: 250.0, 8: 300.0}, 9, 8, [2, 4, 8]),
        ({2: 150.0, 4: 250.0, 8: 300.0}, 8, 8, [2, 4, 8]),
        ({2: 150.0, 4: 250.0}, 7, 4, [2, 4]),
        ({2: 150.0}, 3, 2, [2]),
        ({2: 0.0}, 9, 1, [2]),  # they do not fit
        ({2: 150.0, 4: 0.0}, 9, 2, [2, 4]),
    ],
)
def test_as_many_share_a_gpu_as_are_worth_it(
    speeds: dict[int, float],
    runs: int,
    expected: int,
    tried: list[int],
    run: Run,
    verdict: Verdict,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    measured = told(speeds, monkeypatch)
    assert best_number(replace(run, device="cuda:1"), verdict, runs, silent) == expected
    assert measured == [("cuda:1", number, PEAK) for number in tried]


def test_progress_says_how_many_are_tried(run: Run, verdict: Verdict, monkeypatch: pytest.MonkeyPatch) -> None:
    told({2: 150.0, 4: 250.0, 8: 300.0}, monkeypatch)
    reports: list[Progress] = []
    best_number(replace(run, device="cuda"), verdict, 9, reports.append)
    task = "timing trainings side by side"
    assert reports == [Progress(task, done, 3, f"{2 * 2**done} at once") for done in range(3)]


@pytest.mark.slow
def test_two_trainings_together_have_a_speed(run: Run) -> None:
    speed = measure(run, 2, peak=0)
    assert isinstance(speed, float)
    assert speed > 0


def test_trainings_that_do_not_fit_together_have_none(run: Run) -> None:
    assert measure(run, 2, peak=2**60) == 0.0


def test_the_speed_is_that_of_all_and_none_where_one_failed(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    outcomes: list[tuple[int, object]] = [(1, 30.0), (0, 12.0)]
    monkeypatch.setattr("benchmarks.execution.local.call_each", lambda *_: iter(outcomes))
    assert measure(run, 2, peak=0) == 42.0
    outcomes[1] = (0, MemoryError())
    assert measure(run, 2, peak=0) == 0.0


def test_each_may_take_its_share_of_the_memory(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[object, ...]] = []

    def call_each(function: str, arguments: list[tuple[object, ...]], number: int, report: object) -> object:
        asked.extend((function, number, first, *rest) for first, _, *rest in arguments)
        return iter(())

    monkeypatch.setattr("benchmarks.execution.local.call_each", call_each)
    measure(run, 4, peak=7)
    assert asked == [("benchmarks.runs.shared_device_timing:images_per_second", 4, run, 0.2, 7)] * 4
