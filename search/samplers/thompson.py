"""`ThompsonSampler`: proposes the best candidate according to a draw from a surrogate (Thompson 1933)."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.search_space import IntersectionSearchSpace
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

from search import trial_attrs
from search.samplers.surrogate import Codes, Floats, Surrogate, normal_scores
from search.space import ABSENT

NUM_STARTUP_TRIALS = 12  # random trials before a surrogate is fitted
NUM_RANDOM_CANDIDATES = 500  # random candidates in the pool from which the proposal is selected
NUM_PARENTS = 10  # best trials whose neighbors are also in the pool
NEIGHBORS_PER_PARENT = 20
ABSENT_PROBABILITY = 0.6  # probability of omitting an optional part; a model with every part would exceed any budget
REFIT_GROWTH = 0.02  # relative number of new observations after which the surrogate is fitted again

Choices = dict[str, dict[Any, int]]  # parameter -> value -> code


class ThompsonSampler(BaseSampler):
    """Sampler for spaces of choices that learns from the accuracy at the first rung, which all trained trials have.

    Known candidates (trained, infeasible, failed or running) are not proposed again. With several objectives, each draw
    weights them at random (ParEGO: Knowles 2006, doi:10.1109/TEVC.2005.851274).

    The sampler is stateless: a new sampler continues a study from its trials.

    Args:
        seed: Seed of the random numbers.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._random_sampler = RandomSampler(seed)
        self._search_space = IntersectionSearchSpace(include_pruned=True)
        self._cache: tuple[int, Surrogate] | None = None  # number of observations, and the surrogate fitted to them

    def reseed_rng(self) -> None:
        """Do nothing, because each trial has its own random number generator."""

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Return the parameters that all trials have in common."""
        return self._search_space.calculate(study)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Return the best unseen candidate according to one draw from the surrogate; empty for the first trials."""
        rng = np.random.default_rng([self.seed, trial.number])
        choices = {name: codes for name, d in search_space.items() if (codes := _codes_by_value(d))}
        encoded = [
            (other, code)
            for other in study.get_trials(deepcopy=False)
            if other.number != trial.number and (code := _encode(_chosen_params(other), choices)) is not None
        ]
        observed = [(other, code) for other, code in encoded if _is_observation(other)]
        if not choices or sum(t.state == TrialState.COMPLETE for t, _ in observed) < NUM_STARTUP_TRIALS:
            return {}
        observed_codes = np.array([code for _, code in observed])
        values = observations([other for other, _ in observed], study.directions, rng)
        seen = {code for _, code in encoded}
        pool = _draw_pool(observed_codes, values, list(choices.values()), rng)
        unseen = np.array([code for code in pool if tuple(code) not in seen])
        if not len(unseen):
            return {}
        surrogate = self._fit(observed_codes, values, rng, reusable=len(study.directions) == 1)
        mean, deviation = surrogate.predict(unseen)
        best = unseen[np.argmax(mean + deviation * rng.standard_normal(len(unseen)))]
        return {name: list(choices[name])[code] for name, code in zip(choices, best, strict=True)}

    def _fit(self, codes: Codes, values: Floats, rng: np.random.Generator, reusable: bool) -> Surrogate:
        """Return the cached surrogate, or fit a new one if it is outdated.

        With several objectives, the values depend on randomly drawn weights of the objectives, so no surrogate is
        reusable.
        """
        if not reusable or self._cache is None or len(values) > self._cache[0] * (1 + REFIT_GROWTH):
            self._cache = len(values), Surrogate.fit(codes, normal_scores(values), rng)
        return self._cache[1]

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Sample the first trials, and parameters that not all trials have, at random."""
        if isinstance(param_distribution, CategoricalDistribution) and ABSENT in param_distribution.choices:
            rng = np.random.default_rng([self.seed, trial.number, *param_name.encode()])
            if rng.random() < ABSENT_PROBABILITY:
                return ABSENT
        return self._random_sampler.sample_independent(study, trial, param_name, param_distribution)


def observations(
    trials: Sequence[FrozenTrial], directions: Sequence[StudyDirection], rng: np.random.Generator
) -> Floats:
    """Return one value per trial, larger is better; -inf for infeasible and failed trials.

    Args:
        trials: Finished trials.
        directions: One direction per objective of the study.
        rng: Draws the weights of several objectives.
    """
    rows = [_first_rung_values(trial) for trial in trials]
    is_trained = np.array([row is not None for row in rows])
    objectives = np.array([row for row in rows if row is not None]).reshape(is_trained.sum(), len(directions))
    signs = np.array([1.0 if direction == StudyDirection.MAXIMIZE else -1.0 for direction in directions])
    values = np.full(len(rows), -np.inf)
    if len(directions) == 1:
        values[is_trained] = signs[0] * objectives[:, 0]
    elif is_trained.any():
        scores = np.stack([normal_scores(column) for column in (signs * objectives).T], 1)
        values[is_trained] = scores @ rng.dirichlet(np.ones(len(directions)))
    return values


def _first_rung_values(trial: FrozenTrial) -> list[float] | None:
    """Return the objectives at the first rung; None for an infeasible or failed trial."""
    if trial.state == TrialState.FAIL or any(value > 0 for value in trial.constraints.values()):
        return None
    if trial.intermediate_values:
        return [trial.intermediate_values[min(trial.intermediate_values)]]
    values: list[float] | None = trial.values
    return values


def _codes_by_value(distribution: BaseDistribution) -> dict[Any, int]:
    """Return all values of a distribution with their codes; empty for a continuous one, which is sampled at random."""
    values: Iterable[Any] = ()
    if isinstance(distribution, CategoricalDistribution):
        values = distribution.choices
    elif isinstance(distribution, IntDistribution):
        values = range(distribution.low, distribution.high + 1, distribution.step)
    return {value: code for code, value in enumerate(values)}


def _is_observation(trial: FrozenTrial) -> bool:
    """Return whether the outcome is information about the candidate; a duplicate or a stopped trial is not."""
    if trial_attrs.DUPLICATE_OF in trial.user_attrs:
        return False
    return trial.state == TrialState.COMPLETE or (
        trial.state == TrialState.FAIL and trial.user_attrs.get(trial_attrs.PERMANENT, True)
    )


def _chosen_params(trial: FrozenTrial) -> dict[str, Any]:
    """Return the parameters of a trial, including those that a queued trial will suggest."""
    return trial.params if trial.state.is_finished() else {**trial.system_attrs.get("fixed_params", {}), **trial.params}


def _encode(params: dict[str, Any], choices: Choices) -> tuple[int, ...] | None:
    """Return the code of each parameter; None if one is missing or has an unknown value."""
    try:
        return tuple(values[params[name]] for name, values in choices.items())
    except KeyError:
        return None


def _draw_pool(codes: Codes, values: Floats, choices: Sequence[dict[Any, int]], rng: np.random.Generator) -> Codes:
    """Draw random candidates, and neighbors of the best trials that differ in one or two choices."""
    sizes = np.array([len(codes_by_value) for codes_by_value in choices])
    absent = np.array([codes_by_value.get(ABSENT, -1) for codes_by_value in choices])
    random = rng.integers(0, sizes, (NUM_RANDOM_CANDIDATES, len(sizes)))
    random = np.where((absent >= 0) & (rng.random(random.shape) < ABSENT_PROBABILITY), absent, random)
    neighbors = codes[np.argsort(-values)[:NUM_PARENTS]].repeat(NEIGHBORS_PER_PARENT, 0)
    for _ in range(2):
        column = rng.integers(0, len(sizes), len(neighbors))
        neighbors[np.arange(len(neighbors)), column] = rng.integers(0, sizes[column])
    return np.unique(np.concatenate([random, neighbors]), axis=0)
