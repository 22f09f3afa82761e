"""`NasTable`: models that were trained by others, as a table from which search strategies are simulated."""

import math
import re
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from optuna.distributions import CategoricalDistribution

from arch.errors import InputError
from search.samplers.costs import UNKNOWN, Costs, CostSample, CountedCandidate

Floats = NDArray[np.float64]
Evaluation = tuple[int, int] | None  # (model, fidelity); None for a proposal that the table does not contain
Evaluations = Generator[Evaluation, float, None]  # of a strategy; receives the observed accuracy of each one

SHORT, FULL = 0, 1  # fidelities
CHOICE_SEPARATORS = re.compile(r"[|+:,; ]+")
VALIDATION_COLUMN = re.compile(r"_val_ep(\d+)$")
NUM_SAMPLED = 200  # models whose costs our strategy knows before it starts
NAS_BENCH_201_OPERATIONS = {  # parameters per squared number of channels
    "none": 0,
    "skip_connect": 0,
    "avg_pool_3x3": 0,
    "nor_conv_1x1": 1,
    "nor_conv_3x3": 9,
}


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

    def without_random_values(self, seed: int) -> "NasTable":
        """Return the table without one random value of each choice."""
        rng = np.random.default_rng(seed)
        columns = [np.array(column) for column in zip(*self.choices, strict=True)]
        kept = np.all([column != rng.choice(np.unique(column)) for column in columns], axis=0)
        rows = np.flatnonzero(kept)
        choices = tuple(self.choices[row] for row in rows)
        return replace(
            self,
            choices=choices,
            params=self.params[rows],
            accuracy=self.accuracy[:, rows],
            seconds=self.seconds[:, rows],
        )

    def with_shuffled_short_runs(self, seed: int) -> "NasTable":
        """Return the table with the accuracies of the short runs in random order, so that they mean nothing."""
        short = np.random.default_rng(seed).permutation(self.accuracy[SHORT])
        return replace(self, accuracy=np.stack([short, self.accuracy[FULL]]))

    @cached_property
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

    @cached_property
    def search_space(self) -> dict[str, CategoricalDistribution]:
        """One categorical parameter per choice."""
        columns = enumerate(zip(*self.choices, strict=True))
        return {f"choice {index}": CategoricalDistribution(sorted(set(values))) for index, values in columns}

    def costs(self, model: int) -> Costs:
        """Return the costs of a model."""
        return Costs(float(self.params[model]), math.nan, float(self.seconds[FULL, model]) / 3600)

    @cached_property
    def by_choices(self) -> Mapping[tuple[str, ...], int]:
        """The model with these choices."""
        return {choices: index for index, choices in enumerate(self.choices)}

    def find(self, chosen: Mapping[str, Any]) -> int | None:
        """Return the model with these values of the parameters of the space; None if the table has none."""
        return self.by_choices.get(tuple(chosen[name] for name in self.search_space))

    def find_allowed(self, chosen: Mapping[str, Any]) -> int | None:
        """Return the model with these values; None if the table has none, or it is forbidden."""
        model = self.find(chosen)
        return model if model is not None and self.allowed[model] else None

    def sample(self, seed: int, number: int = NUM_SAMPLED) -> CostSample:
        """Return random models with their costs, as `search` counts them before it starts."""
        models = np.random.default_rng(seed).choice(len(self.choices), min(number, len(self.choices)), replace=False)
        space = self.search_space
        candidates = [
            CountedCandidate(dict(zip(space, self.choices[model], strict=True)), self.costs(model)) for model in models
        ]

        def count(chosen: Mapping[str, Any]) -> Costs:
            index = self.find(chosen)
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
