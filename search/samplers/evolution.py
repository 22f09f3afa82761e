"""`EvolutionSampler`: regularized evolution (Real et al. 2019, arXiv:1802.01548)."""

from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.search_space import IntersectionSearchSpace
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

POPULATION_SIZE = 20
TOURNAMENT_SIZE = 5


class EvolutionSampler(BaseSampler):
    """Proposes the winner of a small tournament among the youngest trials, with one choice mutated.

    Args:
        seed: Seed of the random numbers.
        population_size: Number of youngest feasible trials that may become parents. The first ones are random.
        tournament_size: Number of trials drawn from the population; the best of them is the parent.
    """

    def __init__(
        self, seed: int, population_size: int = POPULATION_SIZE, tournament_size: int = TOURNAMENT_SIZE
    ) -> None:
        self.seed, self.population_size, self.tournament_size = seed, population_size, tournament_size
        self._random_sampler = RandomSampler(seed)
        self._search_space = IntersectionSearchSpace(include_pruned=True)

    def reseed_rng(self) -> None:
        """Do nothing, because each trial has its own random number generator."""

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Return the categorical parameters that all trials have in common."""
        space = self._search_space.calculate(study)
        return {name: d for name, d in space.items() if isinstance(d, CategoricalDistribution)}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Return the parameters of a mutated parent; empty until the population is complete."""
        complete = study.get_trials(deepcopy=False, states=[TrialState.COMPLETE])
        feasible = [t for t in complete if search_space.keys() <= t.params.keys() and not _is_infeasible(t)]
        if len(feasible) < self.population_size or not search_space:
            return {}
        rng = np.random.default_rng([self.seed, trial.number])
        population = feasible[-self.population_size :]
        tournament = [population[i] for i in rng.choice(len(population), self.tournament_size, replace=False)]
        sign = 1 if study.direction == StudyDirection.MAXIMIZE else -1
        parent = max(tournament, key=lambda t: sign * (t.value or 0.0)).params
        return _mutate({name: parent[name] for name in search_space}, search_space, rng)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Sample the first population, and parameters that not all trials have, at random."""
        return self._random_sampler.sample_independent(study, trial, param_name, param_distribution)


def _mutate(
    params: dict[str, Any], search_space: dict[str, BaseDistribution], rng: np.random.Generator
) -> dict[str, Any]:
    """Return the parameters with one of them changed."""
    other_values = {
        name: [value for value in distribution.choices if value != params[name]]  # type: ignore[attr-defined]
        for name, distribution in search_space.items()
    }
    names = sorted(name for name, values in other_values.items() if values)
    if not names:
        return params
    changed = names[rng.integers(len(names))]
    value = other_values[changed][rng.integers(len(other_values[changed]))]
    return {**params, changed: value}


def _is_infeasible(trial: FrozenTrial) -> bool:
    return any(value > 0 for value in trial.constraints.values())
