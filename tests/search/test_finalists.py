import math
import time
from collections.abc import Callable
from typing import Any

import optuna
import pytest

from arch.spec import parse
from benchmarks.execution.executor import WorkerFailed
from benchmarks.records.store import RecordStore
from benchmarks.runs.run import Run
from search import trial_attrs
from search.finalists import Finalist, FinalSelection
from search.runner import SearchRunner
from search.settings import SearchSettings
from search.space import ChoiceSpace

Make = Callable[..., Any]
Select = Callable[..., list[Finalist]]


def accuracy_by_width(run: Run) -> float:
    return 50.0 + parse(run.spec).variant().widths[0] / 8 + run.seed / 100


@pytest.fixture
def make_search(make_search: Make) -> Make:
    """Return a function that builds a search of a space with nine architectures."""
    space = ChoiceSpace({"act": ("", "+silu", "+gelu"), "width": ("", "+width=0.5", "+width=1.5")})
    return lambda **fields: make_search(**{"space": space, "trials": 9, **fields})


@pytest.fixture
def select(make_study: Make, store: RecordStore, display: Any) -> Select:
    """Return a function that runs a search and its final selection. Recorded runs are cleared before the selection."""

    def run_and_select(search: SearchSettings, seconds: float = math.inf) -> list[Finalist]:
        study: optuna.Study = make_study(search)
        SearchRunner(search, study, store, display, math.inf).run()
        search.executor.trained.clear()  # type: ignore[attr-defined]
        trials = trial_attrs.ranked(study.get_trials(deepcopy=False))
        return FinalSelection(search, store, display, time.monotonic() + seconds).select(trials)

    return run_and_select


def test_finalists_train_with_all_seeds_and_the_best_mean_wins(make_search: Make, select: Select) -> None:
    search = make_search(finalists=3, seeds=2)
    search.executor.accuracy = accuracy_by_width
    finalists = select(search)
    assert len(finalists) == 3
    assert all(len(finalist.validation) == 2 for finalist in finalists)
    assert {r.benchmark_id for f in finalists for r in f.validation} == {search.validation_id}
    means = [sum(result.top1 for result in finalist.validation) for finalist in finalists]
    assert means == sorted(means, reverse=True)


def test_only_the_winner_is_tested_and_last(make_search: Make, select: Select) -> None:
    search = make_search(finalists=3, seeds=2)
    search.executor.accuracy = accuracy_by_width
    winner, *others = select(search)
    splits = [run.split for run in search.executor.trained]
    assert splits == sorted(splits, reverse=True), "val before test"
    tested = [run for run in search.executor.trained if run.split == "test"]
    assert {run.config.architecture for run in tested} == {winner.config.architecture}
    assert [run.seed for run in tested] == [0, 1]
    assert {result.benchmark_id for result in winner.test} == {search.test_id}
    assert not any(finalist.test for finalist in others)


def test_only_the_winner_keeps_its_weights(make_search: Make, select: Select) -> None:
    search = make_search(finalists=2)
    select(search)
    assert {run.split for run in search.executor.trained if run.keep_weights} == {"test"}


def test_runs_of_the_last_rung_are_not_trained_again(make_search: Make, select: Select) -> None:
    search = make_search(finalists=3, seeds=1)
    search.executor.accuracy = lambda run: accuracy_by_width(run) + run.benchmark.recipe.epochs
    finalists = select(search)
    again = [run for run in search.executor.trained if run.split == "val"]
    assert len(again) < 3 or all(len(f.validation) == 1 for f in finalists)
    assert all(len(finalist.validation) == 1 for finalist in finalists)


@pytest.mark.parametrize(
    ("seconds", "num_finalists", "seeds"),
    [(math.inf, 3, 3), (400, 2, 3), (250, 2, 2), (140, 2, 1), (90, 1, 2), (1, 1, 1)],
)
def test_less_time_reduces_finalists_and_seeds_to_at_least_one(
    make_search: Make, select: Select, seconds: float, num_finalists: int, seeds: int
) -> None:
    search = make_search(finalists=3, seeds=3)
    search.executor.hours = lambda spec: 0.01  # 36 s, plus the training overhead of 2 s
    finalists = select(search, seconds)
    assert len(finalists) == num_finalists
    assert len(finalists[0].test) == seeds
    assert all(len(f.validation) == (seeds if num_finalists > 1 else 0) for f in finalists)


def test_the_base_is_a_finalist_and_wins_if_nothing_is_better(make_search: Make, select: Select) -> None:
    search = make_search(finalists=2, seeds=2)
    base, full = parse(search.space.spec({}), search.benchmark.baseline).architecture, search.benchmark.recipe.epochs

    def base_is_best_only_in_the_end(run: Run) -> float:
        gain = 40.0 if run.benchmark.recipe.epochs == full else -40.0
        return 50.0 + gain * (run.config.architecture == base) + int(run.key, 16) % 100 / 100

    search.executor.accuracy = base_is_best_only_in_the_end
    winner, other = select(search)
    assert winner.config.architecture == base
    assert len(winner.test) == len(other.validation) == 2


def test_a_finalist_over_the_budget_is_replaced_by_the_next(make_search: Make, select: Select, display: Any) -> None:
    search = make_search(finalists=1)
    search.executor.accuracy = accuracy_by_width
    search.executor.hours = lambda spec: 0.001
    check = search.executor.check

    def slow_when_wide(spec: str, benchmark: Any) -> Any:
        search.executor.hours = lambda _: 9.0 if "width=1.5" in spec else 0.001
        return check(spec, benchmark)

    search.executor.check = slow_when_wide
    [winner] = select(search)
    assert "width=1.5" not in winner.spec
    assert any("is not a finalist" in line for line in display.said)


def test_a_finalist_with_a_failed_seed_ranks_below_the_others(
    make_search: Make, select: Select, store: RecordStore
) -> None:
    search = make_search(finalists=3, seeds=3)

    def widest_fails_at_seed_1(run: Run) -> float:
        if run.seed == 1 and run.split == "val" and parse(run.spec).variant().widths[0] == 24:
            raise WorkerFailed("the loss is nan")
        return accuracy_by_width(run)

    search.executor.accuracy = widest_fails_at_seed_1
    finalists = select(search)
    complete = [len(finalist.validation) for finalist in finalists]
    assert complete == sorted(complete, reverse=True)
    assert min(complete) == 2
    assert {failure.reason for failure in store.failed_runs()} == {"the loss is nan"}


def test_no_trainable_finalist_is_an_error(make_search: Make, select: Select) -> None:
    search = make_search(finalists=2)

    def no_test(run: Run) -> float:
        if run.split == "test":
            raise WorkerFailed("out of memory")
        return 50.0

    search.executor.accuracy = no_test
    with pytest.raises(WorkerFailed, match="no finalist could be trained"):
        select(search)


def test_a_winner_that_cannot_be_trained_is_replaced_by_the_next(make_search: Make, select: Select) -> None:
    search = make_search(finalists=3)
    tested: list[str] = []

    def first_has_no_memory(run: Run) -> float:
        if run.split == "test":
            tested.append(run.key)
            if run.key == tested[0]:
                raise WorkerFailed("out of memory")
        return accuracy_by_width(run)

    search.executor.accuracy = first_has_no_memory
    winner, *others = select(search)
    assert winner.test
    assert winner.config.key == tested[-1] != tested[0]
    assert others[0].config.key == tested[0]


def test_without_time_for_any_finalist_the_fastest_wins(make_search: Make, select: Select) -> None:
    search = make_search(finalists=3)
    search.executor.accuracy = accuracy_by_width
    search.executor.hours = lambda spec: 0.02 if "width=1.5" in spec else 0.01
    winner, *_ = select(search, 20.0)
    assert winner.verdict.hours is not None
    assert winner.verdict.hours.predicted <= 0.02
    assert len(winner.test) == 1
