"""`ThompsonSampler`: proposes what a draw from the surrogate's beliefs says is best (Thompson 1933)."""

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

FIRST = 12  # trials drawn at random before a surrogate is fitted
POOL = 500  # unseen candidates, drawn at random, among which one is chosen
ABSENT_SHARE = 0.6  # of random candidates that go without a part, where a choice may add none
PARENTS = 10  # of the best so far, whose neighbours are in the pool too
NEIGHBOURS = 20  # of each of them
REFIT = 0.02  # share of new observations from which on the surrogate is fitted anew


class ThompsonSampler(BaseSampler):
    """For spaces of choices. Learns from the accuracy at the first rung, which all that were trained have.

    A candidate that was infeasible, failed or is at work is not proposed again. With several objectives each draw
    weighs them at random (Knowles 2006, ParEGO, doi:10.1109/TEVC.2005.851274).
    Nothing has to be kept to go on with a study: a fresh sampler learns all from its trials.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._random = RandomSampler(seed)
        self._space = IntersectionSearchSpace(include_pruned=True)
        self._fitted: tuple[int, Surrogate] | None = None  # on so many observations

    def reseed_rng(self) -> None:
        """Nothing to do: each trial has random numbers of its own."""

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """The choices that every trial has made."""
        return self._space.calculate(study)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """The most promising unseen candidate of a pool, by one draw from the surrogate."""
        rng = np.random.default_rng([self.seed, trial.number])
        choices = {name: values for name, d in search_space.items() if (values := _values(d))}
        coded = [(t, _code(_chosen(t), choices)) for t in study.get_trials(deepcopy=False) if t.number != trial.number]
        known = [(t, code) for t, code in coded if code is not None]
        told, seen = [(t, code) for t, code in known if _tells(t)], {code for _, code in known}
        if not choices or sum(t.state == TrialState.COMPLETE for t, _ in told) < FIRST:
            return {}
        codes = np.array([code for _, code in told])
        observed = observations([t for t, _ in told], study.directions, rng)
        pool = _pool(codes, observed, list(choices.values()), rng)
        unseen = np.array([code for code in pool if tuple(code) not in seen])
        if not len(unseen):
            return {}
        mean, deviation = self._surrogate(codes, observed, rng, len(study.directions) == 1).predict(unseen)
        best = unseen[np.argmax(mean + deviation * rng.standard_normal(len(unseen)))]
        return {name: list(values)[code] for (name, values), code in zip(choices.items(), best, strict=True)}

    def _surrogate(self, codes: Codes, values: Floats, rng: np.random.Generator, keep: bool) -> Surrogate:
        """Fitted anew once there is enough to learn; always where the objectives are weighed anew."""
        if not keep or self._fitted is None or len(values) > self._fitted[0] * (1 + REFIT):
            self._fitted = len(values), Surrogate.fit(codes, normal_scores(values), rng)
        return self._fitted[1]

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """At random: for the first trials, and for choices that are not always made."""
        if isinstance(param_distribution, CategoricalDistribution) and ABSENT in param_distribution.choices:
            rng = np.random.default_rng([self.seed, trial.number, *param_name.encode()])
            if rng.random() < ABSENT_SHARE:  # all parts at once make a net that no budget holds
                return ABSENT
        return self._random.sample_independent(study, trial, param_name, param_distribution)


def observations(
    trials: Sequence[FrozenTrial], directions: Sequence[StudyDirection], rng: np.random.Generator
) -> Floats:
    """One value each, larger is better; what was infeasible or failed is worse than all others."""
    rows = [_first_values(trial) for trial in trials]
    good = np.array([row is not None for row in rows])
    table = np.array([row for row in rows if row is not None]).reshape(good.sum(), len(directions))
    signs = np.array([1.0 if direction == StudyDirection.MAXIMIZE else -1.0 for direction in directions])
    values = np.full(len(rows), -np.inf)
    if len(directions) == 1:
        values[good] = signs[0] * table[:, 0]
    elif good.any():
        scores = np.stack([normal_scores(column) for column in (signs * table).T], 1)
        values[good] = scores @ rng.dirichlet(np.ones(len(directions)))
    return values


def _first_values(trial: FrozenTrial) -> list[float] | None:
    """The objectives at the first rung; None for what was not trained or is over the budget."""
    if trial.state == TrialState.FAIL or any(value > 0 for value in trial.constraints.values()):
        return None
    if trial.intermediate_values:
        return [trial.intermediate_values[min(trial.intermediate_values)]]
    values: list[float] | None = trial.values
    return values


def _values(distribution: BaseDistribution) -> dict[Any, int]:
    """All that a choice can be, numbered; nothing for a range without steps, which is drawn at random."""
    values: Iterable[Any] = ()
    if isinstance(distribution, CategoricalDistribution):
        values = distribution.choices
    elif isinstance(distribution, IntDistribution):
        values = range(distribution.low, distribution.high + 1, distribution.step)
    return {value: number for number, value in enumerate(values)}


def _tells(trial: FrozenTrial) -> bool:
    """Whether its end says something that others do not: a worker's death, a stop or a twin's outcome does not."""
    if trial_attrs.DUPLICATE_OF in trial.user_attrs:
        return False
    return trial.state == TrialState.COMPLETE or (
        trial.state == TrialState.FAIL and trial.user_attrs.get(trial_attrs.PERMANENT, True)
    )


def _chosen(trial: FrozenTrial) -> dict[str, Any]:
    """What a trial has chosen; of one that is queued, or was a moment ago, what it will."""
    return trial.params if trial.state.is_finished() else {**trial.system_attrs.get("fixed_params", {}), **trial.params}


def _code(params: dict[str, Any], choices: dict[str, dict[Any, int]]) -> tuple[int, ...] | None:
    """The number of each choice's value; None where one is missing, or is none of the values."""
    try:
        return tuple(values[params[name]] for name, values in choices.items())
    except KeyError:
        return None


def _pool(codes: Codes, values: Floats, choices: Sequence[dict[Any, int]], rng: np.random.Generator) -> Codes:
    """Candidates drawn at random, and neighbours of the best: one or two choices made otherwise."""
    sizes = np.array([len(values) for values in choices])
    absent = np.array([values.get(ABSENT, -1) for values in choices])
    drawn = rng.integers(0, sizes, (POOL, len(sizes)))
    drawn = np.where((absent >= 0) & (rng.random(drawn.shape) < ABSENT_SHARE), absent, drawn)
    parents = codes[np.argsort(-values)[:PARENTS]].repeat(NEIGHBOURS, 0)
    for _ in range(2):
        column = rng.integers(0, len(sizes), len(parents))
        parents[np.arange(len(parents)), column] = rng.integers(0, sizes[column])
    return np.unique(np.concatenate([drawn, parents]), axis=0)
