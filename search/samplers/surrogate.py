"""`Surrogate`: a Gaussian process over choices and numerical features that predicts the accuracy of candidates."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve, solve_triangular
from scipy.spatial.distance import cdist
from scipy.stats import norm, rankdata

Codes = NDArray[np.int64]  # (candidates, choices): index of the value of each choice
Floats = NDArray[np.float64]

DECAY_GRID = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6)  # decrease of the log-correlation per choice that differs
NOISE_GRID = (1e-3, 0.01, 0.05, 0.15, 0.4, 1.0)  # variance of a measurement relative to that of the process
MAX_TUNING_OBSERVATIONS = 128  # observations used to select decay and noise
MAX_OBSERVATIONS = 300  # observations to fit: the best half, and a random draw from the rest
PRIOR_OBSERVATIONS = 2  # weight of the prior variance 1 of normal scores, in observations
MIN_VARIANCE = 1e-9


def differences(left: Codes, right: Codes) -> Floats:
    """Return the number of choices in which candidates differ, of shape (left, right)."""
    return np.asarray(cdist(left, right, "hamming") * left.shape[1])


def normal_scores(values: Floats) -> Floats:
    """Return the ranks of values as quantiles of a normal distribution, which limits the effect of outliers."""
    return np.asarray(norm.ppf((rankdata(values) - 0.5) / len(values)))


@dataclass(frozen=True)
class Inputs:
    """What a surrogate knows about candidates.

    Attributes:
        codes: (candidates, choices)
        features: (candidates, features), standardized. The surrogate expects a linear effect.
    """

    codes: Codes
    features: Floats

    def __len__(self) -> int:
        return len(self.codes)

    def __getitem__(self, rows: Codes | NDArray[np.bool_]) -> "Inputs":
        return Inputs(self.codes[rows], self.features[rows])

    def with_feature(self, values: Floats) -> "Inputs":
        """Return the inputs with one more feature, which comes first."""
        return Inputs(self.codes, np.column_stack([values, self.features]))


@dataclass(frozen=True)
class Slopes:
    """Independent normal priors of the linear effects of features.

    Attributes:
        means: (features,)
        variances: (features,), relative to the variance of the process.
    """

    means: Floats
    variances: Floats


@dataclass(frozen=True)
class Surrogate:
    """A Gaussian process fitted to observations.

    The mean is linear in the features, with a normal prior for each slope (Rasmussen and Williams 2006, section 2.7).
    The kernel is exp(-decay * number of choices that differ), similar to Ru et al. 2020 (arXiv:1906.08878).
    """

    inputs: Inputs
    slopes: Slopes
    decay: float
    scale: float  # variance of the process
    mean: float
    log_evidence: float  # logarithm of the marginal likelihood, up to a constant for equal observations
    cholesky_factor: Floats  # lower-triangular factor of (kernel + noise) / scale
    solution: Floats  # inverse of the kernel with noise times the centered values

    @classmethod
    def fit(cls, inputs: Inputs, values: Floats, slopes: Slopes, rng: np.random.Generator) -> Self:
        """Fit the surrogate to observations.

        Args:
            inputs: The observed candidates.
            values: (observations,), larger is better.
            slopes: The expected effect of each feature.
            rng: Selects observations if there are more than MAX_OBSERVATIONS.
        """
        if len(values) > MAX_OBSERVATIONS:
            order, half = np.argsort(-values), MAX_OBSERVATIONS // 2
            kept = np.concatenate([order[:half], rng.choice(order[half:], half, replace=False)])
            inputs, values = inputs[kept], values[kept]
        residuals = values - inputs.features @ slopes.means
        mean = float(residuals.mean())
        linear = inputs.features @ (slopes.variances[:, None] * inputs.features.T)
        distance = differences(inputs.codes, inputs.codes)
        subset = rng.permutation(len(values))[:MAX_TUNING_OBSERVATIONS]
        block = np.ix_(subset, subset)
        log_evidence, decay, noise, scale = _most_likely(distance[block], linear[block], residuals[subset] - mean)
        kernel = np.exp(-decay * distance) + linear + noise * np.eye(len(values))
        factor = np.tril(cho_factor(kernel, lower=True)[0])
        solution = cho_solve((factor, True), residuals - mean)
        return cls(inputs, slopes, decay, scale, mean, log_evidence, factor, solution)

    def predict(self, inputs: Inputs) -> tuple[Floats, Floats]:
        """Return mean and standard deviation of the predicted value of each candidate, each of shape (candidates,)."""
        features = inputs.features
        kernel = np.exp(-self.decay * differences(inputs.codes, self.inputs.codes))
        kernel += features @ (self.slopes.variances[:, None] * self.inputs.features.T)
        explained = solve_triangular(self.cholesky_factor, kernel.T, lower=True)
        prior = 1 + (features**2 * self.slopes.variances).sum(1)
        variance = np.maximum(prior - (explained**2).sum(0), MIN_VARIANCE) * self.scale
        return self.mean + features @ self.slopes.means + kernel @ self.solution, np.sqrt(variance)


def _most_likely(distance: Floats, linear: Floats, values: Floats) -> tuple[float, float, float, float]:
    """Return (log evidence, decay, noise, scale) with the highest evidence; the scale follows in closed form."""
    best = (-np.inf, DECAY_GRID[0], NOISE_GRID[-1], 1.0)
    count = len(values) + PRIOR_OBSERVATIONS
    for decay in DECAY_GRID:
        eigenvalues, vectors = np.linalg.eigh(np.exp(-decay * distance) + linear)
        projected = (vectors.T @ values) ** 2
        for noise in NOISE_GRID:
            variances = np.maximum(eigenvalues, 0) + noise
            scale = float(((projected / variances).sum() + PRIOR_OBSERVATIONS) / count)
            log_evidence = -0.5 * count * np.log(scale) - 0.5 * np.log(variances).sum()
            best = max(best, (float(log_evidence), decay, noise, scale))
    return best
