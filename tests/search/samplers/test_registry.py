import warnings
from functools import cache

import numpy as np
import optuna
import pytest
from optuna.study import Study
from optuna.trial import TrialState

from search.samplers.registry import SAMPLERS, successive_halving
from search.settings import DIRECTIONS, Objective
from search.space import ChoiceSpace

SPACE = ChoiceSpace({"a": ("", "+se", "+eca"), "b": ("", "+silu"), "c": ("", "+width=0.5", "+width=2")})


def run_study(name: str, objective: Objective, count: int) -> Study:
    """Run a study in which every third candidate is over the budget."""
    study = optuna.create_study(
        storage=optuna.storages.InMemoryStorage(), directions=DIRECTIONS[objective], sampler=SAMPLERS[name](3)
    )
    for _ in range(count):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            spec = SPACE.suggest(trial := study.ask())
        trial.set_constraint("budget", float(trial.number % 3 == 2))
        study.tell(trial, [spec.count("+"), len(spec), 1.0][: len(study.directions)])
    return study


def num_trials(name: str) -> int:
    """Return enough trials for startup and some proposals. The GP sampler takes about a second per proposal."""
    return 14 if name == "gp" else 26


@cache
def shared_study(name: str, objective: Objective) -> Study:
    return run_study(name, objective, num_trials(name))


@pytest.mark.slow
@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("objective", ["accuracy", "pareto"])
def test_every_sampler_proposes_candidates_of_the_space(name: str, objective: Objective) -> None:
    if name == "evolution" and objective == "pareto":
        pytest.skip("evolution supports only one objective")
    for trial in shared_study(name, objective).trials:
        assert trial.state == TrialState.COMPLETE
        assert all(trial.params[choice] in fragments for choice, fragments in SPACE.choices.items())


@pytest.mark.parametrize("name", SAMPLERS)
def test_proposals_are_reproducible(name: str) -> None:
    first = shared_study(name, "accuracy").trials
    second = run_study(name, "accuracy", num_trials(name)).trials
    assert [trial.params for trial in second] == [trial.params for trial in first]


def promoted(accuracies: list[float], reduction_factor: int) -> list[bool]:
    """Return whether each trial is promoted from the first rung, in the order in which the trials complete it."""
    study = optuna.create_study(
        storage=optuna.storages.InMemoryStorage(), direction="maximize", pruner=successive_halving(reduction_factor)
    )
    is_promoted = []
    for accuracy in accuracies:
        trial = study.ask()
        trial.report(accuracy, 1)
        is_promoted.append(not trial.should_prune())
        study.tell(trial, accuracy)
    return is_promoted


@pytest.mark.parametrize("reduction_factor", [2, 4])
def test_one_in_reduction_factor_trials_is_promoted(reduction_factor: int) -> None:
    accuracies = np.random.default_rng(0).permutation(200) / 2
    is_promoted = np.array(promoted(accuracies.tolist(), reduction_factor))
    assert abs(is_promoted.sum() - 200 / reduction_factor) < 20
    assert accuracies[is_promoted].min() > accuracies[~is_promoted][50:].mean()


def test_no_trial_is_promoted_before_enough_have_finished_the_rung() -> None:
    assert promoted([90.0, *range(20)], 4)[:7] == [False] * 7
    assert promoted([*range(8), 99.0], 4)[-1]
    assert not promoted([*range(8), 0.5], 4)[-1]


def test_each_rung_is_pruned_separately() -> None:
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
