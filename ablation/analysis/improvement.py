"""The probability that a run of one row is better than a run of another row."""

from collections.abc import Sequence
from math import nan, sqrt
from typing import NamedTuple

from ablation.analysis.statistics import ALPHA, Values

MIN_RUNS = 2  # of each row; from a single run, nothing about other runs can be inferred
TOLERANCE = 1e-9


class Improvement(NamedTuple):
    """P(A > B) and its 95% CI; NaN where it cannot be estimated."""

    probability: float = nan
    low: float = nan
    high: float = nan


def probability_of_improvement(
    accuracies: Sequence[float] | Values, references: Sequence[float] | Values
) -> Improvement:
    """Estimate the probability that a run of A has a higher accuracy than a run of B, where ties count half.

    The estimate is the Mann-Whitney statistic divided by the number of pairs, as recommended by Bouthillier et al. 2021
    (arXiv:2103.03098, section 4). They use a percentile bootstrap, whose interval is the single point 1 if all runs of
    A are better. With few seeds, that is frequent, so the interval is that of Newcombe 2006 (Statistics in Medicine
    25:559, method 5), which contains all probabilities that are compatible with the estimate in a score test.

    Args:
        accuracies: The accuracy of each run of A.
        references: The accuracy of each run of B.
    """
    if min(len(accuracies), len(references)) < MIN_RUNS:
        return Improvement()
    from scipy import optimize, stats

    num_pairs = len(accuracies) * len(references)
    estimate = float(stats.mannwhitneyu(accuracies, references, method="asymptotic").statistic) / num_pairs
    critical = float(stats.norm.isf(ALPHA / 2))
    size = (len(accuracies) + len(references)) / 2 - 1

    def excess(probability: float) -> float:
        """Return how far the estimate is outside of the interval around this probability."""
        ties = size * (1 - probability) / (2 - probability) + size * probability / (1 + probability)
        variance = probability * (1 - probability) * (1 + ties) / num_pairs
        return abs(estimate - probability) - critical * sqrt(variance)

    inside = min(max(estimate, TOLERANCE), 1 - TOLERANCE)  # the variance is 0 at both ends, which are not the limits
    low = optimize.brentq(excess, 0, inside) if estimate > 0 else 0.0
    high = optimize.brentq(excess, inside, 1) if estimate < 1 else 1.0
    return Improvement(estimate, float(low), float(high))
