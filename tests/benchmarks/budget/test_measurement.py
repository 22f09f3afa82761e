from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.budget import measurement
from benchmarks.budget.measurement import Measurement
from benchmarks.budget.verdict import ModelCost, Speed, StageCost, Throughput
from benchmarks.definition.benchmark import Benchmark, Budget
from benchmarks.definition.overrides import read_run_config

COST = ModelCost(
    params=100,
    trainable_params=90,
    reached_params=80,
    dead_params=("a", "b"),
    macs_fvcore=5,
    macs_torch=6,
    uncounted=("lstm",),
    stages=(StageCost("stem", 10, 3), StageCost("head", 90, 3)),
    output_shape=(1, 10),
)
THROUGHPUT = Throughput(Speed(3.0, 2.5, 1 / 0.3), Speed(9.0, 8.0, 10.0), 32, 2**33, "compile", 12.5)
NET = "resnet8"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def read(benchmark: Benchmark) -> Measurement:
    return Measurement.read(read_run_config(NET), benchmark, "cpu")


def keep(
    benchmark: Benchmark, cost: ModelCost | None = COST, throughput: Throughput | None = THROUGHPUT
) -> Measurement:
    found = read(benchmark)
    found.cost, found.throughput = cost, throughput
    found.write()
    return found


def test_at_first_nothing_is_known(tiny: Benchmark, cache: Path) -> None:
    found = read(tiny)
    assert (found.cost, found.throughput) == (None, None)
    assert found.path.is_relative_to(cache)
    assert not found.path.exists()


@pytest.mark.parametrize("throughput", [THROUGHPUT, None])
def test_what_is_written_is_read_back_equal(tiny: Benchmark, throughput: Throughput | None) -> None:
    kept = keep(tiny, COST, throughput)
    assert read(tiny) == kept
    assert (kept.cost, kept.throughput) == (COST, throughput)


def test_what_is_written_later_takes_its_place(tiny: Benchmark) -> None:
    keep(tiny)
    keep(tiny, COST, replace(THROUGHPUT, compile_mode="eager"))
    found = read(tiny)
    assert found.throughput == replace(THROUGHPUT, compile_mode="eager")
    assert [file.name for file in found.path.parent.iterdir()] == [found.path.name]


def test_without_a_cost_nothing_is_written(tiny: Benchmark) -> None:
    assert not keep(tiny, None).path.parent.exists()


def test_another_net_is_another_measurement(tiny: Benchmark) -> None:
    keep(tiny)
    assert Measurement.read(read_run_config("resnet8+se"), tiny, "cpu").cost is None


@pytest.mark.parametrize("config", ["resnet8@teacher=(resnet20)", "resnet8@teacher=previous", "resnet8@freeze=stem"])
def test_a_teacher_or_a_frozen_layer_makes_another_speed(tiny: Benchmark, config: str) -> None:
    keep(tiny)
    assert Measurement.read(read_run_config(config), tiny, "cpu").cost is None


def test_fewer_images_and_other_weights_do_not(tiny: Benchmark) -> None:
    keep(tiny)
    config = read_run_config("resnet8@data=1/4@init=0123456789abcdef")
    assert Measurement.read(config, tiny, "cpu").throughput == THROUGHPUT


def test_another_spelling_of_the_net_is_not(tiny: Benchmark) -> None:
    keep(tiny)
    assert Measurement.read(read_run_config("resnet8+se-se"), tiny, "cpu").cost == COST


def test_other_images_or_another_recipe_are_another_measurement(tiny: Benchmark) -> None:
    keep(tiny)
    recipe, data = tiny.recipe, tiny.data
    others = [
        replace(tiny, recipe=replace(recipe, batch_size=16)),
        replace(tiny, recipe=replace(recipe, crop_padding=2)),
        replace(tiny, data=replace(data, image_size=16)),
        replace(tiny, data=replace(data, num_classes=11)),
    ]
    assert [read(other).cost for other in others] == [None] * 4
    assert len({read(other).path for other in [tiny, *others]}) == 5


def test_the_budget_and_the_benchmarks_name_change_nothing(tiny: Benchmark) -> None:
    keep(tiny)
    assert read(replace(tiny, name="other", budget=Budget(1, 1e-9))).cost == COST


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("device_name", "cpu (3 threads)"),
        ("versions", {"torch": "99.0"}),
        ("platform.node", "another computer"),
        ("os.cpu_count", 1000),
        ("FORMAT", 0),
    ],
)
def test_elsewhere_or_with_another_torch_it_is_another_measurement(
    name: str, value: object, tiny: Benchmark, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep(tiny)
    monkeypatch.setattr(f"{measurement.__name__}.{name}", value if name == "FORMAT" else lambda *_: value)
    assert read(tiny).cost is None


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b"\xff\xfe", b'{"cost": {"params": "many"}, "throughput": null}'])
def test_a_damaged_file_is_nothing_known_and_is_replaced(damage: bytes, tiny: Benchmark) -> None:
    keep(tiny).path.write_bytes(damage)
    assert read(tiny).cost is None
    keep(tiny)
    assert read(tiny).cost == COST


def test_half_a_file_is_nothing_known(tiny: Benchmark) -> None:
    path = keep(tiny).path
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert read(tiny).cost is None


def test_a_field_that_is_not_known_is_nothing_known(tiny: Benchmark) -> None:
    path = keep(tiny).path
    path.write_text(path.read_text().replace('"params"', '"parameters"'))
    assert read(tiny).cost is None


def test_a_cache_that_cannot_be_written_is_done_without(tiny: Benchmark, cache: Path) -> None:
    cache.write_text("in the way")
    keep(tiny)
    assert read(tiny).cost is None
