from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState

from search.samplers.thompson import FIRST, ThompsonSampler, observations
from search.settings import DIRECTIONS

SIZES = (3, 4, 2, 5, 3, 2)
GAINS = [np.random.default_rng(3).permutation(size) / size * 2.0**-i for i, size in enumerate(SIZES)]
BEST = tuple(int(gain.argmax()) for gain in GAINS)
SMALL = list(product(*map(range, SIZES[:3])))


def suggest(trial: Trial, sizes: tuple[int, ...] = SIZES) -> tuple[int, ...]:
    return tuple(trial.suggest_categorical(f"c{i}", range(size)) for i, size in enumerate(sizes))


def accuracy(chosen: tuple[int, ...]) -> float:
    return float(sum(gain[value] for gain, value in zip(GAINS, chosen, strict=False)))


def study_with(sampler: BaseSampler, objectives: int = 1) -> Study:
    directions = DIRECTIONS["pareto"][:objectives]
    return optuna.create_study(storage=optuna.storages.InMemoryStorage(), directions=directions, sampler=sampler)


def trained(sampler: BaseSampler, number: int) -> Study:
    study = study_with(sampler)
    study.optimize(lambda trial: accuracy(suggest(trial)), number)
    return study


def proposed(study: Study, sampler: BaseSampler) -> dict[str, Any]:
    """What a sampler says to the study's next trial."""
    trial = FrozenTrial(len(study.trials), TrialState.RUNNING, None, None, None, {}, {}, {}, {}, {}, -1)
    return sampler.sample_relative(study, trial, sampler.infer_relative_search_space(study, trial))


@pytest.mark.parametrize("seed", range(3))
def test_nothing_is_proposed_twice_until_the_space_is_exhausted(seed: int) -> None:
    study = study_with(ThompsonSampler(seed))
    for number in range(FIRST):  # at random, so they may repeat themselves
        study.add_trial(
            optuna.trial.create_trial(
                params={f"c{i}": value for i, value in enumerate(SMALL[number])},
                distributions={f"c{i}": CategoricalDistribution(range(size)) for i, size in enumerate(SIZES[:3])},
                value=accuracy(SMALL[number]),
            )
        )
    for number in range(FIRST, len(SMALL)):
        trial = study.ask()
        chosen = suggest(trial, SIZES[:3])
        if number % 3 == 0:
            study.tell(trial, state=TrialState.FAIL)
        elif number % 3 == 1:
            study.tell(trial, accuracy(chosen))  # the others stay at work
    taken = [tuple(trial.params.values()) for trial in study.trials]
    assert sorted(taken) == SMALL
    assert suggest(study.ask(), SIZES[:3]) in SMALL  # and then it goes on, at random


def test_the_first_ones_are_drawn_at_random() -> None:
    study, relative = study_with(ThompsonSampler(0)), []
    for _ in range(FIRST + 3):
        trial = study.ask()
        relative.append(bool(trial.relative_params))
        study.tell(trial, accuracy(suggest(trial)))
    assert relative == [False] * FIRST + [True] * 3


def test_what_has_failed_does_not_count_as_one_of_the_first() -> None:
    study = study_with(ThompsonSampler(0))
    for _ in range(2 * FIRST):
        trial = study.ask()
        suggest(trial)
        study.tell(trial, state=TrialState.FAIL)
    assert study.ask().relative_params == {}


@pytest.mark.parametrize("number", [FIRST, 40, 120])
def test_a_sampler_that_has_just_been_made_proposes_the_same_for_the_same_trials(number: int) -> None:
    study = trained(ThompsonSampler(0), number)
    first, second = proposed(study, ThompsonSampler(5)), proposed(study, ThompsonSampler(5))
    assert first
    assert first == second
    others = [tuple(proposed(study, ThompsonSampler(seed)).values()) for seed in range(6)]
    assert len(set(others)) > 1


def test_the_best_is_found_in_far_fewer_trials_than_at_random() -> None:
    def needed(sampler: BaseSampler) -> int:
        study = study_with(sampler)
        for number in range(2000):
            trial = study.ask()
            chosen = suggest(trial)
            if chosen == BEST:
                return number
            study.tell(trial, accuracy(chosen))
        return 2000

    learned = [needed(ThompsonSampler(seed)) for seed in range(3)]
    drawn = [needed(RandomSampler(seed)) for seed in range(8)]  # of a space of 720
    assert max(learned) < 100
    assert np.mean(drawn) > 5 * np.mean(learned)


def test_what_is_infeasible_is_avoided_later() -> None:
    def share_over(seed: int) -> tuple[int, int]:
        study, over = study_with(ThompsonSampler(seed)), []
        for _ in range(60):
            trial = study.ask()
            chosen = suggest(trial)
            over.append(chosen[0] == BEST[0])  # the half of the space that would be best
            if over[-1]:
                trial.set_constraint("budget", 0.5)
            study.tell(trial, 10 + accuracy(chosen))
        return sum(over[:FIRST]), sum(over[-20:])

    first, last = zip(*map(share_over, range(3)), strict=True)
    assert sum(first) >= 6
    assert sum(last) <= 9  # of 60, where chance would be 30


def test_the_first_rung_is_what_it_learns_from(make_trial: Callable[..., FrozenTrial]) -> None:
    rng = np.random.default_rng(0)
    trial = make_trial()
    trial.intermediate_values = {1: 50.0, 4: 70.0}
    trial.values = [70.0]
    failed, refused = make_trial(), make_trial()
    failed.state = TrialState.FAIL
    failed.intermediate_values = {1: 99.0}
    refused.system_attrs = {"constraints:budget": 1.0}
    found = observations([trial, failed, make_trial(top1=[60.0])], DIRECTIONS_OF_ONE, rng)
    assert found.tolist() == [50.0, -np.inf, 60.0]


DIRECTIONS_OF_ONE = [optuna.study.StudyDirection.MAXIMIZE]


@pytest.mark.parametrize("objectives", [2, 3])
def test_several_objectives_are_weighed_and_all_of_them_sought(objectives: int) -> None:
    study = study_with(ThompsonSampler(0), objectives)
    for _ in range(80):
        trial = study.ask()
        chosen = suggest(trial)
        cost = 1.0 + sum(chosen)
        study.tell(trial, [accuracy(chosen), cost, cost][:objectives])
    learned = study.trials[FIRST:]
    assert len({tuple(trial.params.values()) for trial in learned}) == len(learned)
    assert max(trial.values[0] for trial in learned) > 0.97 * accuracy(BEST)
    assert min(trial.values[1] for trial in learned) <= 2


def test_whole_numbers_are_choices_too() -> None:
    study = study_with(ThompsonSampler(0))

    def objective(trial: Trial) -> float:
        depth, width = trial.suggest_int("depth", 1, 9, step=2), trial.suggest_int("width", 8, 16)
        return -abs(depth - 7) - abs(width - 11)

    study.optimize(objective, 40)
    assert study.best_params == {"depth": 7, "width": 11}
    assert len({tuple(trial.params.values()) for trial in study.trials[FIRST:]}) == 40 - FIRST


def test_what_has_no_steps_is_drawn_beside_what_is_chosen() -> None:
    study = study_with(ThompsonSampler(0))
    study.optimize(lambda t: t.suggest_float("rate", 0, 1) + accuracy(suggest(t)), 20)
    trial = study.ask()
    assert trial.relative_params.keys() == {f"c{i}" for i in range(len(SIZES))}
    assert FloatDistribution(0, 1) == study.trials[0].distributions["rate"]


def test_choices_that_are_not_always_made_are_drawn_at_random() -> None:
    study = study_with(ThompsonSampler(0))

    def objective(trial: Trial) -> float:
        if trial.suggest_categorical("deep", [False, True]):
            return 1.0 + trial.suggest_int("blocks", 1, 50)
        return float(trial.suggest_categorical("wide", [0, 1]))

    study.optimize(objective, 30)
    assert all(trial.state == TrialState.COMPLETE for trial in study.trials)
    assert {len(trial.params) for trial in study.trials} == {2}
    assert {frozenset(trial.params) for trial in study.trials} == {frozenset(("deep", k)) for k in ("blocks", "wide")}


def test_trials_without_a_common_choice_are_all_drawn_at_random() -> None:
    study = study_with(ThompsonSampler(0))
    study.optimize(lambda t: float(t.suggest_int(f"c{t.number % 2}", 0, 9)), 20)
    assert study.ask().relative_params == {}


def add(study: Study, high: int, state: TrialState, value: int = 0) -> None:
    done = 1.0 if state == TrialState.COMPLETE else None
    distributions: dict[str, BaseDistribution] = {"n": IntDistribution(0, high)}
    study.add_trial(
        optuna.trial.create_trial(state=state, params={"n": value}, distributions=distributions, value=done)
    )


@pytest.mark.parametrize("state", [TrialState.FAIL, TrialState.RUNNING])
def test_a_range_that_was_once_another_hinders_nothing(state: TrialState) -> None:
    study = study_with(ThompsonSampler(0))
    for value in range(FIRST):
        add(study, 20, TrialState.COMPLETE, value)
    add(study, 50, state, 40)
    assert proposed(study, ThompsonSampler(0))["n"] in range(FIRST, 21)


def test_what_is_waiting_is_not_proposed() -> None:
    study = study_with(ThompsonSampler(0))
    for value in range(FIRST):
        add(study, FIRST + 1, TrialState.COMPLETE, value)
    study.enqueue_trial({"n": FIRST})
    assert proposed(study, ThompsonSampler(0)) == {"n": FIRST + 1}
