from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from benchmarks.budget import measurement
from benchmarks.budget.measurement import Measurement, delete_measurements, old_measurement_note
from benchmarks.budget.performance import Energy, Inference, Latency
from benchmarks.budget.verdict import ModelCost, Speed, StageCost, Throughput
from benchmarks.definition.benchmark import Benchmark, Budget
from benchmarks.definition.config_parser import read_run_config
from benchmarks.execution.progress import silent

COST = ModelCost(
    params=100,
    trainable_params=90,
    reached_params=80,
    dead_params=("a", "b"),
    macs_fvcore=5,
    macs_torch=6,
    omitted=("batch_norm",),
    uncounted=("lstm",),
    stages=(StageCost("stem", 10, 3), StageCost("head", 90, 3)),
    output_shape=(1, 10),
)
ENERGY = Energy(0.125, "NVML")
THROUGHPUT = Throughput(
    Speed(3.0, 2.5, 1 / 0.3), Speed(9.0, 8.0, 10.0), 32, 2**33, "compile", 12.5, energy_per_image=ENERGY
)
INFERENCE = Inference(
    Latency(1, 100, 2.0, 1.5, 3.0, 500.0), Latency(64, 9, 8.0, 7.0, None, 8e3), 999, "fp32", "cpu", "2026"
)


def read(benchmark: Benchmark) -> Measurement:
    return Measurement.read(read_run_config("resnet8"), benchmark, "cpu")


def write(
    benchmark: Benchmark, cost: ModelCost | None = COST, throughput: Throughput | None = THROUGHPUT
) -> Measurement:
    measurement = read(benchmark)
    measurement.cost, measurement.throughput, measurement.inference = cost, throughput, INFERENCE
    measurement.tried, measurement.shared = {"compile": "", "cuda_graphs": "no CUDA"}, {"2": 4.5}
    measurement.write()
    return measurement


def test_cache_is_empty_at_first(tiny: Benchmark, cache: Path) -> None:
    measurement = read(tiny)
    assert (measurement.cost, measurement.throughput) == (None, None)
    assert measurement.path.is_relative_to(cache)
    assert not measurement.path.exists()


@pytest.mark.parametrize("throughput", [THROUGHPUT, None])
def test_written_measurement_is_read_back(tiny: Benchmark, throughput: Throughput | None) -> None:
    written = write(tiny, COST, throughput)
    assert read(tiny) == written
    assert (written.cost, written.throughput, written.inference) == (COST, throughput, INFERENCE)


def test_measurement_is_replaced(tiny: Benchmark) -> None:
    write(tiny)
    write(tiny, COST, replace(THROUGHPUT, compile_mode="eager"))
    measurement = read(tiny)
    assert measurement.throughput == replace(THROUGHPUT, compile_mode="eager")
    assert [file.name for file in measurement.path.parent.iterdir()] == [measurement.path.name]


def test_deleted_measurements_are_those_of_the_specs(tiny: Benchmark) -> None:
    write(tiny)
    delete_measurements(silent, ["resnet8+se", "resnet20"], tiny, "cpu")
    assert read(tiny).cost == COST
    delete_measurements(silent, ["resnet8"], tiny, "cpu")
    assert read(tiny).cost is None


@pytest.mark.parametrize(("days", "is_noted"), [(0, False), (29, False), (31, True)])
def test_old_measurements_are_noted(days: int, is_noted: bool) -> None:
    date = (datetime.now(UTC) - timedelta(days=days)).date().isoformat()
    note = old_measurement_note([None, THROUGHPUT, replace(THROUGHPUT, measured=date)])
    assert (date in note and "--remeasure" in note) is is_noted


def test_measurement_without_a_cost_is_not_written(tiny: Benchmark) -> None:
    assert not write(tiny, None).path.parent.exists()


def test_other_model_has_its_own_measurement(tiny: Benchmark) -> None:
    write(tiny)
    assert Measurement.read(read_run_config("resnet8+se"), tiny, "cpu").cost is None


@pytest.mark.parametrize("config", ["resnet8@teacher=(resnet20)", "resnet8@teacher=previous", "resnet8@freeze=stem"])
def test_teacher_and_frozen_layers_have_their_own_measurement(tiny: Benchmark, config: str) -> None:
    write(tiny)
    assert Measurement.read(read_run_config(config), tiny, "cpu").cost is None


def test_growing_distillation_weight_has_its_own_measurement(tiny: Benchmark) -> None:
    fixed, growing = (read_run_config(f"resnet8@teacher=(resnet20){text}") for text in ("", "@growing"))
    measurement = Measurement.read(fixed, tiny, "cpu")
    measurement.cost, measurement.throughput = COST, replace(THROUGHPUT, compile_mode="cuda_graphs")
    measurement.write()
    assert Measurement.read(fixed, tiny, "cpu").throughput == measurement.throughput
    assert Measurement.read(growing, tiny, "cpu").throughput is None  # it cannot be captured


@pytest.mark.parametrize("method", ["dkd", "at"])
def test_distillation_methods_have_their_own_measurement(method: str, tiny: Benchmark) -> None:
    paths = {
        Measurement.read(read_run_config(f"resnet8@teacher=(resnet20){text}"), tiny, "cpu").path
        for text in ("", f"@method={method}", f"@method={method}@beta=2")
    }
    assert len(paths) == 2


def test_number_of_images_and_initial_weights_do_not_matter(tiny: Benchmark) -> None:
    write(tiny)
    config = read_run_config("resnet8@data=1/4@init=0123456789abcdef")
    assert Measurement.read(config, tiny, "cpu").throughput == THROUGHPUT


def test_spelling_of_the_model_does_not_matter(tiny: Benchmark) -> None:
    write(tiny)
    assert Measurement.read(read_run_config("resnet8+se-se"), tiny, "cpu").cost == COST


def test_other_images_and_recipes_have_their_own_measurement(tiny: Benchmark) -> None:
    write(tiny)
    recipe, data = tiny.recipe, tiny.data
    others = [
        replace(tiny, recipe=replace(recipe, batch_size=16)),
        replace(tiny, recipe=replace(recipe, crop_padding=2)),
        replace(tiny, data=replace(data, image_size=16)),
        replace(tiny, data=replace(data, num_classes=11)),
    ]
    assert [read(other).cost for other in others] == [None] * 4
    assert len({read(other).path for other in [tiny, *others]}) == 5


def test_budget_and_name_of_the_benchmark_do_not_matter(tiny: Benchmark) -> None:
    write(tiny)
    assert read(replace(tiny, name="other", budget=Budget(1, 1e-9))).cost == COST


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("device_name", "cpu (3 threads)"),
        ("versions", {"torch": "99.0"}),
        ("gpu_versions", {"cudnn": "99.0"}),
        ("platform.node", "another computer"),
        ("os.cpu_count", 1000),
        ("MEASUREMENT_FORMAT", 0),
    ],
)
def test_other_computers_and_versions_have_their_own_measurement(
    name: str, value: object, tiny: Benchmark, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tiny)
    if name == "MEASUREMENT_FORMAT":
        monkeypatch.setattr(measurement, name, value)
    else:
        monkeypatch.setattr(f"benchmarks.budget.device_cache.{name}", lambda *_: value)
    assert read(tiny).cost is None


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b"\xff\xfe", b'{"cost": {"params": "many"}, "throughput": null}'])
def test_damaged_file_is_ignored_and_replaced(damage: bytes, tiny: Benchmark) -> None:
    write(tiny).path.write_bytes(damage)
    assert read(tiny).cost is None
    write(tiny)
    assert read(tiny).cost == COST


def test_truncated_file_is_ignored(tiny: Benchmark) -> None:
    path = write(tiny).path
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert read(tiny).cost is None


def test_file_with_unknown_fields_is_ignored(tiny: Benchmark) -> None:
    path = write(tiny).path
    path.write_text(path.read_text().replace('"params"', '"parameters"'))
    assert read(tiny).cost is None


def test_unwritable_cache_is_ignored(tiny: Benchmark, cache: Path) -> None:
    cache.write_text("in the way")
    write(tiny)
    assert read(tiny).cost is None
