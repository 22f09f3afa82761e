import math
import time
from collections.abc import Callable
from typing import Any

import optuna
import pytest

from arch.spec import parse
from benchmarks.execution.local import WorkerFailed
from benchmarks.records.store import RecordStore
from benchmarks.runs.run import Run
from search import trial_attrs
from search.finalists import Finalist, FinalSelection
from search.runner import SearchRunner
from search.settings import SearchSettings

Make = Callable[..., Any]
Carry = Callable[..., list[Finalist]]


def width_decides(run: Run) -> float:
    return 50.0 + parse(run.spec).variant().widths[0] / 8 + run.seed / 100


@pytest.fixture
def carry_out(make_study: Make, store: RecordStore, display: Any) -> Carry:
    """Carries a search out to its end; what was trained before its finale is forgotten by the engine."""

    def carry(search: SearchSettings, seconds: float = math.inf) -> list[Finalist]:
        study: optuna.Study = make_study(search)
        SearchRunner(search, study, store, display, math.inf).carry_out()
        search.executor.trained.clear()  # type: ignore[attr-defined]
        found = trial_attrs.ranked(study.get_trials(deepcopy=False))
        return FinalSelection(search, store, display, time.monotonic() + seconds).carry_out(found)

    return carry


def test_finalists_are_trained_wholly_over_all_seeds_and_the_best_mean_wins(
    make_search: Make, carry_out: Carry
) -> None:
    search = make_search(trials=20, finalists=3, seeds=2)
    search.executor.accuracy = width_decides
    finalists = carry_out(search)
    assert len(finalists) == 3
    assert all(len(finalist.validation) == 2 for finalist in finalists)
    assert {r.benchmark_id for f in finalists for r in f.validation} == {search.validation_id}
    means = [sum(result.top1 for result in finalist.validation) for finalist in finalists]
    assert means == sorted(means, reverse=True)


def test_the_test_split_is_read_for_the_winner_alone_and_last(make_search: Make, carry_out: Carry) -> None:
    search = make_search(trials=20, finalists=3, seeds=2)
    search.executor.accuracy = width_decides
    winner, *others = carry_out(search)
    splits = [run.split for run in search.executor.trained]
    assert splits == sorted(splits, reverse=True), "val before test"
    tested = [run for run in search.executor.trained if run.split == "test"]
    assert {run.config.architecture for run in tested} == {winner.variant}
    assert [run.seed for run in tested] == [0, 1]
    assert {result.benchmark_id for result in winner.test} == {search.test_id}
    assert not any(finalist.test for finalist in others)


def test_only_the_winner_keeps_its_weights(make_search: Make, carry_out: Carry) -> None:
    search = make_search(trials=10, finalists=2)
    carry_out(search)
    assert {run.split for run in search.executor.trained if run.keep_weights} == {"test"}


def test_what_the_last_rung_has_trained_is_not_trained_again(make_search: Make, carry_out: Carry) -> None:
    search = make_search(trials=30, finalists=3, seeds=1)
    search.executor.accuracy = lambda run: width_decides(run) + run.benchmark.recipe.epochs
    finalists = carry_out(search)
    again = [run for run in search.executor.trained if run.split == "val"]
    assert len(again) < 3 or all(len(f.validation) == 1 for f in finalists)
    assert all(len(finalist.validation) == 1 for finalist in finalists)


@pytest.mark.parametrize(
    ("seconds", "finalists", "seeds"), [(math.inf, 3, 3), (400, 2, 3), (250, 2, 2), (140, 2, 1), (90, 1, 2), (1, 1, 1)]
)
def test_less_time_means_fewer_finalists_and_seeds_but_never_none(
    make_search: Make, carry_out: Carry, seconds: float, finalists: int, seeds: int
) -> None:
    search = make_search(trials=6, finalists=3, seeds=3)
    search.executor.hours = lambda spec: 0.01  # 36 s and 2 s more
    found = carry_out(search, seconds)
    assert len(found) == finalists
    assert len(found[0].test) == seeds
    assert all(len(f.validation) == (seeds if finalists > 1 else 0) for f in found)


def test_a_finalist_over_the_budget_when_it_is_timed_gives_way_to_the_next(
    make_search: Make, carry_out: Carry, display: Any
) -> None:
    search = make_search(trials=12, finalists=1)
    search.executor.accuracy = width_decides
    search.executor.hours = lambda spec: 0.001
    make = search.executor.time

    def slow_when_wide(spec: str, benchmark: Any) -> Any:
        search.executor.hours = lambda _: 9.0 if "width=1.5" in spec else 0.001
        return make(spec, benchmark)

    search.executor.time = slow_when_wide
    [winner] = carry_out(search)
    assert "width=1.5" not in winner.spec
    assert any("is no finalist" in line for line in display.said)


def test_a_finalist_whose_seed_fails_is_behind_those_that_have_all(
    make_search: Make, carry_out: Carry, store: RecordStore
) -> None:
    search = make_search(trials=20, finalists=3, seeds=3)

    def widest_fails_at_seed_1(run: Run) -> float:
        if run.seed == 1 and run.split == "val" and parse(run.spec).variant().widths[0] == 24:
            raise WorkerFailed("the loss is nan")
        return width_decides(run)

    search.executor.accuracy = widest_fails_at_seed_1
    finalists = carry_out(search)
    complete = [len(finalist.validation) for finalist in finalists]
    assert complete == sorted(complete, reverse=True)
    assert min(complete) == 2
    assert {failure.reason for failure in store.failures()} == {"the loss is nan"}


def test_where_no_finalist_can_be_trained_for_the_test_it_says_so(make_search: Make, carry_out: Carry) -> None:
    search = make_search(trials=6, finalists=2)

    def no_test(run: Run) -> float:
        if run.split == "test":
            raise WorkerFailed("out of memory")
        return 50.0

    search.executor.accuracy = no_test
    with pytest.raises(WorkerFailed, match="no finalist could be trained"):
        carry_out(search)


def test_a_winner_that_cannot_be_trained_gives_way_to_the_next(make_search: Make, carry_out: Carry) -> None:
    search = make_search(trials=20, finalists=3)
    tested: list[str] = []

    def first_has_no_memory(run: Run) -> float:
        if run.split == "test":
            tested.append(run.key)
            if run.key == tested[0]:
                raise WorkerFailed("out of memory")
        return width_decides(run)

    search.executor.accuracy = first_has_no_memory
    winner, *others = carry_out(search)
    assert winner.test
    assert winner.variant.key() == tested[-1] != tested[0]
    assert others[0].variant.key() == tested[0]


def test_with_time_for_none_the_quickest_finalist_wins(make_search: Make, carry_out: Carry) -> None:
    search = make_search(trials=12, finalists=3)
    search.executor.accuracy = width_decides
    search.executor.hours = lambda spec: 0.02 if "width=1.5" in spec else 0.01
    winner, *_ = carry_out(search, 20.0)
    assert winner.verdict.hours is not None
    assert winner.verdict.hours.predicted <= 0.02
    assert len(winner.test) == 1
