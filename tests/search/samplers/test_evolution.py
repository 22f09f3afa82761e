from collections.abc import Callable
from typing import Any, Literal

import optuna
import pytest
from optuna.samplers import BaseSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from search.samplers.evolution import EvolutionSampler
from search.space import ChoiceSpace

SPACE = ChoiceSpace(
    {"a": ("", "+se", "+eca"), "b": ("", "+silu"), "c": ("", "+width=0.5", "+width=2"), "d": ("+blurpool",)}
)
POPULATION_SIZE = 8


def run_study(
    sampler: BaseSampler, num_trials: int, is_infeasible: Callable[[dict[str, Any]], bool] = lambda params: False
) -> Study:
    """Run a study whose objective is the number of `+` signs in a spec."""
    study = optuna.create_study(storage=optuna.storages.InMemoryStorage(), direction="maximize", sampler=sampler)
    for _ in range(num_trials):
        trial = study.ask()
        spec = SPACE.suggest(trial)
        if is_infeasible(trial.params):
            trial.set_constraint("budget", 1.0)
        study.tell(trial, spec.count("+"))
    return study


def small_sampler(seed: int = 0) -> EvolutionSampler:
    return EvolutionSampler(seed, POPULATION_SIZE, tournament_size=3)


def num_mutations(child: FrozenTrial, parents: list[FrozenTrial]) -> int:
    """Return the number of choices in which the child differs from the nearest parent."""
    return min(len([name for name in SPACE.choices if child.params[name] != p.params[name]]) for p in parents)


def test_first_population_is_random() -> None:
    study = run_study(small_sampler(), POPULATION_SIZE - 1)
    trial = study.ask()
    assert trial.relative_params == {}
    SPACE.suggest(trial)
    study.tell(trial, 0.0)
    assert study.ask().relative_params.keys() == {"a", "b", "c", "d"}


def test_mutation_changes_one_choice_of_the_parent() -> None:
    parent = {name: fragments[0] for name, fragments in SPACE.choices.items()}
    study = run_study(small_sampler(), 0)
    for _ in range(POPULATION_SIZE):
        study.enqueue_trial(parent)
    for _ in range(POPULATION_SIZE):
        SPACE.suggest(trial := study.ask())
        study.tell(trial, 1.0)
    mutated: set[str] = set()
    for _ in range(30):
        SPACE.suggest(trial := study.ask())
        names = {name for name in parent if trial.params[name] != parent[name]}
        assert len(names) == 1
        mutated |= names
        study.tell(trial, state=TrialState.FAIL)
    assert mutated == {"a", "b", "c"}  # choice d has only one value


def test_only_the_youngest_trials_are_parents() -> None:
    trials = run_study(small_sampler(), 40).trials
    for number in range(POPULATION_SIZE, 40):
        assert num_mutations(trials[number], trials[number - POPULATION_SIZE : number]) <= 1


@pytest.mark.parametrize("seed", range(2))
def test_evolution_follows_the_direction_of_the_study(seed: int) -> None:
    def mean_objective(direction: Literal["maximize", "minimize"]) -> float:
        """Return the mean sum of twelve bits over the last 50 trials. Random search has a mean of 6."""
        storage, sampler = optuna.storages.InMemoryStorage(), EvolutionSampler(seed)
        study = optuna.create_study(storage=storage, direction=direction, sampler=sampler)
        study.optimize(lambda trial: sum(float(trial.suggest_categorical(f"c{i}", [0, 1])) for i in range(12)), 200)
        return sum(trial.value or 0.0 for trial in study.trials[-50:]) / 50

    assert mean_objective("maximize") > 8.5
    assert mean_objective("minimize") < 3.5


def test_infeasible_trials_are_not_parents() -> None:
    study = run_study(small_sampler(), 80, lambda params: params["a"] == "+se")
    feasible = [trial for trial in study.trials if trial.params["a"] != "+se"]
    for child in study.trials[40:]:
        population = [trial for trial in feasible if trial.number < child.number][-POPULATION_SIZE:]
        assert num_mutations(child, population) <= 1


def test_proposals_are_random_while_all_trials_are_infeasible() -> None:
    assert run_study(small_sampler(), 30, lambda params: True).ask().relative_params == {}


def test_child_depends_only_on_seed_and_trials() -> None:
    trials = run_study(small_sampler(), 20).trials

    def child(seed: int) -> dict[str, Any]:
        storage = optuna.storages.InMemoryStorage()
        study = optuna.create_study(storage=storage, direction="maximize", sampler=small_sampler(seed))
        study.add_trials(trials)
        return study.ask().relative_params or {}

    assert child(4) == child(4) != {}
    assert len({tuple(child(seed).values()) for seed in range(8)}) > 1


@pytest.mark.parametrize("period", [1, 4])
def test_continuous_and_conditional_parameters_are_not_mutated(period: int) -> None:
    storage = optuna.storages.InMemoryStorage()
    study = optuna.create_study(storage=storage, direction="maximize", sampler=small_sampler())

    def objective(trial: optuna.Trial) -> float:
        rate = trial.suggest_float("rate", 0, 1)
        bonus = trial.suggest_categorical("bonus", [0, 1]) if trial.number % period == 0 else 0
        return rate + bonus

    study.optimize(objective, 20)
    assert study.ask().relative_params.keys() == ({"bonus"} if period == 1 else set())
