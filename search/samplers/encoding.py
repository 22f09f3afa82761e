"""Candidates as arrays: the code of each choice of a trial, and pools of codes to select a proposal from."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.trial import FrozenTrial

from search import trial_attrs
from search.samplers.surrogate import Codes
from search.space import ABSENT

ABSENT_PROBABILITY = 0.6  # probability of omitting an optional part; a model with every part would exceed any budget

Choices = dict[str, dict[Any, int]]  # parameter -> value -> code


def choices_of(search_space: Mapping[str, BaseDistribution]) -> Choices:
    """Return the values of each parameter with their codes, without continuous parameters."""
    return {name: codes for name, distribution in search_space.items() if (codes := _codes_by_value(distribution))}


def _codes_by_value(distribution: BaseDistribution) -> dict[Any, int]:
    values: Iterable[Any] = ()
    if isinstance(distribution, CategoricalDistribution):
        values = distribution.choices
    elif isinstance(distribution, IntDistribution):
        values = range(distribution.low, distribution.high + 1, distribution.step)
    return {value: code for code, value in enumerate(values)}


def chosen_params(trial: FrozenTrial) -> dict[str, Any]:
    """Return the parameters of a trial, including those that an unfinished one will suggest."""
    return trial.params if trial.state.is_finished() else trial_attrs.params_of(trial)


def encode(params: Mapping[str, Any], choices: Choices) -> tuple[int, ...] | None:
    """Return the code of each parameter; None if one is missing or has an unknown value."""
    try:
        return tuple(values[params[name]] for name, values in choices.items())
    except KeyError:
        return None


def decode(code: Sequence[int], choices: Choices) -> dict[str, Any]:
    """Return the parameters that a code stands for."""
    return {name: list(values)[index] for (name, values), index in zip(choices.items(), code, strict=True)}


def random_codes(number: int, choices: Choices, rng: np.random.Generator) -> Codes:
    """Draw random candidates, in which each optional part is absent with ABSENT_PROBABILITY."""
    sizes = np.array([len(values) for values in choices.values()])
    absent = np.array([values.get(ABSENT, -1) for values in choices.values()])
    codes = rng.integers(0, sizes, (number, len(sizes)))
    return np.where((absent >= 0) & (rng.random(codes.shape) < ABSENT_PROBABILITY), absent, codes)


def count_present(codes: Codes, choices: Choices) -> NDArray[np.int64]:
    """Return how many optional parts are present in each candidate, of shape (candidates,)."""
    absent = np.array([values.get(ABSENT, -1) for values in choices.values()])
    return np.asarray(((absent >= 0) & (codes != absent)).sum(1))


def neighbors(codes: Codes, choices: Choices, rng: np.random.Generator) -> Codes:
    """Draw one neighbor of each candidate, which differs in at most two choices."""
    sizes = np.array([len(values) for values in choices.values()])
    codes = codes.copy()
    for _ in range(2):
        column = rng.integers(0, len(sizes), len(codes))
        codes[np.arange(len(codes)), column] = rng.integers(0, sizes[column])
    return codes
