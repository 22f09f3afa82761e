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
POPULATION = 8


def grow(sampler: BaseSampler, number: int, is_over: Callable[[dict[str, Any]], bool] = lambda params: False) -> Study:
    """A study in which each `+` of a spec is worth a point."""
    study = optuna.create_study(storage=optuna.storages.InMemoryStorage(), direction="maximize", sampler=sampler)
    for _ in range(number):
        trial = study.ask()
        spec = SPACE.suggest(trial)
        if is_over(trial.params):
            trial.set_constraint("budget", 1.0)
        study.tell(trial, spec.count("+"))
    return study


def small(seed: int = 0) -> EvolutionSampler:
    return EvolutionSampler(seed, POPULATION, 3)


def differences(child: FrozenTrial, parents: list[FrozenTrial]) -> int:
    """From the parent that is nearest."""
    return min(len([name for name in SPACE.choices if child.params[name] != p.params[name]]) for p in parents)


def test_the_first_population_is_drawn_at_random() -> None:
    study = grow(small(), POPULATION - 1)
    trial = study.ask()
    assert trial.relative_params == {}
    SPACE.suggest(trial)
    study.tell(trial, 0.0)
    assert study.ask().relative_params.keys() == {"a", "b", "c", "d"}


def test_a_mutation_changes_exactly_one_choice_of_a_parent() -> None:
    common = {name: fragments[0] for name, fragments in SPACE.choices.items()}
    study = grow(small(), 0)
    for _ in range(POPULATION):
        study.enqueue_trial(common)
    for _ in range(POPULATION):
        SPACE.suggest(trial := study.ask())
        study.tell(trial, 1.0)
    changed: set[str] = set()
    for _ in range(30):
        SPACE.suggest(trial := study.ask())
        names = {name for name in common if trial.params[name] != common[name]}
        assert len(names) == 1
        changed |= names
        study.tell(trial, state=TrialState.FAIL)
    assert changed == {"a", "b", "c"}  # the last one has nothing else to be


def test_only_the_youngest_are_parents() -> None:
    study = grow(small(), 40)
    for number in range(POPULATION, 40):
        assert differences(study.trials[number], study.trials[number - POPULATION : number]) <= 1


@pytest.mark.parametrize("seed", range(2))
def test_it_goes_where_the_objective_points(seed: int) -> None:
    def reached(direction: Literal["maximize", "minimize"]) -> float:
        """How many of twelve are chosen, on average; six are at random."""
        storage, sampler = optuna.storages.InMemoryStorage(), EvolutionSampler(seed)
        study = optuna.create_study(storage=storage, direction=direction, sampler=sampler)
        study.optimize(lambda trial: sum(float(trial.suggest_categorical(f"c{i}", [0, 1])) for i in range(12)), 200)
        return sum(trial.value or 0.0 for trial in study.trials[-50:]) / 50

    assert reached("maximize") > 8.5
    assert reached("minimize") < 3.5


def test_what_is_infeasible_is_no_parent() -> None:
    study = grow(small(), 80, lambda params: params["a"] == "+se")
    able = [t for t in study.trials if t.params["a"] != "+se"]
    for child in study.trials[40:]:
        before = [trial for trial in able if trial.number < child.number][-POPULATION:]
        assert differences(child, before) <= 1


def test_while_all_are_infeasible_it_draws_at_random() -> None:
    assert grow(small(), 30, lambda params: True).ask().relative_params == {}


def test_the_same_seed_and_trials_give_the_same_child() -> None:
    found = grow(small(), 20).trials

    def child(seed: int) -> dict[str, Any]:
        study = optuna.create_study(
            storage=optuna.storages.InMemoryStorage(), direction="maximize", sampler=small(seed)
        )
        study.add_trials(found)
        return study.ask().relative_params or {}

    assert child(4) == child(4) != {}
    assert len({tuple(child(seed).values()) for seed in range(8)}) > 1


@pytest.mark.parametrize("number", [1, 4])
def test_ranges_and_choices_that_are_not_always_made_are_drawn(number: int) -> None:
    study = optuna.create_study(storage=optuna.storages.InMemoryStorage(), direction="maximize", sampler=small())

    def objective(trial: optuna.Trial) -> float:
        rate = trial.suggest_float("rate", 0, 1)
        more = trial.suggest_categorical("more", [0, 1]) if trial.number % number == 0 else 0
        return rate + more

    study.optimize(objective, 20)
    assert study.ask().relative_params.keys() == ({"more"} if number == 1 else set())
