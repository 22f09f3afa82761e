"""Simulation of search strategies on a table of models that were trained by others."""

import math
import re
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.pruners import BasePruner, HyperbandPruner, SuccessiveHalvingPruner
from optuna.samplers import BaseSampler

from arch.errors import InputError
from search import trial_attrs
from search.promotion import Promotion
from search.samplers.costs import UNKNOWN, Costs, CostSample, CountedCandidate
from search.samplers.registry import create_sampler
from search.samplers.study_model import StudyModel
from search.samplers.thompson import ThompsonSampler

Floats = NDArray[np.float64]
Evaluation = tuple[int, int] | None  # (model, fidelity); None for a proposal that the table does not contain
Evaluations = Generator[Evaluation, float, None]  # receives the observed accuracy of each evaluation

Strategy = Callable[["NasTable", int], Evaluations]

SHORT, FULL = 0, 1  # fidelities
CHOICE_SEPARATORS = re.compile(r"[|+:,; ]+")
VALIDATION_COLUMN = re.compile(r"_val_ep(\d+)$")
OURS = "ours"
NUM_SAMPLED = 200  # models whose costs our strategy knows before it starts
NAS_BENCH_201_OPERATIONS = {  # parameters per squared number of channels
    "none": 0,
    "skip_connect": 0,
    "avg_pool_3x3": 0,
    "nor_conv_1x1": 1,
    "nor_conv_3x3": 9,
}
MAX_IDLE_PROPOSALS = 2000  # a strategy ends after this many consecutive proposals that are already evaluated


@dataclass(frozen=True)
class NasTable:
    """Models as choices, their sizes, and the outcome of a short and a full training run of each."""

    choices: tuple[tuple[str, ...], ...]  # (models, choices)
    params: Floats  # (models,)
    accuracy: Floats  # (2, models): validation accuracy of the short run, true accuracy of the full one
    seconds: Floats  # (2, models)
    ratio: int  # duration of the full training run relative to the short one
    max_params: float = math.inf  # models with more parameters are forbidden

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
        params = _count_params(frame, choices, seconds)
        return cls(tuple(choices), params, accuracy, np.stack([seconds, ratio * seconds]), round(ratio))

    def within_quantile(self, share: float) -> "NasTable":
        """Return the table with the models above this quantile of the parameters forbidden."""
        return replace(self, max_params=float(np.quantile(self.params, share)))

    @property
    def allowed(self) -> NDArray[np.bool_]:
        """Whether each model is within the limit."""
        return np.asarray(self.params <= self.max_params)

    @property
    def full_run_seconds(self) -> float:
        """Seconds of an average full training run of the allowed models."""
        return float(self.seconds[FULL, self.allowed].mean())

    @property
    def best_accuracy(self) -> float:
        """True accuracy of the best allowed model."""
        return float(self.accuracy[FULL, self.allowed].max())

    @property
    def worst_accuracy(self) -> float:
        """True accuracy of the worst allowed model."""
        return float(self.accuracy[FULL, self.allowed].min())

    def search_space(self) -> dict[str, BaseDistribution]:
        """Return one categorical parameter per choice."""
        columns = enumerate(zip(*self.choices, strict=True))
        return {f"choice {index}": CategoricalDistribution(sorted(set(values))) for index, values in columns}

    def costs(self, model: int) -> Costs:
        """Return the costs of a model."""
        return Costs(float(self.params[model]), math.nan, float(self.seconds[FULL, model]) / 3600)

    def sample(self, seed: int, number: int = NUM_SAMPLED) -> CostSample:
        """Return random models with their costs, as `search` counts them before it starts."""
        models = np.random.default_rng(seed).choice(len(self.choices), min(number, len(self.choices)), replace=False)
        space = self.search_space()
        candidates = [
            CountedCandidate(dict(zip(space, self.choices[model], strict=True)), self.costs(model)) for model in models
        ]
        by_choices = {choices: index for index, choices in enumerate(self.choices)}

        def count(chosen: Mapping[str, Any]) -> Costs:
            index = by_choices.get(tuple(chosen[name] for name in space))
            return UNKNOWN if index is None else self.costs(index)

        return CostSample(candidates, UNKNOWN._replace(params=self.max_params), count=count)


def _find_column(frame: pd.DataFrame, pattern: str, path: Path) -> str:
    matching = [str(name) for name in frame.columns if re.search(pattern, str(name))]
    if not matching:
        raise InputError(f"{path} has no column that matches {pattern!r}, only {', '.join(map(str, frame.columns))}")
    return matching[0]


def _count_params(frame: pd.DataFrame, choices: Sequence[Sequence[str]], seconds: Floats) -> Floats:
    """Return the parameters of each model; in a table without them and of unknown operations, the seconds instead."""
    if "params" in frame:
        return frame["params"].to_numpy(float)
    operations = [[choice.partition("~")[0] for choice in model] for model in choices]
    if {operation for model in operations for operation in model} == set(NAS_BENCH_201_OPERATIONS):
        return np.array([count_nas_bench_201(model) for model in operations])
    return seconds


def count_nas_bench_201(operations: Sequence[str]) -> float:
    """Return the parameters of a NAS-Bench-201 network for CIFAR-10 (Dong and Yang 2020, arXiv:2001.00326).

    It has a stem, three stages of five cells with 16, 32 and 64 channels, a residual block between two stages, and a
    head. A convolution of a cell includes a BatchNorm with two parameters per channel.

    Args:
        operations: The operation on each of the six edges of the cell.
    """
    stem, head = 9 * 3 * 16 + 2 * 16, 2 * 64 + 64 * 10 + 10
    blocks = sum(9 * c * 2 * c + 9 * 4 * c * c + 2 * 4 * c + 2 * c * c for c in (16, 32))
    cells = sum(
        5 * (NAS_BENCH_201_OPERATIONS[op] * c * c + 2 * c * (NAS_BENCH_201_OPERATIONS[op] > 0))
        for c in (16, 32, 64)
        for op in operations
    )
    return float(stem + blocks + cells + head)


def _ours(table: NasTable, seed: int) -> Evaluations:
    """Run the sampler and the promotion of `search`, with the short and the full training run as rungs."""
    model, rungs = StudyModel(table.sample(seed)), (1 / table.ratio, 1.0)
    study = optuna.create_study(
        direction="maximize", sampler=ThompsonSampler(seed, model, num_startup_trials=2 * table.ratio)
    )
    promotion = Promotion(model, rungs, table.ratio)
    space, by_choices = table.search_space(), {choices: index for index, choices in enumerate(table.choices)}
    while True:
        promoted = promotion.choose(study)
        if promoted is not None:
            study.enqueue_trial(promoted.params)
        trial = study.ask(space)
        index = by_choices.get(tuple(trial.params[name] for name in space))
        if index is None or not table.allowed[index]:
            costs = UNKNOWN if index is None else table.costs(index)
            trial.set_user_attr(trial_attrs.PARAMS, 0 if index is None else costs.params)
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
    space, by_choices = table.search_space(), {choices: index for index, choices in enumerate(table.choices)}
    while True:
        trial = study.ask(space)
        index = by_choices.get(tuple(trial.params[name] for name in space))
        if index is None or not table.allowed[index]:
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
    rng, by_choices = np.random.default_rng(seed), {choices: index for index, choices in enumerate(table.choices)}
    values = [sorted(set(column)) for column in zip(*table.choices, strict=True)]
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
                index = by_choices.get(around[neighbor])
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
