"""`Surrogate`: a Gaussian process over categorical choices that predicts the accuracy of candidates."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve, solve_triangular
from scipy.stats import norm, rankdata

Codes = NDArray[np.int64]  # (candidates, choices): index of the value of each choice
Floats = NDArray[np.float64]

DECAY_GRID = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6)  # decrease of the log-correlation per choice that differs
NOISE_GRID = (1e-3, 0.01, 0.05, 0.15, 0.4)  # variance of a measurement relative to that of the process
MAX_TUNING_OBSERVATIONS = 128  # observations used to select decay and noise
MAX_OBSERVATIONS = 300  # observations to fit: the best half, and a random draw from the rest
MIN_RELATIVE_WEIGHT = 0.3  # minimum before normalization, so that no choice is treated as irrelevant
MIN_VARIANCE = 1e-9


def normal_scores(values: Floats) -> Floats:
    """Return the ranks of values as quantiles of a normal distribution, which limits the effect of outliers."""
    return np.asarray(norm.ppf((rankdata(values) - 0.5) / len(values)))


@dataclass(frozen=True)
class Surrogate:
    """A Gaussian process fitted to observations.

    The kernel is exp(-decay * weighted number of choices that differ), similar to Ru et al. 2020 (arXiv:1906.08878); a
    choice is weighted by how much of the variance it explains alone.
    """

    codes: Codes
    weights: Floats  # (choices,)
    decay: float
    scale: float  # variance of the process
    mean: float
    cholesky_factor: Floats  # lower-triangular factor of (kernel + noise) / scale
    solution: Floats  # inverse of the kernel with noise times the centered values

    @classmethod
    def fit(cls, codes: Codes, values: Floats, rng: np.random.Generator) -> "Surrogate":
        """Fit the surrogate to observations.

        Args:
            codes: (observations, choices)
            values: (observations,), larger is better.
            rng: Selects observations if there are more than MAX_OBSERVATIONS.
        """
        if len(values) > MAX_OBSERVATIONS:
            order, half = np.argsort(-values), MAX_OBSERVATIONS // 2
            kept = np.concatenate([order[:half], rng.choice(order[half:], half, replace=False)])
            codes, values = codes[kept], values[kept]
        weights = relevance(codes, values)
        mean = float(values.mean())
        subset = rng.permutation(len(values))[:MAX_TUNING_OBSERVATIONS]
        decay, noise, scale = _most_likely(_distance(codes[subset], codes[subset], weights), values[subset] - mean)
        kernel = np.exp(-decay * _distance(codes, codes, weights))
        factor = cho_factor(kernel + noise * np.eye(len(values)), lower=True)[0]
        solution = cho_solve((factor, True), values - mean)
        return cls(codes, weights, decay, scale, mean, np.tril(factor), solution)

    def predict(self, codes: Codes) -> tuple[Floats, Floats]:
        """Return mean and standard deviation of the predicted value of each candidate.

        Args:
            codes: (candidates, choices)

        Returns:
            Two arrays of shape (candidates,).
        """
        kernel = np.exp(-self.decay * _distance(codes, self.codes, self.weights))
        explained = solve_triangular(self.cholesky_factor, kernel.T, lower=True)
        variance = np.maximum(1 - (explained**2).sum(0), MIN_VARIANCE) * self.scale
        return self.mean + kernel @ self.solution, np.sqrt(variance)


def relevance(codes: Codes, values: Floats) -> Floats:
    """Return one weight per choice, with mean 1.

    A weight is proportional to the share of the variance between the groups of a choice, minus the share expected by
    chance, and at least MIN_RELATIVE_WEIGHT of the mean.

    Args:
        codes: (observations, choices)
        values: (observations,)
    """
    total = ((values - values.mean()) ** 2).sum() or 1.0
    shares = []
    for column in codes.T:
        counts = np.bincount(column)
        sums = np.bincount(column, weights=values - values.mean())
        between = (sums[counts > 0] ** 2 / counts[counts > 0]).sum() / total
        num_groups = (counts > 0).sum()
        expected_by_chance = (num_groups - 1) / max(len(values) - 1, 1)
        shares.append(max(between - expected_by_chance, 0.0))
    mean = np.mean(shares) or 1.0
    weights = np.maximum(np.array(shares) / mean, MIN_RELATIVE_WEIGHT)
    return np.asarray(weights / weights.mean())


def _distance(left: Codes, right: Codes, weights: Floats) -> Floats:
    """Return the weighted number of choices in which candidates differ, of shape (left, right)."""
    sizes = np.maximum(left.max(0), right.max(0)) + 1
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])

    def one_hot(codes: Codes) -> Floats:
        rows = np.zeros((len(codes), int(sizes.sum())))
        rows[np.arange(len(codes))[:, None], codes + starts] = np.sqrt(weights)
        return rows

    return np.asarray(np.maximum(weights.sum() - one_hot(left) @ one_hot(right).T, 0.0))


def _most_likely(distance: Floats, values: Floats) -> tuple[float, float, float]:
    """Return (decay, noise, scale) with the highest marginal likelihood; the scale follows in closed form."""
    best = (-np.inf, DECAY_GRID[0], NOISE_GRID[-1], 1.0)
    for decay in DECAY_GRID:
        eigenvalues, vectors = np.linalg.eigh(np.exp(-decay * distance))
        projected = (vectors.T @ values) ** 2
        for noise in NOISE_GRID:
            variances = np.maximum(eigenvalues, 0) + noise
            scale = max(float((projected / variances).mean()), 1e-12)
            likelihood = -0.5 * len(values) * np.log(scale) - 0.5 * np.log(variances).sum()
            best = max(best, (likelihood, decay, noise, scale))
    return best[1:]
