"""Search strategies as generators of evaluations, to be simulated on a `NasTable`."""

from collections.abc import Callable, Sequence
from functools import partial
from importlib.util import find_spec

import numpy as np
import optuna
from optuna.pruners import BasePruner, HyperbandPruner, SuccessiveHalvingPruner
from optuna.samplers import BaseSampler

from search import trial_attrs
from search.promotion import RELATIVE_TIME, Promotion
from search.samplers.registry import create_sampler
from search.samplers.study_model import StudyModel
from search.samplers.thompson import ThompsonSampler
from search.studies import nas_libraries
from search.studies.nas_table import FULL, SHORT, Evaluations, NasTable

Strategy = Callable[[NasTable, int], Evaluations]  # from a table and a seed

OURS = "ours"


def is_installed(strategy: str) -> bool:
    """Return whether the package of a strategy, if it needs one, is installed."""
    package = LIBRARIES.get(strategy)
    return package is None or find_spec(package) is not None


def _ours(table: NasTable, seed: int, relative_time: float = RELATIVE_TIME) -> Evaluations:
    """Run the sampler and the promotion of `search`, with the short and the full training run as rungs.

    Args:
        table: The models.
        seed: Seed of the sampler.
        relative_time: Time of the full training runs relative to the short ones.
    """
    model, rungs = StudyModel(table.sample(seed)), (1 / table.ratio, 1.0)
    study = optuna.create_study(
        direction="maximize", sampler=ThompsonSampler(seed, model, num_startup_trials=2 * table.ratio)
    )
    promotion = Promotion(model, rungs, table.ratio, relative_time)
    while True:
        promoted = promotion.choose(study, study.get_trials(deepcopy=False))
        if promoted is not None:
            trial_attrs.enqueue_promotion(study, promoted)
        trial = study.ask(dict(table.search_space))
        index = table.find_allowed(trial.params)
        if index is None:
            forbidden = table.find(trial.params)
            trial.set_user_attr(trial_attrs.PARAMS, 0 if forbidden is None else table.costs(forbidden).params)
            trial.set_constraint("budget", 1.0)
            study.tell(trial, 0.0)
            yield None
            continue
        fidelity = SHORT if promoted is None else FULL
        costs = table.costs(index)
        accuracies = trial_attrs.rung_accuracies(promoted) if promoted is not None else []
        accuracy = yield index, fidelity
        attributes = {
            trial_attrs.KEY: str(index),
            trial_attrs.PARAMS: costs.params,
            trial_attrs.HOURS: costs.hours,
            trial_attrs.RUNG: fidelity,
            trial_attrs.ACCURACIES: [*accuracies, accuracy],
            trial_attrs.FEASIBLE: True,
        }
        for name, value in attributes.items():
            trial.set_user_attr(name, value)
        trial.report(accuracy, step=fidelity)
        study.tell(trial, accuracy)


def _optuna_strategy(table: NasTable, seed: int, sampler: BaseSampler, pruner: BasePruner | None = None) -> Evaluations:
    """Run a sampler of Optuna on full training runs only, or with a pruner that may stop after the short run."""
    study = optuna.create_study(
        study_name=str(seed),  # from which Hyperband draws the brackets of trials
        direction="maximize",
        sampler=sampler,
        pruner=pruner or optuna.pruners.NopPruner(),
    )
    while True:
        trial = study.ask(dict(table.search_space))
        index = table.find_allowed(trial.params)
        if index is None:
            trial.set_constraint("allowed", 1.0)
            study.tell(trial, 0.0)
            yield None
            continue
        trial.set_constraint("allowed", 0.0)
        accuracy = 0.0
        for fidelity in (SHORT, FULL) if pruner else (FULL,):
            accuracy = yield index, fidelity
            trial.report(accuracy, step=table.ratio**fidelity)
            if trial.should_prune():
                break
        study.tell(trial, accuracy)


def _rounds_of_halving(table: NasTable, order: Sequence[int], per_round: int, num_promoted: int) -> Evaluations:
    """Run rounds of `per_round` short runs, in the given order, and full ones of the best `num_promoted` of them."""
    for start in range(0, len(order), per_round):
        accuracies = {}
        for model in order[start : start + per_round]:
            accuracies[model] = yield model, SHORT
        for model in sorted(accuracies, key=lambda model: -accuracies[model])[:num_promoted]:
            yield model, FULL


def _random_halving(table: NasTable, seed: int) -> Evaluations:
    order = np.random.default_rng(seed).permutation(np.flatnonzero(table.allowed)).tolist()
    return _rounds_of_halving(table, order, 4 * table.ratio, 4)


def _largest_halving(table: NasTable, seed: int) -> Evaluations:
    """Halve the models in the order of their parameters, the largest first; equal ones are in random order."""
    allowed = np.random.default_rng(seed).permutation(np.flatnonzero(table.allowed))
    order = allowed[np.argsort(-table.params[allowed], kind="stable")].tolist()
    return _rounds_of_halving(table, order, 32, 2)


def _local_search(table: NasTable, seed: int) -> Evaluations:
    """Hill climbing on full training runs with random restarts (White et al. 2021, arXiv:2005.02960)."""
    rng = np.random.default_rng(seed)
    values = [distribution.choices for distribution in table.search_space.values()]
    allowed = np.flatnonzero(table.allowed)
    while True:
        current = int(rng.choice(allowed))
        best, is_better = (yield current, FULL), True
        while is_better:
            is_better, choices = False, table.choices[current]
            around = [
                (*choices[:position], value, *choices[position + 1 :])
                for position, options in enumerate(values)
                for value in options
                if value != choices[position]
            ]
            for neighbor in rng.permutation(len(around)):
                index = table.by_choices.get(around[neighbor])
                if index is None or not table.allowed[index]:
                    continue
                accuracy = yield index, FULL
                if accuracy > best:
                    current, best, is_better = index, accuracy, True
                    break


def _strategy(sampler: str, pruner: Callable[[NasTable], BasePruner] | None = None) -> Strategy:
    """Return a strategy that runs a sampler of Optuna, with a pruner or on full training runs only."""

    def run(table: NasTable, seed: int) -> Evaluations:
        return _optuna_strategy(table, seed, create_sampler(sampler, seed), pruner(table) if pruner else None)

    return run


def _successive_halving(table: NasTable) -> BasePruner:
    return SuccessiveHalvingPruner(min_resource=1, reduction_factor=table.ratio, bootstrap_count=2 * table.ratio)


def _hyperband(table: NasTable) -> BasePruner:
    return HyperbandPruner(min_resource=1, max_resource=table.ratio, reduction_factor=4)


STRATEGIES: dict[str, Strategy] = {
    OURS: _ours,
    "parameters + halving": _largest_halving,
    "random": _strategy("random"),
    "TPE": _strategy("tpe"),
    "GP": _strategy("gp"),
    "regularized evolution": _strategy("evolution"),
    "local search": _local_search,
    "successive halving": _random_halving,
    "successive halving, asynchronous": _strategy("random", _successive_halving),
    "TPE with halving": _strategy("tpe", _successive_halving),
    "TPE with Hyperband": _strategy("tpe", _hyperband),
    "SMAC3": nas_libraries.smac,
    "DEHB": nas_libraries.dehb,
}
VARIANTS: dict[str, Strategy] = {  # of ours, with another constant; not compared by default
    f"{OURS}, relative time {relative_time:g}": partial(_ours, relative_time=relative_time)
    for relative_time in (0.25, 1.0)
}
LIBRARIES = {"SMAC3": "smac", "DEHB": "dehb"}  # the package that a strategy needs
