"""Who proposes the next candidate, by name; and who says which ones are trained for longer."""

import warnings
from collections.abc import Callable

import optuna
from optuna.pruners import BasePruner, SuccessiveHalvingPruner
from optuna.samplers import BaseSampler

from search.samplers.evolution import EvolutionSampler
from search.samplers.thompson import ThompsonSampler


def _gp(seed: int) -> BaseSampler:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return optuna.samplers.GPSampler(seed=seed, n_startup_trials=12)


SAMPLERS: dict[str, Callable[[int], BaseSampler]] = {  # name -> seed -> sampler
    "thompson": ThompsonSampler,
    "tpe": lambda seed: optuna.samplers.TPESampler(seed=seed),
    "gp": _gp,
    "nsga2": lambda seed: optuna.samplers.NSGAIISampler(seed=seed, population_size=20),
    "evolution": EvolutionSampler,
    "random": lambda seed: optuna.samplers.RandomSampler(seed=seed),
}


def successive_halving(reduction: int) -> BasePruner:
    """Successive halving as it is done asynchronously (Li et al. 2020, arXiv:1810.05934): the best 1 in `reduction`
    of those that have finished a rung go on to the next, where each is trained `reduction` times as long; so every
    rung gets about the same time. Reports are expected at the steps 1, reduction, reduction^2...

    Nobody goes on before twice that many have finished a rung: the first to come is the best of one.
    """
    return SuccessiveHalvingPruner(min_resource=1, reduction_factor=reduction, bootstrap_count=2 * reduction)
