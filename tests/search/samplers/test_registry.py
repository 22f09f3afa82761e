import warnings
from functools import cache

import optuna
import pytest
from optuna.study import Study
from optuna.trial import TrialState

from search.samplers.registry import OTHER_SAMPLERS, create_sampler
from search.settings import DIRECTIONS, Objective
from search.space import ChoiceSpace

NAMES = ["thompson", *OTHER_SAMPLERS]
SPACE = ChoiceSpace({"a": ("", "+se", "+eca"), "b": ("", "+silu"), "c": ("", "+width=0.5", "+width=2")})


def run_study(name: str, objective: Objective, count: int) -> Study:
    """Run a study in which every third candidate is over the budget."""
    study = optuna.create_study(
        storage=optuna.storages.InMemoryStorage(), directions=DIRECTIONS[objective], sampler=create_sampler(name, 3)
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
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("objective", ["accuracy", "pareto"])
def test_every_sampler_proposes_candidates_of_the_space(name: str, objective: Objective) -> None:
    if name == "evolution" and objective == "pareto":
        pytest.skip("evolution supports only one objective")
    for trial in shared_study(name, objective).trials:
        assert trial.state == TrialState.COMPLETE
        assert all(trial.params[choice] in fragments for choice, fragments in SPACE.choices.items())


@pytest.mark.parametrize("name", NAMES)
def test_proposals_are_reproducible(name: str) -> None:
    first = shared_study(name, "accuracy").trials
    second = run_study(name, "accuracy", num_trials(name)).trials
    assert [trial.params for trial in second] == [trial.params for trial in first]
