from dataclasses import replace

import pytest

from arch.errors import InputError
from benchmarks.datasets.cache import CachedDataset
from benchmarks.definition.benchmark import Benchmark
from benchmarks.definition.recipe import Recipe
from benchmarks.definition.registry import BENCHMARKS
from search.rungs import Rungs, check_images, with_epochs


def new_benchmark(epochs: int, warmup_epochs: int) -> Benchmark:
    return replace(BENCHMARKS["digits"], recipe=Recipe(epochs=epochs, warmup_epochs=warmup_epochs, lr=0.3))


def schedules(benchmark: Benchmark) -> list[tuple[int, int]]:
    """Return (epochs, warm-up epochs) for each rung."""
    return [(rung.recipe.epochs, rung.recipe.warmup_epochs) for rung in Rungs.for_benchmark(benchmark).benchmarks]


@pytest.mark.parametrize(
    ("whole", "expected"),
    [
        ((200, 5), [(12, 0), (50, 1), (200, 5)]),
        ((64, 16), [(4, 1), (16, 4), (64, 16)]),
        ((8, 2), [(1, 0), (2, 0), (8, 2)]),
    ],
)
def test_epochs_and_warmup_are_shortened_in_proportion(whole: tuple[int, int], expected: list[tuple[int, int]]) -> None:
    assert schedules(new_benchmark(*whole)) == expected


@pytest.mark.parametrize(("whole", "expected"), [(1, [1]), (2, [1, 2]), (4, [1, 4]), (7, [2, 7]), (8, [1, 2, 8])])
def test_short_recipes_have_fewer_rungs(whole: int, expected: list[int]) -> None:
    assert [epochs for epochs, _ in schedules(new_benchmark(whole, 0))] == expected


def test_each_rung_is_a_valid_recipe_and_longer_than_the_one_before() -> None:
    for whole in range(1, 60):
        rungs = schedules(new_benchmark(whole, whole - 1))
        assert all(0 <= warmup < epochs for epochs, warmup in rungs)
        assert [epochs for epochs, _ in rungs] == sorted({epochs for epochs, _ in rungs})


def test_rungs_differ_only_in_the_schedule() -> None:
    whole = BENCHMARKS["digits"]
    for rung in Rungs.for_benchmark(whole).benchmarks:
        epochs, warmup = whole.recipe.epochs, whole.recipe.warmup_epochs
        assert replace(rung, recipe=replace(rung.recipe, epochs=epochs, warmup_epochs=warmup)) == whole


@pytest.mark.parametrize("name", BENCHMARKS)
def test_last_rung_is_the_benchmark_itself(name: str) -> None:
    whole = BENCHMARKS[name]
    assert Rungs.for_benchmark(whole).benchmarks[-1] is whole
    assert with_epochs(whole, whole.recipe.epochs) is whole


def test_steps_are_powers_of_the_reduction_factor() -> None:
    rungs = Rungs.for_benchmark(new_benchmark(64, 0))
    assert len(rungs) == 3
    assert [rungs.step(rung) for rung in range(3)] == [1, 4, 16]
    assert [rungs.time_fraction(rung) for rung in range(3)] == [1 / 16, 1 / 4, 1]
    halved = Rungs.for_benchmark(new_benchmark(64, 0), max_rungs=4, reduction_factor=2)
    assert [halved.step(rung) for rung in range(4)] == [1, 2, 4, 8]
    assert halved.time_fraction(0) == 1 / 8


@pytest.mark.parametrize(
    ("train_per_class", "batch_size", "message"),
    [(20, 181, r"without the validation split: 180 training images .* 181$"), (1, 5, "at least 2 training images")],
)
def test_too_few_images_for_a_search_are_rejected(
    train_per_class: int, batch_size: int, message: str, tiny: Benchmark, digits: CachedDataset
) -> None:
    data = replace(tiny.data, train_per_class=train_per_class)
    with pytest.raises(InputError, match=message):
        check_images(digits, replace(tiny, data=data, recipe=replace(tiny.recipe, batch_size=batch_size)))


def test_one_batch_of_images_is_enough_for_a_search(tiny: Benchmark, digits: CachedDataset) -> None:
    data, recipe = replace(tiny.data, train_per_class=20), replace(tiny.recipe, batch_size=180)
    check_images(digits, replace(tiny, data=data, recipe=recipe))
