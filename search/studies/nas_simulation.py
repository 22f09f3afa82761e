"""Simulation of search strategies on a table of models that were trained by others."""

import re
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import optuna
import pandas as pd
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, CategoricalDistribution

from arch.errors import InputError
from search.samplers.registry import SAMPLERS, successive_halving

Floats = NDArray[np.float64]
Evaluation = tuple[int, int] | None  # (model, fidelity); None for a proposal that the table does not contain
Evaluations = Generator[Evaluation, float, None]  # receives the observed accuracy of each evaluation

SHORT, FULL = 0, 1  # fidelities
CHOICE_SEPARATORS = re.compile(r"[|+:,; ]+")
VALIDATION_COLUMN = re.compile(r"_val_ep(\d+)$")
OURS = "ours"
MAX_IDLE_PROPOSALS = 2000  # a strategy ends after this many consecutive proposals that are already evaluated


@dataclass(frozen=True)
class NasTable:
    """Models as choices, and the outcome of a short and a full training run of each."""

    choices: tuple[tuple[str, ...], ...]  # (models, choices)
    accuracy: Floats  # (2, models): validation accuracy of the short run, true accuracy of the full one
    seconds: Floats  # (2, models)
    ratio: int  # duration of the full training run relative to the short one

    @classmethod
    def read(cls, path: Path, epochs: int) -> "NasTable":
        """Read a CSV file.

        Args:
            path: The file.
            epochs: Epochs of a full training run.

        Raises:
            InputError: If the file cannot be read or a column is missing.
        """
        try:
            frame = pd.read_csv(path)
        except (OSError, ValueError) as error:
            raise InputError(f"cannot read {path}: {error}") from error
        whole, short = _find_column(frame, r"_test_mean$", path), _find_column(frame, VALIDATION_COLUMN.pattern, path)
        ratio = epochs / int(VALIDATION_COLUMN.search(short)[1])  # type: ignore[index]  # the column matches
        seconds = frame[_find_column(frame, r"_time_ep\d+$", path)].to_numpy(float)
        models = frame[_find_column(frame, "^arch$", path)]
        choices = [tuple(choice for choice in CHOICE_SEPARATORS.split(model) if choice) for model in models]
        if len({len(model) for model in choices}) != 1:
            raise InputError(f"{path}: all models must have the same number of choices in column arch")
        accuracy = np.stack([frame[short].to_numpy(float), frame[whole].to_numpy(float)])
        return cls(tuple(choices), accuracy, np.stack([seconds, ratio * seconds]), round(ratio))

    @property
    def full_run_seconds(self) -> float:
        """Seconds of an average full training run."""
        return float(self.seconds[FULL].mean())

    def search_space(self) -> dict[str, BaseDistribution]:
        """Return one categorical parameter per choice."""
        columns = enumerate(zip(*self.choices, strict=True))
        return {f"choice {index}": CategoricalDistribution(sorted(set(values))) for index, values in columns}


def _find_column(frame: pd.DataFrame, pattern: str, path: Path) -> str:
    matching = [str(name) for name in frame.columns if re.search(pattern, str(name))]
    if not matching:
        raise InputError(f"{path} has no column that matches {pattern!r}, only {', '.join(map(str, frame.columns))}")
    return matching[0]


def _optuna_strategy(table: NasTable, seed: int, sampler: str, halving: bool) -> Evaluations:
    """Run a sampler of `search`, on full training runs only, or with the successive halving of `search`."""
    pruner = successive_halving(table.ratio) if halving else optuna.pruners.NopPruner()
    study = optuna.create_study(direction="maximize", sampler=SAMPLERS[sampler](seed), pruner=pruner)
    space, model_by_choices = table.search_space(), {choices: model for model, choices in enumerate(table.choices)}
    while True:
        trial = study.ask(space)
        model = model_by_choices.get(tuple(trial.params[name] for name in space))
        if model is None:  # treated as a candidate over the budget
            trial.set_constraint("in the table", 1.0)
            study.tell(trial, 0.0)
            yield None
            continue
        accuracy = 0.0
        for fidelity in (SHORT, FULL) if halving else (FULL,):
            accuracy = yield model, fidelity
            trial.report(accuracy, step=table.ratio**fidelity)
            if trial.should_prune():
                break
        study.tell(trial, accuracy)


def _synchronous_halving(table: NasTable, seed: int, num_promoted: int = 4) -> Evaluations:
    """Run rounds of `num_promoted * ratio` short runs of random models and `num_promoted` full ones."""
    order = np.random.default_rng(seed).permutation(len(table.choices)).tolist()
    for start in range(0, len(order), num_promoted * table.ratio):
        accuracies = {}
        for model in order[start : start + num_promoted * table.ratio]:
            accuracies[model] = yield model, SHORT
        for model in sorted(accuracies, key=lambda model: -accuracies[model])[:num_promoted]:
            yield model, FULL


STRATEGIES: dict[str, Callable[[NasTable, int], Evaluations]] = {
    OURS: partial(_optuna_strategy, sampler="thompson", halving=True),
    "random": partial(_optuna_strategy, sampler="random", halving=False),
    "TPE": partial(_optuna_strategy, sampler="tpe", halving=False),
    "regularized evolution": partial(_optuna_strategy, sampler="evolution", halving=False),
    "successive halving": _synchronous_halving,
    "successive halving, asynchronous": partial(_optuna_strategy, sampler="random", halving=True),
    "TPE with halving": partial(_optuna_strategy, sampler="tpe", halving=True),
}


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
    evaluations = STRATEGIES[strategy](table, seed)
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
