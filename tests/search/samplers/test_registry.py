import warnings

import numpy as np
import optuna
import pytest
from optuna.study import Study
from optuna.trial import TrialState

from search.samplers.registry import SAMPLERS, successive_halving
from search.settings import DIRECTIONS, Objective
from search.space import ChoiceSpace

SPACE = ChoiceSpace({"a": ("", "+se", "+eca"), "b": ("", "+silu"), "c": ("", "+width=0.5", "+width=2")})


def told(name: str, objective: Objective, number: int = 26) -> Study:
    """A study in which every third candidate is over the budget."""
    study = optuna.create_study(
        storage=optuna.storages.InMemoryStorage(), directions=DIRECTIONS[objective], sampler=SAMPLERS[name](3)
    )
    for _ in range(number):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            spec = SPACE.suggest(trial := study.ask())
        trial.set_constraint("budget", float(trial.number % 3 == 2))
        study.tell(trial, [spec.count("+"), len(spec), 1.0][: len(study.directions)])
    return study


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("objective", ["accuracy", "pareto"])
def test_every_sampler_proposes_candidates_of_the_space(name: str, objective: Objective) -> None:
    if name == "evolution" and objective == "pareto":
        pytest.skip("it knows one objective")
    for trial in told(name, objective).trials:
        assert trial.state == TrialState.COMPLETE
        assert all(trial.params[choice] in fragments for choice, fragments in SPACE.choices.items())


@pytest.mark.parametrize("name", SAMPLERS)
def test_the_same_seed_proposes_the_same(name: str) -> None:
    first, second = ([t.params for t in told(name, "accuracy", 16).trials] for _ in range(2))
    assert first == second


def promoted(accuracies: list[float], reduction: int) -> list[bool]:
    """Which of them go on from the first rung, in the order they come."""
    study = optuna.create_study(
        storage=optuna.storages.InMemoryStorage(), direction="maximize", pruner=successive_halving(reduction)
    )
    found = []
    for accuracy in accuracies:
        trial = study.ask()
        trial.report(accuracy, 1)
        found.append(not trial.should_prune())
        study.tell(trial, accuracy)
    return found


@pytest.mark.parametrize("reduction", [2, 4])
def test_the_best_one_in_so_many_goes_on(reduction: int) -> None:
    accuracies = np.random.default_rng(0).permutation(200) / 2
    found = np.array(promoted(accuracies.tolist(), reduction))
    assert abs(found.sum() - 200 / reduction) < 20
    assert accuracies[found].min() > accuracies[~found][50:].mean()


def test_nobody_goes_on_before_there_are_enough_to_compare_with() -> None:
    assert promoted([90.0, *range(20)], 4)[:7] == [False] * 7
    assert promoted([*range(8), 99.0], 4)[-1]
    assert not promoted([*range(8), 0.5], 4)[-1]


def test_each_rung_asks_anew() -> None:
    study = optuna.create_study(
        storage=optuna.storages.InMemoryStorage(), direction="maximize", pruner=successive_halving(4)
    )
    for accuracy in range(40):
        trial = study.ask()
        trial.report(accuracy, 1)
        if not trial.should_prune():
            trial.report(accuracy, 4)
            trial.should_prune()
        study.tell(trial, accuracy)
    trial = study.ask()
    trial.report(100.0, 1)
    assert not trial.should_prune()
    trial.report(0.0, 4)
    assert trial.should_prune()
