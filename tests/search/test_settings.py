from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.definition.benchmark import Budget, identify
from search.rungs import Rungs
from search.settings import FINALIST_CHECK_SECONDS, SearchSettings
from search.space import ChoiceSpace


def test_each_rung_and_the_test_have_different_ids(search: SearchSettings) -> None:
    ids = {search.rung_id(rung) for rung in range(len(search.rungs))} | {search.test_id}
    assert len(ids) == len(search.rungs) + 1
    assert search.validation_id == search.rung_id(len(search.rungs) - 1)


def test_finalists_use_the_validation_split_and_the_winner_the_id_of_ablate_run(search: SearchSettings) -> None:
    benchmark, fingerprint = search.benchmark, search.data.fingerprint
    assert search.validation_id == identify(benchmark.definition(fingerprint, "cpu", "val"))
    assert search.test_id == identify(benchmark.definition(fingerprint, "cpu", "test"))


def test_ids_depend_on_the_type_of_the_device_but_not_on_its_index(search: SearchSettings) -> None:
    first, second = replace(search, device="cuda:0"), replace(search, device="cuda:1")
    assert first.validation_id == second.validation_id != search.validation_id
    assert first.name == second.name != search.name


def test_searches_that_are_not_comparable_have_different_names(search: SearchSettings) -> None:
    smaller_budget = replace(search.benchmark, budget=Budget(max_params=1, max_hours=1.0))
    others = [
        replace(search, space=ChoiceSpace({"act": ("", "+silu")})),
        replace(search, objective="pareto"),
        replace(search, benchmark=smaller_budget, rungs=Rungs.for_benchmark(smaller_budget)),
        replace(search, rungs=Rungs.for_benchmark(search.benchmark, max_rungs=2)),
        replace(search, data=replace(search.data, fingerprint="0" * 12)),
    ]
    assert len({search.name, *(other.name for other in others)}) == len(others) + 1


def test_name_does_not_depend_on_limits_and_paths(search: SearchSettings) -> None:
    same = replace(search, trials=1, timeout=1.0, workers=2, finalists=0, seeds=1, time_limit=1.0, out=Path("other"))
    assert same.name == search.name
    assert search.name.startswith("digits-")


@pytest.mark.parametrize(
    ("finalists", "seeds", "workers", "runs"),
    [(3, 3, 1, 12), (1, 3, 1, 3), (2, 1, 1, 3), (0, 2, 1, 2), (3, 3, 4, 12)],
)
def test_final_selection_trains_each_seed_of_all_finalists_and_again_of_the_winner(
    search: SearchSettings, finalists: int, seeds: int, workers: int, runs: int
) -> None:
    settings = replace(search, finalists=finalists, seeds=seeds, workers=workers)
    assert settings.final_selection_seconds(100.0) == 100 * runs + FINALIST_CHECK_SECONDS * finalists
