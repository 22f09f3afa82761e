"""Samplers by name."""

import warnings
from collections.abc import Callable

import optuna
from optuna.samplers import BaseSampler

from search.samplers.costs import CostSample
from search.samplers.evolution import EvolutionSampler
from search.samplers.study_model import StudyModel
from search.samplers.thompson import NUM_STARTUP_TRIALS, ThompsonSampler


def _gp(seed: int) -> BaseSampler:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return optuna.samplers.GPSampler(seed=seed, n_startup_trials=12)


OTHER_SAMPLERS: dict[str, Callable[[int], BaseSampler]] = {  # name -> function from a seed to a sampler
    "tpe": lambda seed: optuna.samplers.TPESampler(seed=seed),
    "gp": _gp,
    "nsga2": lambda seed: optuna.samplers.NSGAIISampler(seed=seed, population_size=20),
    "evolution": EvolutionSampler,
    "random": lambda seed: optuna.samplers.RandomSampler(seed=seed),
}


def create_sampler(
    name: str, seed: int, sample: CostSample | None = None, num_startup_trials: int = NUM_STARTUP_TRIALS
) -> BaseSampler:
    """Return a sampler.

    Args:
        name: `thompson` or a key of `OTHER_SAMPLERS`.
        seed: Seed of the random numbers.
        sample: Random candidates with their costs; only `thompson` uses them.
        num_startup_trials: Trained candidates before `thompson` uses its model.
    """
    if name == "thompson":
        return ThompsonSampler(seed, StudyModel(sample or CostSample()), num_startup_trials)
    return OTHER_SAMPLERS[name](seed)
