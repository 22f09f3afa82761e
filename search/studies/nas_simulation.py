"""Simulation of a search strategy on a table of models that were trained by others."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import optuna

from search.studies.nas_strategies import STRATEGIES, VARIANTS
from search.studies.nas_table import FULL, Floats, NasTable

MAX_IDLE_PROPOSALS = 2000  # a strategy ends after this many consecutive proposals that are already evaluated


@dataclass(frozen=True)
class Conditions:
    """The conditions that all strategies of a comparison share."""

    budget: float  # time for each strategy, in full training runs
    noise: float = 0.0  # standard deviation, in percentage points, of the accuracy of a full training run


def simulate(table: NasTable, strategy: str, seed: int, conditions: Conditions) -> list[tuple[float, float]]:
    """Run a strategy; return (time in full training runs, true accuracy of the incumbent) after each evaluation."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    noise = np.random.default_rng([seed, 1]).standard_normal((1, len(table.choices)))
    observed = table.accuracy + np.array([[0.0], [conditions.noise]]) * noise
    time, curve, evaluated = 0.0, list[tuple[float, float]](), set[tuple[int, int]]()
    incumbent = (-1, -np.inf, 0)  # (fidelity, observed accuracy, model)
    evaluations = (STRATEGIES | VARIANTS)[strategy](table, seed)
    evaluation, idle_proposals = next(evaluations), 0
    while time < conditions.budget and idle_proposals < MAX_IDLE_PROPOSALS:
        accuracy = 0.0
        idle_proposals += 1
        if evaluation is not None:
            model, fidelity = evaluation
            accuracy = float(observed[fidelity, model])
            if evaluation not in evaluated:
                evaluated.add(evaluation)
                idle_proposals = 0
                time += table.seconds[fidelity, model] / table.full_run_seconds
                incumbent = max(incumbent, (fidelity, accuracy, model))
                curve.append((time, float(table.accuracy[FULL, incumbent[2]])))
        try:
            evaluation = evaluations.send(accuracy)
        except StopIteration:
            break
    return curve


def accuracy_at(curve: Sequence[tuple[float, float]], times: Sequence[float], worst: float) -> Floats:
    """Return the accuracy of the incumbent at each time; `worst` before the first evaluation."""
    end_times = [end_time for end_time, _ in curve]
    indices = np.searchsorted(end_times, times, side="right") - 1
    return np.array([curve[index][1] if index >= 0 else worst for index in indices])
