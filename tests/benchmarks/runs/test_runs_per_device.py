from collections.abc import Mapping
from dataclasses import replace

import pytest

from benchmarks.budget.measurement import Measurement, delete_measurements
from benchmarks.budget.verdict import ModelCost, Speed, Throughput, Verdict
from benchmarks.definition.benchmark import Benchmark
from benchmarks.execution.progress import Progress, silent
from benchmarks.runs import runs_per_device
from benchmarks.runs.run import Run
from benchmarks.runs.runs_per_device import best_runs_per_device, measure_total_throughput

READ_CACHED_THROUGHPUTS = runs_per_device.read_cached_throughputs
CACHE_THROUGHPUTS = runs_per_device.cache_throughputs
PEAK_MEMORY = 2**30
ALONE = Throughput(Speed(100.0, 90.0, 110.0), Speed(200.0, 200.0, 200.0), batch_size=32, peak_memory=PEAK_MEMORY)


@pytest.fixture
def verdict(tiny: Benchmark) -> Verdict:
    return Verdict("resnet8", "tiny", tiny.budget, 8, 32, ModelCost(1, 1), throughput=ALONE)


@pytest.fixture(autouse=True)
def cached(monkeypatch: pytest.MonkeyPatch) -> dict[int, float]:
    """Return the cached throughputs, which are empty at first."""
    throughputs: dict[int, float] = {}
    monkeypatch.setattr(runs_per_device, "read_cached_throughputs", lambda run, peak_memory: dict(throughputs))
    monkeypatch.setattr(runs_per_device, "cache_throughputs", lambda run, added: throughputs.update(added))
    return throughputs


def set_throughputs(throughputs: Mapping[int, float], monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int, int]]:
    """Fake the total throughputs, and return a list of the measured (device, number of runs, memory)."""
    measured: list[tuple[str, int, int]] = []

    def measure(run: Run, number: int, peak_memory: int) -> float:
        measured.append((run.device, number, peak_memory))
        return throughputs[number]

    monkeypatch.setattr(runs_per_device, "measure_total_throughput", measure)
    return measured


@pytest.mark.parametrize(("device", "num_runs"), [("cpu", 100), ("cuda", 1), ("cuda:1", 1)])
def test_nothing_is_measured_on_a_cpu_and_for_one_run(
    device: str, num_runs: int, run: Run, verdict: Verdict, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = set_throughputs({}, monkeypatch)
    assert best_runs_per_device(replace(run, device=device), verdict, num_runs, silent) == 1
    assert measured == []


def test_a_model_that_was_not_timed_trains_alone(run: Run, verdict: Verdict, monkeypatch: pytest.MonkeyPatch) -> None:
    measured = set_throughputs({}, monkeypatch)
    assert best_runs_per_device(replace(run, device="cuda"), replace(verdict, throughput=None), 9, silent) == 1
    assert measured == []


@pytest.mark.parametrize(
    ("throughputs", "num_runs", "expected", "tried"),
    [
        ({2: 109.0}, 9, 1, [2]),
        ({2: 111.0, 4: 121.0}, 9, 2, [2, 4]),
        ({2: 150.0, 4: 250.0, 8: 260.0}, 9, 4, [2, 4, 8]),
        ({2: 150.0, 4: 250.0, 8: 300.0}, 8, 8, [2, 4, 8]),
        ({2: 150.0, 4: 250.0}, 7, 4, [2, 4]),
        ({2: 150.0}, 3, 2, [2]),
        ({2: 0.0}, 9, 1, [2]),  # two runs do not fit in memory
        ({2: 150.0, 4: 0.0}, 9, 2, [2, 4]),
    ],
)
def test_the_number_grows_while_it_is_faster(
    throughputs: dict[int, float],
    num_runs: int,
    expected: int,
    tried: list[int],
    run: Run,
    verdict: Verdict,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    measured = set_throughputs(throughputs, monkeypatch)
    assert best_runs_per_device(replace(run, device="cuda:1"), verdict, num_runs, silent) == expected
    needed = PEAK_MEMORY + (80 + 50) * 8 * 8 + runs_per_device.CONTEXT_BYTES  # images of 8 x 8 pixels
    assert measured == [("cuda:1", number, needed) for number in tried]


def test_cached_throughputs_are_not_measured_again(
    run: Run, verdict: Verdict, cached: dict[int, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = set_throughputs({2: 150.0, 4: 250.0, 8: 260.0}, monkeypatch)
    on_gpu = replace(run, device="cuda")
    assert [best_runs_per_device(on_gpu, verdict, num_runs, silent) for num_runs in (3, 5, 5, 9, 9)] == [2, 4, 4, 4, 4]
    assert [number for _, number, _ in measured] == [2, 4, 8]
    assert cached == {2: 150.0, 4: 250.0, 8: 260.0}


def test_throughputs_are_kept_in_the_cache_of_a_computer(run: Run) -> None:
    run = replace(run, compile_mode="eager")
    measurement = Measurement.read(run.config, run.benchmark, "cpu")
    measurement.cost, measurement.throughput = ModelCost(1, 1), ALONE
    measurement.write()
    assert READ_CACHED_THROUGHPUTS(run, 0) == {}
    CACHE_THROUGHPUTS(run, {2: 150.0, 4: 0.0})  # four runs did not fit, maybe because of other processes
    assert READ_CACHED_THROUGHPUTS(run, 0) == {2: 150.0}
    assert READ_CACHED_THROUGHPUTS(run, 2**60) == {}  # two runs do not fit now
    CACHE_THROUGHPUTS(run, {4: 0.0})
    assert READ_CACHED_THROUGHPUTS(run, 0) == {2: 150.0}
    assert READ_CACHED_THROUGHPUTS(replace(run, compile_mode="compile"), 0) == {}
    delete_measurements(silent, [run.spec], run.benchmark, "cpu")
    assert READ_CACHED_THROUGHPUTS(run, 0) == {}


def test_progress_names_the_numbers_that_are_tried(run: Run, verdict: Verdict, monkeypatch: pytest.MonkeyPatch) -> None:
    set_throughputs({2: 150.0, 4: 250.0, 8: 300.0}, monkeypatch)
    reports: list[Progress] = []
    best_runs_per_device(replace(run, device="cuda"), verdict, 9, reports.append)
    assert [(report.done, report.total, report.note) for report in reports] == [
        (done, 3, f"{2 * 2**done} at once") for done in range(3)
    ]


@pytest.mark.slow
def test_two_trainings_at_once_have_a_throughput(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    throughput = measure_total_throughput(run, 2, peak_memory=0)
    assert isinstance(throughput, float)
    assert throughput > 0


def test_trainings_that_do_not_fit_have_no_throughput(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert measure_total_throughput(run, 2, peak_memory=2**60) == 0.0
    assert "MemoryError" in capsys.readouterr().err
