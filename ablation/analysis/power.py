"""How many seeds a change needs, and how much the best of many variants gains by chance."""

from math import inf, sqrt

from ablation.analysis.statistics import ALPHA, smallest_p
from ablation.plans.choices import Pairing

MAX_SEEDS = 10_000  # largest number of seeds per row to consider
DETECTION_POWER = 0.8  # probability with which a detectable change is called real or worse
MAX_DETECTABLE_EFFECT = 50.0  # in standard deviations over seeds; with too few seeds, not even this effect is detected


def fewest_seeds(changes: int, pairing: Pairing) -> int:
    """Return the fewest seeds per row with which the largest of `changes` changes can be significant at all."""
    return next(n for n in range(2, MAX_SEEDS) if max(1, changes) * smallest_p(n, pairing) <= ALPHA)


def power(effect: float, spread: float, seeds: int, changes: int = 1, pairing: Pairing = "unpaired") -> float:
    """Return the probability that a change is called real, from the noncentral t distribution (Cohen 1988).

    Args:
        effect: The true change, in points.
        spread: The standard deviation over seeds, in points. Rows of the same seed are assumed to be uncorrelated.
        seeds: The seeds per row.
        changes: The number of changes in the table. Bonferroni's bound replaces Holm's correction.
        pairing: How changes are tested.
    """
    if seeds < 2 or max(1, changes) * smallest_p(seeds, pairing) > ALPHA:
        return 0.0
    from scipy import stats

    degrees = seeds - 1 if pairing == "paired" else 2 * (seeds - 1)
    noncentrality = abs(effect) / (spread * sqrt(2 / seeds))
    critical = stats.t.isf(ALPHA / max(1, changes) / 2, degrees)
    probability = float(stats.nct.sf(critical, degrees, noncentrality))
    if 2 * max(1, changes) * smallest_p(seeds, pairing) > ALPHA:  # only the most extreme permutation is significant
        return min(probability, _separation_probability(abs(effect) / spread, seeds, pairing))
    return probability


def _separation_probability(effect: float, seeds: int, pairing: Pairing) -> float:
    """Return the probability of the most extreme permutation.

    In a paired test, all differences then have the sign of the effect. In an unpaired test, all runs of one row are
    then above all runs of the other row. The effect is in standard deviations.
    """
    from scipy import integrate, stats

    if pairing == "paired":
        return float(stats.norm.cdf(effect / sqrt(2)) ** seeds)

    def integrand(best: float) -> float:
        """Return the density of the lower row's best run, times the probability that the higher row is above it."""
        density = seeds * stats.norm.pdf(best) * stats.norm.cdf(best) ** (seeds - 1)
        return float(density * stats.norm.sf(best - effect) ** seeds)

    return float(integrate.quad(integrand, -8, 8)[0])


def seeds_needed(effect: float, spread: float, target: float, changes: int = 1, pairing: Pairing = "unpaired") -> int:
    """Return the fewest seeds per row with which a change is called real with probability `target`.

    Args:
        effect: The true change, in points.
        spread: The standard deviation over seeds, in points.
        target: The power to reach.
        changes: The number of changes in the table.
        pairing: How changes are tested.

    Raises:
        ValueError: If more than MAX_SEEDS would be needed.
    """
    low, high = 1, 2
    while power(effect, spread, high, changes, pairing) < target:
        low, high = high, 2 * high
        if high > MAX_SEEDS:
            raise ValueError(f"more than {MAX_SEEDS:,} seeds per row would be needed")
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if power(effect, spread, middle, changes, pairing) >= target else (middle, high)
    return high


def detectable_change(spread: float, seeds: int, changes: int = 1, pairing: Pairing = "unpaired") -> float:
    """Return the smallest true change, in points, that is called real or worse with probability DETECTION_POWER.

    Args:
        spread: The standard deviation over seeds, in points; above 0.
        seeds: The seeds per row.
        changes: The number of changes in the table.
        pairing: How changes are tested.

    Returns:
        The change; infinity if no change can be significant with so few seeds.
    """
    from scipy import optimize

    def missing(effect: float) -> float:
        return DETECTION_POWER - power(effect, 1.0, seeds, changes, pairing)

    if missing(MAX_DETECTABLE_EFFECT) > 0:
        return inf
    return spread * float(optimize.brentq(missing, 0.0, MAX_DETECTABLE_EFFECT, xtol=1e-3))


def selection_bias(num_candidates: int, spread: float, seeds: int) -> float:
    """Return how many points the best of several equal variants is above their mean, by chance alone.

    This is the expected largest of k normal draws (Tippett 1925), times the standard error of a mean over the seeds.

    Args:
        num_candidates: The number of variants.
        spread: The standard deviation over seeds, in points.
        seeds: The seeds per variant.
    """
    if num_candidates < 2:
        return 0.0
    from scipy import integrate, stats

    def integrand(x: float) -> float:
        return float(x * num_candidates * stats.norm.pdf(x) * stats.norm.cdf(x) ** (num_candidates - 1))

    peak = float(stats.norm.isf(1 / num_candidates))
    expected, _ = integrate.quad(integrand, peak - 5, peak + 5)
    return float(expected * spread / sqrt(seeds))
