from dataclasses import replace

import pytest

from benchmarks.definition.benchmark import BENCHMARKS, Benchmark
from benchmarks.definition.recipe import Recipe
from search.rungs import Rungs, with_epochs


def of_epochs(epochs: int, warmup: int) -> Benchmark:
    return replace(BENCHMARKS["digits"], recipe=Recipe(epochs=epochs, warmup_epochs=warmup, lr=0.3))


def lengths(benchmark: Benchmark) -> list[tuple[int, int]]:
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
    assert lengths(of_epochs(*whole)) == expected


@pytest.mark.parametrize(("whole", "expected"), [(1, [1]), (2, [1, 2]), (4, [1, 4]), (7, [2, 7]), (8, [1, 2, 8])])
def test_short_recipes_have_fewer_rungs_and_none_without_an_epoch(whole: int, expected: list[int]) -> None:
    assert [count for count, _ in lengths(of_epochs(whole, 0))] == expected


@pytest.mark.parametrize("whole", range(1, 60))
def test_every_rung_is_a_recipe_that_can_be_trained_and_longer_than_the_one_before(whole: int) -> None:
    benchmark = of_epochs(whole, whole - 1)
    rungs = lengths(benchmark)
    assert all(0 <= warmup < count for count, warmup in rungs)
    assert [count for count, _ in rungs] == sorted({count for count, _ in rungs})


def test_nothing_but_the_two_lengths_is_changed() -> None:
    whole = BENCHMARKS["digits"]
    for rung in Rungs.for_benchmark(whole).benchmarks:
        epochs, warmup = whole.recipe.epochs, whole.recipe.warmup_epochs
        assert replace(rung, recipe=replace(rung.recipe, epochs=epochs, warmup_epochs=warmup)) == whole


@pytest.mark.parametrize("name", BENCHMARKS)
def test_the_last_rung_is_the_benchmark_itself(name: str) -> None:
    whole = BENCHMARKS[name]
    assert Rungs.for_benchmark(whole).benchmarks[-1] is whole
    assert with_epochs(whole, whole.recipe.epochs) is whole


def test_a_step_is_a_power_of_the_reduction_and_a_share_is_of_the_whole_time() -> None:
    rungs = Rungs.for_benchmark(of_epochs(64, 0))
    assert len(rungs) == 3
    assert [rungs.step(rung) for rung in range(3)] == [1, 4, 16]
    assert [rungs.time_fraction(rung) for rung in range(3)] == [1 / 16, 1 / 4, 1]
    halves = Rungs.for_benchmark(of_epochs(64, 0), number=4, reduction=2)
    assert [halves.step(rung) for rung in range(4)] == [1, 2, 4, 8]
    assert halves.share(0) == 1 / 8
