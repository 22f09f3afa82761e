"""`EvolutionSampler`: regularised evolution (Real et al. 2019, arXiv:1802.01548), as an Optuna sampler."""

from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.search_space import IntersectionSearchSpace
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

POPULATION = 20  # the youngest trials, which may become parents
TOURNAMENT = 5  # of them are drawn; the best one is the parent


class EvolutionSampler(BaseSampler):
    """Each proposal is the winner of a small tournament among the youngest, with one choice made otherwise."""

    def __init__(self, seed: int, population: int = POPULATION, tournament: int = TOURNAMENT) -> None:
        self.seed, self.population, self.tournament = seed, population, tournament
        self._random = RandomSampler(seed)
        self._space = IntersectionSearchSpace(include_pruned=True)

    def reseed_rng(self) -> None:
        """Nothing to do: each trial has random numbers of its own."""

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """The choices that every trial has made, where they are choices."""
        space = self._space.calculate(study)
        return {name: d for name, d in space.items() if isinstance(d, CategoricalDistribution)}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """A mutated parent; nothing while the population is not full."""
        complete = study.get_trials(deepcopy=False, states=[TrialState.COMPLETE])
        able = [t for t in complete if search_space.keys() <= t.params.keys() and not _is_over(t)]
        if len(able) < self.population or not search_space:
            return {}
        rng = np.random.default_rng([self.seed, trial.number])
        youngest = able[-self.population :]
        drawn = [youngest[i] for i in rng.choice(len(youngest), self.tournament, replace=False)]
        sign = 1 if study.direction == StudyDirection.MAXIMIZE else -1
        parent = max(drawn, key=lambda t: sign * (t.value or 0.0)).params
        others = {
            name: [value for value in d.choices if value != parent[name]]  # type: ignore[attr-defined]
            for name, d in search_space.items()
        }
        child = {name: parent[name] for name in search_space}
        if names := sorted(name for name, values in others.items() if values):
            changed = names[rng.integers(len(names))]
            child[changed] = others[changed][rng.integers(len(others[changed]))]
        return child

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """At random: for the first population."""
        return self._random.sample_independent(study, trial, param_name, param_distribution)


def _is_over(trial: FrozenTrial) -> bool:
    return any(value > 0 for value in trial.constraints.values())
