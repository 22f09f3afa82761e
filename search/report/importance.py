"""Importance of the choices of a search space."""

import warnings
from collections.abc import Sequence

import optuna
from optuna.trial import FrozenTrial

from search import trial_attrs

MIN_TRIALS_FOR_IMPORTANCE = 8


def choice_importance(trained: Sequence[FrozenTrial]) -> dict[str, float]:
    """Return the share of the variance in first-rung accuracy that each choice explains.

    The method is fANOVA (Hutter et al. 2014).

    Args:
        trained: The trained trials. Infeasible ones must be left out because their objective value is not measured.

    Returns:
        Choice -> share of the variance, the most important first; empty if there are too few trials or no choice
        varies.
    """
    if len(trained) < MIN_TRIALS_FOR_IMPORTANCE:
        return {}
    study = optuna.create_study(direction="maximize", storage=optuna.storages.InMemoryStorage())
    for trial in trained:
        accuracy = trial_attrs.rung_accuracies(trial)[0]
        study.add_trial(optuna.create_trial(params=trial.params, distributions=trial.distributions, value=accuracy))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return optuna.importance.get_param_importances(
                study, evaluator=optuna.importance.FanovaImportanceEvaluator(seed=0)
            )
        except (RuntimeError, ValueError):  # raised if no choice varies
            return {}
