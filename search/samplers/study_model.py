"""`StudyModel`: what a study knows about candidates, as a model that proposals and promotions share."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from optuna.distributions import BaseDistribution
from optuna.search_space import intersection_search_space
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

from search import trial_attrs
from search.samplers.costs import CostModel, Costs, CostSample, log_of
from search.samplers.encoding import Choices, choices_of, chosen_params, decode, encode
from search.samplers.rung_model import Observations, RungModel
from search.samplers.surrogate import Codes, Floats, Inputs

FAILED = -1  # step of a failure, which counts as the worst accuracy after the first step
REFIT_GROWTH = 0.02  # relative number of new observations after which a model is fitted again

Code = tuple[int, ...]


@dataclass(frozen=True)
class StudyView:
    """The trials of a study as arrays.

    Attributes:
        choices: The values of each parameter that all trials have.
        seen: The codes of all trials, including running and infeasible ones.
        observed_codes: The code of each observation.
        observed: The trained candidates, each once.
        costs: Predicts the costs of candidates.
    """

    choices: Choices
    seen: frozenset[Code]
    observed_codes: Sequence[Code]
    observed: Observations
    costs: CostModel


@dataclass(frozen=True)
class _TrialData:
    """What the model uses of one trial: its code, the accuracy after each step of training, and its costs."""

    code: Code | None  # None if a parameter is missing
    outcomes: dict[int, float]
    costs: Costs


class StudyModel:
    """Reads the trials of a study, and fits a model to them.

    Args:
        sample: Random candidates with their costs, and the limits of the search.

    Attributes:
        limits: Maximum costs of a candidate. A search tightens them while its time runs out.
    """

    def __init__(self, sample: CostSample) -> None:
        self.sample, self.limits = sample, sample.limits
        self._search_space: dict[str, BaseDistribution] = {}
        self._in_search_space: set[int] = set()  # numbers of the trials that it has been calculated from
        self._finished: tuple[Choices, dict[int, _TrialData]] = {}, {}  # the data of finished trials do not change
        self._counted: dict[Code, Costs] = {}  # the sample first
        self._num_sampled = 0
        self._costs: tuple[int, CostModel] | None = None  # number of counted candidates, and the model of them
        self._features: dict[Code, Floats] = {}  # of observed candidates, according to this model
        self._cache: tuple[tuple[float, ...], RungModel] | None = None  # observations per rung, and the model of them

    def search_space(self, trials: Sequence[FrozenTrial]) -> dict[str, BaseDistribution]:
        """Return the parameters that all complete trials have in common, sorted by name.

        Optuna's `IntersectionSearchSpace` would read the trials from the storage again.
        """
        complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
        if new := [trial for trial in complete if trial.number not in self._in_search_space]:
            space = intersection_search_space(new)
            if self._in_search_space:
                space = {name: known for name, known in self._search_space.items() if space.get(name) == known}
            self._search_space = space
            self._in_search_space.update(trial.number for trial in new)
        return self._search_space

    def view(
        self, study: Study, trials: Sequence[FrozenTrial], number: int | None = None, weights: Floats | None = None
    ) -> StudyView:
        """Return the trials of a study as arrays.

        Args:
            study: The study.
            trials: Its trials, which the caller has read from the storage.
            number: The number of a trial to leave out, the one that asks.
            weights: One weight for each of several objectives, whose weighted sum then takes the place of the accuracy.
        """
        choices = choices_of(self.search_space(trials))
        if choices != self._finished[0]:
            self._finished, self._costs = (choices, {}), None
            encoded = ((encode(counted.chosen, choices), counted.costs) for counted in self.sample.candidates)
            self._counted = {code: costs for code, costs in encoded if code is not None}
            self._num_sampled = len(self._counted)
        read = (self._read(trial, study.directions, weights) for trial in trials if trial.number != number)
        known = [data for data in read if data.code is not None]
        rows: dict[Code, dict[int, float]] = {}
        for data in known:
            for step, accuracy in data.outcomes.items():
                rows.setdefault(data.code or (), {}).setdefault(step, accuracy)
        costs = self._cost_model(choices, known)
        observed = Observations(self._inputs(list(rows), choices, costs), _to_array(list(rows.values())))
        return StudyView(choices, frozenset(data.code or () for data in known), list(rows), observed, costs)

    def _read(self, trial: FrozenTrial, directions: Sequence[StudyDirection], weights: Floats | None) -> _TrialData:
        choices, finished = self._finished
        if trial.number in finished and weights is None:
            return finished[trial.number]
        code = encode(chosen_params(trial), choices)
        data = _TrialData(code, _outcomes(trial, directions, weights), _costs(trial))
        if trial.state.is_finished():
            finished[trial.number] = data
        return data

    def _inputs(self, observed_codes: Sequence[Code], choices: Choices, costs: CostModel) -> Inputs:
        """Return observed candidates as inputs. Their features are computed once per model of the costs."""
        codes = np.array(observed_codes, dtype=int).reshape(len(observed_codes), len(choices))
        new = [code not in self._features for code in observed_codes]
        self._features.update(
            zip(map(tuple, codes[new].tolist()), costs.features(costs.log_costs(codes[new])), strict=True)
        )
        features = [self._features[code] for code in observed_codes]
        return Inputs(codes, np.array(features).reshape(len(features), len(Costs._fields)))

    def _cost_model(self, choices: Choices, known: Sequence[_TrialData]) -> CostModel:
        """Return a model of the counted candidates, with the current limits, unless the last one is recent enough."""
        count = len(self._counted) + len(known)
        if self._costs is None or count > self._costs[0] * (1 + REFIT_GROWTH):
            self._costs, self._features = (count, self._fit_costs(choices, known)), {}
        return self._costs[1].with_limits(self.limits)

    def _fit_costs(self, choices: Choices, known: Sequence[_TrialData]) -> CostModel:
        costs_by_code = dict(self._counted)
        for data in known:
            costs_by_code.setdefault(data.code or (), data.costs)
        return CostModel.fit(*_codes_and_costs(costs_by_code, choices), self._num_sampled)

    def count(self, view: StudyView, codes: Codes) -> None:
        """Count candidates."""
        for code in map(tuple, codes.tolist()):
            if code not in self._counted:
                self._counted[code] = self.sample.count(decode(code, view.choices))

    def counted(self, view: StudyView) -> tuple[Codes, Floats]:
        """Return all counted candidates that no trial has, and the logarithm of each cost, (candidates, costs)."""
        unseen = {code: costs for code, costs in self._counted.items() if code not in view.seen}
        codes, costs = _codes_and_costs(unseen, view.choices)
        return codes, log_of(costs)

    def fit(self, view: StudyView, rng: np.random.Generator) -> RungModel:
        """Return a model of the observations, unless the last one is recent enough."""
        counts = tuple((~np.isnan(view.observed.accuracies)).sum(0))
        if self._cache is None or _is_outdated(self._cache[0], counts):
            self._cache = counts, RungModel.fit(view.observed, rng)
        return self._cache[1]


def _codes_and_costs(costs_by_code: Mapping[Code, Costs], choices: Choices) -> tuple[Codes, Floats]:
    """Return codes of shape (candidates, choices), and costs of shape (candidates, costs)."""
    codes = np.array(list(costs_by_code), dtype=int).reshape(len(costs_by_code), len(choices))
    costs = np.array(list(costs_by_code.values()), dtype=float).reshape(len(costs_by_code), len(Costs._fields))
    return codes, costs


def _to_array(rows: Sequence[dict[int, float]]) -> Floats:
    """Return the accuracies as an array of shape (candidates, steps); a failure is the worst one after the first step.

    A candidate that failed when it was promoted keeps its earlier accuracies.
    """
    steps = sorted({step for row in rows for step in row} - {FAILED}) or [FAILED]
    accuracies = np.array([[row.get(step, math.nan) for step in steps] for row in rows]).reshape(len(rows), len(steps))
    accuracies[[set(row) == {FAILED} for row in rows], 0] = -math.inf
    return accuracies


def _is_outdated(fitted: Sequence[float], current: Sequence[float]) -> bool:
    """Return whether the numbers of observations per rung have grown by more than REFIT_GROWTH."""
    if len(fitted) != len(current):
        return True
    return any(now > before * (1 + REFIT_GROWTH) for before, now in zip(fitted, current, strict=True))


def _outcomes(trial: FrozenTrial, directions: Sequence[StudyDirection], weights: Floats | None) -> dict[int, float]:
    """Return the accuracy after each step of training, larger is better; empty if the trial says nothing about it."""
    if trial_attrs.DUPLICATE_OF in trial.user_attrs:
        return {}
    if trial.state == TrialState.FAIL:
        return {FAILED: -math.inf} if trial.user_attrs.get(trial_attrs.PERMANENT, True) else {}
    if trial.state != TrialState.COMPLETE:
        return {}
    if any(value > 0 for value in trial.constraints.values()):  # the cost model explains it if the costs are known
        return {} if trial.user_attrs.get(trial_attrs.PARAMS) else {FAILED: -math.inf}
    signs = [1.0 if direction == StudyDirection.MAXIMIZE else -1.0 for direction in directions]
    if weights is not None:
        return {0: sum(sign * weight * value for sign, weight, value in zip(signs, weights, trial.values, strict=True))}
    return {step: signs[0] * value for step, value in (trial.intermediate_values or {0: trial.values[0]}).items()}


def _costs(trial: FrozenTrial) -> Costs:
    """Return the costs that a trial has stored; NaN where unknown."""
    attrs = trial.user_attrs
    hours = trial_attrs.budget_hours(trial)
    return Costs(attrs.get(trial_attrs.PARAMS) or math.nan, attrs.get(trial_attrs.MACS) or math.nan, hours)
