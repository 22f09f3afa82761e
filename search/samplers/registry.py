"""Samplers by name, and the pruner that decides which trials are trained for longer."""

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


SAMPLERS: dict[str, Callable[[int], BaseSampler]] = {  # name -> function from a seed to a sampler
    "thompson": ThompsonSampler,
    "tpe": lambda seed: optuna.samplers.TPESampler(seed=seed),
    "gp": _gp,
    "nsga2": lambda seed: optuna.samplers.NSGAIISampler(seed=seed, population_size=20),
    "evolution": EvolutionSampler,
    "random": lambda seed: optuna.samplers.RandomSampler(seed=seed),
}


def successive_halving(reduction_factor: int) -> BasePruner:
    """Return a pruner for asynchronous successive halving (Li et al. 2020, arXiv:1810.05934).

    The best 1 in `reduction_factor` of the trials that have completed a rung are promoted to the next rung, where they
    are trained `reduction_factor` times as long, so that every rung takes about the same total time. No trial is
    promoted before `2 * reduction_factor` trials have completed the rung.

    Args:
        reduction_factor: Ratio of the durations of two consecutive rungs. Trials must report at the steps 1,
            `reduction_factor`, `reduction_factor ** 2` and so on.
    """
    return SuccessiveHalvingPruner(
        min_resource=1, reduction_factor=reduction_factor, bootstrap_count=2 * reduction_factor
    )
