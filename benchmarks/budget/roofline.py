"""Predict training time on another device, with a roofline per kind of operator fitted to measured models.

In the roofline model of Williams et al. 2009 (Communications of the ACM 52(4)), the time of an operator depends on
its arithmetic and its memory traffic; this model adds the time of its launch. The seconds per unit of each load are
fitted to the measured steps of many models, separately for each kind of operator. The profile stores the error on
models that were left out of the fit.
"""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from benchmarks.budget.operators import Work
from benchmarks.budget.profile import DeviceProfile

SEPARATOR = ", "
RIDGE_PENALTY = 0.03  # pulls the cost of a load to that of its general kind, so that loads of few models fit no noise
OUTLIER_ERROR = 0.08  # relative error above which the weight of a step decreases (Huber's loss)
NUM_REWEIGHTINGS = 3
MIN_AMOUNT = 1e-300
MIN_COST = 1e-16  # seconds per unit; a kind whose general kind costs nothing may still cost something

Loads = Counter[str]  # amounts of work by name, from general to special: "flops, depthwise convolution, 5x5"


def loads_of(work: Work, cache: int) -> Loads:
    """Sum up the work of a step by load: the FLOPs and bytes of each kind of operator, and the number of operators.

    Args:
        work: The operators of the step.
        cache: Bytes; an operator that moves fewer bytes than this is assumed to move them within the cache.
    """
    loads: Loads = Counter()
    for operator in work:
        kind = f"{operator.kind}, {operator.phase}" if operator.phase else operator.kind
        location = "memory" if operator.bytes > cache else "cache"
        if operator.flops:
            loads[f"flops, {kind}"] += operator.flops  # type: ignore[assignment]
        loads[f"bytes in {location}, {kind}"] += operator.bytes  # type: ignore[assignment]
        loads["operators"] += 1
    return loads


def predict(profile: DeviceProfile, loads: Loads) -> float:
    """Predict the seconds that a step takes on the device of the profile.

    A load that did not occur during calibration is assumed to cost as much as the loads of its general kind.
    """
    return sum(amount * _cost(load, profile.seconds_per) for load, amount in loads.items())


def _cost(load: str, seconds_per: Mapping[str, float]) -> float:
    """Return the seconds per unit of a load, or of the most special of its general kinds that is known."""
    while load not in seconds_per:
        load, _, detail = load.rpartition(SEPARATOR)
        if not detail or not load:
            return 0.0
    return seconds_per[load]


def fit(steps: Sequence[Loads], seconds: Sequence[float]) -> dict[str, float]:
    """Fit the seconds per unit of each load by non-negative least squares on the relative errors.

    General kinds are fitted first; each special kind is then pulled to the cost of its general kind (`RIDGE_PENALTY`).

    Args:
        steps: The loads of each measured step.
        seconds: The duration of each measured step.

    Returns:
        The seconds per unit of all loads and of their general kinds.
    """
    costs: dict[str, float] = {}
    depth = max(load.count(SEPARATOR) for step in steps for load in step) + 1
    for level in range(1, depth + 1):
        merged = [_merge(step, level) for step in steps]
        names = sorted(set().union(*merged))
        matrix = np.array([[step[name] for name in names] for step in merged]) / np.array(seconds)[:, None]
        if level == 1:
            scale, penalty = 1 / np.maximum(matrix.max(0), MIN_AMOUNT), 0.0
        else:
            scale, penalty = np.array([max(_cost(name, costs), MIN_COST) for name in names]), RIDGE_PENALTY
        costs |= zip(names, (_solve(matrix * scale, penalty) * scale).tolist(), strict=True)
    return costs


def _merge(loads: Loads, level: int) -> Loads:
    """Add up the loads that agree in the first `level` parts of their names."""
    merged: Loads = Counter()
    for load, amount in loads.items():
        merged[SEPARATOR.join(load.split(SEPARATOR)[:level])] += amount
    return merged


def _solve(matrix: NDArray[np.float64], penalty: float) -> NDArray[np.float64]:
    """Solve `matrix @ x = 1` for x >= 0 with Huber's loss and a penalty on the distance of x to 1."""
    from scipy.optimize import nnls

    size = matrix.shape[1]
    weights = np.ones(len(matrix))
    for _ in range(NUM_REWEIGHTINGS):
        rows = np.vstack([matrix * weights[:, None], penalty * np.eye(size)])
        solution: NDArray[np.float64] = nnls(
            rows, np.concatenate([weights, np.full(size, penalty)]), maxiter=100 * size
        )[0]
        errors = np.abs(matrix @ solution - 1)
        weights = np.sqrt(1 / np.maximum(1, errors / OUTLIER_ERROR))
    return solution
