"""Test whether a change of the mean over seeds is real: intervals, exact tests and Holm's correction.

Accuracies are in percent, changes in points. Runs with different seeds are independent draws. The standard deviation
of CIFAR-100's top-1 over seeds is about 0.25 points. Rows with the same seed have not been found to be correlated, so
changes are tested unpaired unless the paired test is requested.
"""

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import comb, isnan, nan, sqrt
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ablation.plans.choices import Pairing

Values = NDArray[np.float64]
Alternative = Literal["two-sided", "less", "greater"]
Comparison = tuple[Mapping[int, float], list[tuple[Mapping[int, float], int]]]  # the arguments of `estimate_change`

ALPHA = 0.05  # family-wise error rate; intervals have the level 1 - ALPHA
MIN_BOOTSTRAP_VALUES = 8  # values needed for resampling: 4 seeds of each of two rows, or 8 differences
MAX_RESAMPLED_SEEDS = 30  # Student's interval and p-value are used for more seeds
NUM_RESAMPLES = 9_999
ROUNDING_DIGITS = 9  # changes are rounded, so that rounding errors do not break ties of permutations


@dataclass(frozen=True)
class Change:
    """A change in points, its interval and its p-value.

    Attributes:
        points: The change of the mean.
        low: Lower end of the 95% CI.
        high: Upper end of the 95% CI.
        p: Two-sided p-value.
        n: Smallest number of seeds of the compared rows.
        least_p: The smallest p-value possible with this number of seeds.
    """

    points: float
    low: float = nan
    high: float = nan
    p: float = nan
    n: int = 0
    least_p: float = nan


def estimate_change(
    accuracies: Mapping[int, float], references: Sequence[tuple[Mapping[int, float], int]], pairing: Pairing
) -> Change:
    """Estimate and test the change of a row against its reference rows.

    An unpaired difference is tested by permuting the runs between both rows. A paired difference, and every
    interaction, is tested by flipping the signs of the differences of each seed. Both tests are exact (Good 2005,
    Permutation, Parametric, and Bootstrap Tests of Hypotheses). With more than 9,999 permutations, 9,999 random ones
    are used, and with more than MAX_RESAMPLED_SEEDS seeds, Student's test is used, which then gives the same result.

    Args:
        accuracies: Top-1 of the row by seed.
        references: Accuracies and weight of each reference row: `[(before, -1)]` for a step,
            `[(a, -1), (b, -1), (base, 1)]` for the interaction of two parts.
        pairing: Whether the differences are taken within each seed.
    """
    return _test(*comparison_samples(accuracies, references, pairing))


def equivalence_p(
    accuracies: Mapping[int, float],
    references: Sequence[tuple[Mapping[int, float], int]],
    pairing: Pairing,
    margin: float,
) -> float:
    """Return the p-value of the hypothesis that a change is at least as large as the margin, in either direction.

    Two one-sided tests (Schuirmann 1987, Journal of Pharmacokinetics and Biopharmaceutics 15) test that the change is
    above -margin and below +margin; the larger p-value counts. Each of them is the one-sided form of the test of
    `estimate_change`.

    Args:
        accuracies: See `estimate_change`.
        references: See `estimate_change`.
        pairing: See `estimate_change`.
        margin: The margin in points, above 0.

    Returns:
        The p-value; NaN with fewer than two seeds.
    """
    first, *others = comparison_samples(accuracies, references, pairing)
    if min(map(len, (first, *others))) < 2:
        return nan
    return max(
        _one_sided_p((first + margin, *others), "greater"),
        _one_sided_p((first - margin, *others), "less"),
    )


def comparison_samples(
    accuracies: Mapping[int, Any], references: Sequence[tuple[Mapping[int, Any], int]], pairing: Pairing
) -> tuple[Values, ...]:
    """Return the accuracies of a row and of its reference, or their differences within each seed.

    Args:
        accuracies: Top-1 of the row by seed, or an array with one value per test image, of the same shape for all runs.
        references: The same for each reference row, and its weight: see `estimate_change`.
        pairing: Whether the differences are taken within each seed.

    Returns:
        One or two arrays, sorted by seed along the first dimension.
    """
    if pairing == "unpaired" and len(references) == 1:
        reference = references[0][0]
        return _values(accuracies, accuracies), _values(reference, reference)
    common_seeds = [seed for seed in accuracies if all(seed in reference for reference, _ in references)]
    weighted = [weight * _values(reference, common_seeds) for reference, weight in references]
    return (_values(accuracies, common_seeds) + np.sum(weighted, axis=0),)


def _values(accuracies: Mapping[int, Any], seeds: Iterable[int]) -> Values:
    return np.array([accuracies[seed] for seed in sorted(seeds)], float)


def _mean(values: Values, axis: int = -1) -> Any:
    return values.mean(axis=axis).round(ROUNDING_DIGITS)


def _mean_difference(values: Values, reference: Values, axis: int = -1) -> Any:
    return (values.mean(axis=axis) - reference.mean(axis=axis)).round(ROUNDING_DIGITS)


def _test(*samples: Values) -> Change:
    """Test one sample of paired differences against zero, or the difference of two samples."""
    n = min(map(len, samples))
    if n == 0:
        return Change(nan)
    exact = 2.0 ** (1 - n) if len(samples) == 1 else 2 / comb(sum(map(len, samples)), n)
    least = _smallest_reachable_p(exact, n)
    statistic = _statistic(samples)
    points = float(statistic(*samples))
    if n == 1:
        return Change(points, n=n, least_p=least)

    with warnings.catch_warnings(action="ignore", category=RuntimeWarning):  # raised for identical values
        student = _student_test(samples, "two-sided")
        if all(np.ptp(sample) == 0 for sample in samples):  # no interval can be computed without any spread
            return Change(points, p=_permutation_p(samples, statistic), n=n, least_p=least)
        if n > MAX_RESAMPLED_SEEDS:
            interval, p = student.confidence_interval(1 - ALPHA), float(student.pvalue)
        else:
            interval, p = _bootstrap_interval(samples, statistic, student), _permutation_p(samples, statistic)
    return Change(points, float(interval.low), float(interval.high), p, n, least)


def _statistic(samples: tuple[Values, ...]) -> Callable[..., Any]:
    return _mean if len(samples) == 1 else _mean_difference


def _student_test(samples: tuple[Values, ...], alternative: Alternative) -> Any:
    """Return Student's test of one sample, or Welch's test of two."""
    from scipy import stats

    if len(samples) == 1:
        return stats.ttest_1samp(samples[0], 0, alternative=alternative)
    return stats.ttest_ind(*samples, equal_var=False, alternative=alternative)


def _one_sided_p(samples: tuple[Values, ...], alternative: Alternative) -> float:
    if min(map(len, samples)) > MAX_RESAMPLED_SEEDS:
        return float(_student_test(samples, alternative).pvalue)
    return _permutation_p(samples, _statistic(samples), alternative)


def _resampling_options() -> dict[str, Any]:
    """Return the options of scipy's resampling tests; the seed is always 0, so the same records give the same table."""
    return {"vectorized": True, "n_resamples": NUM_RESAMPLES, "rng": np.random.default_rng(0)}


def _permutation_p(
    samples: tuple[Values, ...], statistic: Callable[..., Any], alternative: Alternative = "two-sided"
) -> float:
    """Return the p-value of the sign-flip test of one sample or of the permutation test of two."""
    from scipy import stats

    kind = "samples" if len(samples) == 1 else "independent"
    options = {"permutation_type": kind, "alternative": alternative, **_resampling_options()}
    return float(stats.permutation_test(samples, statistic, **options).pvalue)


def _bootstrap_interval(samples: tuple[Values, ...], statistic: Callable[..., Any], student: Any) -> Any:
    """Return the BCa bootstrap interval (Efron 1987), corrected for few seeds, or Student's interval.

    The interval is widened as in Hesterberg 2015, arXiv:1411.5279, section 3.3: resampling n values underestimates the
    standard deviation by sqrt((n - 1) / n) and uses normal quantiles where Student's apply. Without this correction,
    the coverage with 6 seeds is 86% to 89%.

    Args:
        samples: One or two samples.
        statistic: The statistic to resample.
        student: The t-test, whose interval is returned if there are too few values or the bootstrap is undefined.
    """
    from scipy import stats

    n = min(map(len, samples))
    if n * len(samples) >= MIN_BOOTSTRAP_VALUES:
        half_width = stats.t.isf(ALPHA / 2, student.df) * sqrt(n / (n - 1))  # half the width in standard errors
        level = 1 - 2 * stats.norm.sf(half_width)
        with np.errstate(invalid="ignore", divide="ignore"):
            bootstrap = stats.bootstrap(
                samples, statistic, confidence_level=level, method="BCa", **_resampling_options()
            )
        if not np.isnan(bootstrap.confidence_interval).any():
            return bootstrap.confidence_interval
    return student.confidence_interval(1 - ALPHA)


def holm(p_values: Sequence[float], family: int) -> list[float]:
    """Return Holm-corrected p-values (Holm 1979, Scandinavian Journal of Statistics 6); NaN stays NaN.

    At a threshold of ALPHA, at most 5% of the tables without any real change contain a change that is called real.

    The family is all planned comparisons, measured or not, and a comparison without a p-value counts as p = 1, the most
    cautious assumption. Therefore the corrected p-value of a row can only fall when other rows are recorded, and a
    change that is called real in an unfinished study remains real. If only the measured comparisons counted, the
    factor would grow with each recorded row, and the change could become "not shown".

    Args:
        p_values: The p-values; NaN for a row that is not compared or not measured.
        family: The number of planned comparisons: see `ablation.plans.row.count_changes`.
    """
    order = sorted((p, index) for index, p in enumerate(p_values) if not isnan(p))
    corrected, largest = [nan] * len(p_values), 0.0
    for rank, (p, index) in enumerate(order):
        largest = max(largest, min(1.0, (family - rank) * p))
        corrected[index] = largest
    return corrected


def verdict(points: float, p: float, equivalence_p: float = nan) -> str:
    """Return the verdict on a change.

    Args:
        points: The change; NaN if there is none.
        p: Its corrected p-value.
        equivalence_p: The corrected p-value of its equivalence test; NaN without a margin.

    Returns:
        "real" or "worse" if the change is significant, and "equivalent" if it is shown to be smaller than the margin.
        Both are possible. Otherwise "not shown"; empty without a change.
    """
    if isnan(points):
        return ""
    shown = [("real" if points > 0 else "worse")] if p <= ALPHA else []
    return ", ".join([*shown, "equivalent"] if equivalence_p <= ALPHA else shown) or "not shown"


def smallest_p(seeds: int, pairing: Pairing) -> float:
    """Return the smallest two-sided p-value possible with this number of seeds per row."""
    exact = 2.0 ** (1 - seeds) if pairing == "paired" else 2 / comb(2 * seeds, seeds)
    return _smallest_reachable_p(exact, seeds)


def _smallest_reachable_p(exact: float, seeds: int) -> float:
    """Return the larger of the exact test's smallest p-value and that of random permutations."""
    if seeds < 2:
        return 1.0
    return max(exact, 2 / (NUM_RESAMPLES + 1)) if seeds <= MAX_RESAMPLED_SEEDS else 0.0
