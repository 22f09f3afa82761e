"""A Gaussian process over categorical choices: what a candidate's accuracy is believed to be, and how surely."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve, solve_triangular
from scipy.stats import norm, rankdata

Codes = NDArray[np.int64]  # (candidates, choices): which value each choice has
Floats = NDArray[np.float64]

DECAYS = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6)  # tried: how fast two candidates forget each other, a choice that differs
NOISES = (1e-3, 0.01, 0.05, 0.15, 0.4)  # tried: the variance of a measurement, as a share of all
MAX_TUNING_OBSERVATIONS = 128  # observations at most that decay and noise are chosen by
MAX_OBSERVATIONS = 300  # observations at most that are fitted: the best half and a draw from the rest
RELEVANCE_FLOOR = 0.3  # of the mean: no choice is ever taken for wholly irrelevant


def normal_scores(values: Floats) -> Floats:
    """Ranks as quantiles of a normal distribution: a scale on which one bad net is not a thousand times bad."""
    return np.asarray(norm.ppf((rankdata(values) - 0.5) / len(values)))


@dataclass(frozen=True)
class Surrogate:
    """Fitted to observations. Kernel: exp(-decay * weighted number of choices that differ) (Ru et al. 2020,
    arXiv:1906.08878, use the like), the weights by how much of the variance each choice explains alone.
    """

    codes: Codes
    weights: Floats
    decay: float
    scale: float  # variance of the process
    mean: float
    factor: Floats  # lower Cholesky factor of the kernel with noise, over `scale`
    solved: Floats  # its inverse times the centred values

    @classmethod
    def fit(cls, codes: Codes, values: Floats, rng: np.random.Generator) -> "Surrogate":
        """values: one each, larger is better; of more than MAX_OBSERVATIONS, those that matter most are used."""
        if len(values) > MAX_OBSERVATIONS:
            order = np.argsort(-values)
            kept = np.concatenate(
                [
                    order[: MAX_OBSERVATIONS // 2],
                    rng.choice(order[MAX_OBSERVATIONS // 2 :], MAX_OBSERVATIONS // 2, replace=False),
                ]
            )
            codes, values = codes[kept], values[kept]
        weights = relevance(codes, values)
        mean = float(values.mean())
        some = rng.permutation(len(values))[:MAX_TUNING_OBSERVATIONS]
        decay, noise, scale = _most_likely(_distance(codes[some], codes[some], weights), values[some] - mean)
        kernel = np.exp(-decay * _distance(codes, codes, weights))
        factor = cho_factor(kernel + noise * np.eye(len(values)), lower=True)[0]
        solved = cho_solve((factor, True), values - mean)
        return cls(codes, weights, decay, scale, mean, np.tril(factor), solved)

    def predict(self, codes: Codes) -> tuple[Floats, Floats]:
        """Mean and standard deviation of what each of these candidates would reach."""
        kernel = np.exp(-self.decay * _distance(codes, self.codes, self.weights))
        explained = solve_triangular(self.factor, kernel.T, lower=True)
        variance = np.maximum(1 - (explained**2).sum(0), 1e-9) * self.scale
        return self.mean + kernel @ self.solved, np.sqrt(variance)


def relevance(codes: Codes, values: Floats) -> Floats:
    """One weight a choice, with mean 1: the share of the values' variance between the groups it makes, floored."""
    total = ((values - values.mean()) ** 2).sum() or 1.0
    shares = []
    for column in codes.T:
        counts = np.bincount(column)
        sums = np.bincount(column, weights=values - values.mean())
        between = (sums[counts > 0] ** 2 / counts[counts > 0]).sum() / total
        groups = (counts > 0).sum()
        by_chance = (groups - 1) / max(len(values) - 1, 1)
        shares.append(max(between - by_chance, 0.0))
    mean = np.mean(shares) or 1.0
    weights = np.maximum(np.array(shares) / mean, RELEVANCE_FLOOR)
    return np.asarray(weights / weights.mean())


def _distance(left: Codes, right: Codes, weights: Floats) -> Floats:
    """(left, right): the weighted number of choices in which two candidates differ."""
    sizes = np.maximum(left.max(0), right.max(0)) + 1
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])

    def one_hot(codes: Codes) -> Floats:
        rows = np.zeros((len(codes), int(sizes.sum())))
        rows[np.arange(len(codes))[:, None], codes + starts] = np.sqrt(weights)
        return rows

    return np.asarray(np.maximum(weights.sum() - one_hot(left) @ one_hot(right).T, 0.0))


def _most_likely(distance: Floats, values: Floats) -> tuple[float, float, float]:
    """(decay, noise, scale) of the highest marginal likelihood; the scale has it in closed form."""
    best = (-np.inf, DECAYS[0], NOISES[-1], 1.0)
    for decay in DECAYS:
        eigenvalues, vectors = np.linalg.eigh(np.exp(-decay * distance))
        projected = (vectors.T @ values) ** 2
        for noise in NOISES:
            spread = np.maximum(eigenvalues, 0) + noise
            scale = max(float((projected / spread).mean()), 1e-12)
            likelihood = -0.5 * len(values) * np.log(scale) - 0.5 * np.log(spread).sum()
            best = max(best, (likelihood, decay, noise, scale))
    return best[1:]
