"""Group-sequential permutation tests: seeds are added until each change is decided, without more false positives.

The construction is that of AdaStop (Mathieu et al. 2024, TMLR, arXiv:2306.10882). The seeds are divided into groups,
and there is a look at the table after each group. Runs are permuted within their group only, so that all looks share
the same permutations. Each look may spend a share of the error rate on permutations that no earlier look has spent.

AdaStop compares all rows by the maximum of their statistics. Here, Holm's correction is applied to the p-values of the
rows, as in every other table. It controls the family-wise error rate whichever rows have no effect, because a change
that is significant at one level at some look is also significant at every higher level.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from math import comb, nan, prod
from typing import NamedTuple

import numpy as np

from ablation.analysis.statistics import (
    ALPHA,
    NUM_RESAMPLES,
    ROUNDING_DIGITS,
    Comparison,
    Values,
    comparison_samples,
)
from ablation.plans.choices import Pairing

GROUP_SEEDS = 3  # seeds per group; with one or two, a look could hardly ever decide
BISECTION_STEPS = 14  # p-values are exact to 2^-14


@dataclass(frozen=True)
class SequentialDesign:
    """When to look at a table, and how to test its changes; chosen before the first run.

    Attributes:
        max_seeds: The seeds of a row that is not decided earlier.
        num_changes: The number of changes in the table.
        pairing: How changes are tested.
        margin: Changes that are shown to be smaller than this, in points, are equivalent; None: no such test.
    """

    max_seeds: int
    num_changes: int
    pairing: Pairing = "unpaired"
    margin: float | None = None

    @cached_property
    def group_sizes(self) -> tuple[int, ...]:
        """The numbers of seeds of the groups, which differ by one at most."""
        num_groups = max(1, self.max_seeds // GROUP_SEEDS)
        return tuple(self.max_seeds // num_groups + (i < self.max_seeds % num_groups) for i in range(num_groups))

    @property
    def looks(self) -> tuple[int, ...]:
        """The number of seeds at each look."""
        return tuple(int(look) for look in np.cumsum(self.group_sizes))

    @cached_property
    def shares(self) -> tuple[float, ...]:
        """The share of the error rate that each look spends: equal, but 0 where no change could be significant."""
        least = [self._least_p(index + 1) for index in range(len(self.group_sizes))]
        for first in range(len(least)):
            share = 1 / (len(least) - first)
            if self.num_changes * least[first] <= ALPHA * share:
                return tuple(share * (index >= first) for index in range(len(least)))
        return tuple(float(index == len(least) - 1) for index in range(len(least)))

    @property
    def can_decide(self) -> bool:
        """Whether there is a change, and it can be significant with all seeds."""
        return (
            self.num_changes > 0 and self.num_changes * self._least_p(len(self.group_sizes)) <= ALPHA * self.shares[-1]
        )

    def _least_p(self, num_groups: int) -> float:
        sizes = self.group_sizes[:num_groups]
        exact = 2.0 ** (1 - sum(sizes)) if self.pairing == "paired" else 2 / prod(comb(2 * n, n) for n in sizes)
        return max(exact, 2 / (NUM_RESAMPLES + 1))


class SequentialTest(NamedTuple):
    """The p-values of a change after some looks: the smallest error rates at which it is significant, or equivalent."""

    p: float = nan
    equivalence_p: float = nan
    num_looks: int = 0


def sequential_test(comparison: Comparison, design: SequentialDesign) -> SequentialTest:
    """Test a change with the groups of seeds that its rows have so far, which must be complete; NaN without any."""
    groups = _groups(comparison, design)
    if not groups:
        return SequentialTest()
    statistics = _permuted_changes(groups)
    p = _sequential_p(np.abs(statistics), design.shares)
    if design.margin is None:
        return SequentialTest(p, num_looks=len(groups))
    above = _permuted_changes([(first + design.margin, *others) for first, *others in groups])
    below = _permuted_changes([(first - design.margin, *others) for first, *others in groups])
    equivalence_p = max(_sequential_p(above, design.shares), _sequential_p(-below, design.shares))
    return SequentialTest(p, equivalence_p, len(groups))


def _groups(comparison: Comparison, design: SequentialDesign) -> list[tuple[Values, ...]]:
    """Return the samples of each group, up to the last one in which both rows have runs.

    An earlier group may lack runs, because all of them failed: it counts as a look without new evidence.
    """
    accuracies, references = comparison
    groups, start, num_groups = [], 0, 0
    for end in design.looks:
        seeds = range(start, end)
        of_group = [(select_seeds(reference, seeds), weight) for reference, weight in references]
        samples = comparison_samples(select_seeds(accuracies, seeds), of_group, design.pairing)
        is_empty = min(map(len, samples)) == 0
        groups.append(tuple(sample[:0] for sample in samples) if is_empty else samples)
        start, num_groups = end, num_groups if is_empty else len(groups)
    return groups[:num_groups]


def select_seeds(accuracies: Mapping[int, float], seeds: range) -> dict[int, float]:
    """Return the accuracies of some seeds."""
    return {seed: accuracy for seed, accuracy in accuracies.items() if seed in seeds}


def _permuted_changes(groups: Sequence[tuple[Values, ...]]) -> Values:
    """Return the change at each look for each permutation, with shape (permutations, looks); the first is observed.

    A look before the first run has a change of 0.
    """
    sums = np.stack([_permuted_sums(samples, index) for index, samples in enumerate(groups)], 1).cumsum(1)
    counts = np.cumsum([[len(sample) for sample in samples] for samples in groups], 0).clip(1)
    if counts.shape[1] == 1:
        changes: Values = sums / counts[:, 0]
        return changes.round(ROUNDING_DIGITS)
    totals = np.cumsum([first.sum() + second.sum() for first, second in groups])
    changes = sums / counts[:, 0] - (totals - sums) / counts[:, 1]
    return changes.round(ROUNDING_DIGITS)


def _permuted_sums(samples: tuple[Values, ...], group: int) -> Values:
    """Return the sum of the first sample for each permutation within a group."""
    first, *others = samples
    weights = _random_choices(len(first), len(others[0]), group) if others else _random_signs(len(first), group)
    sums: Values = weights @ np.concatenate(samples)
    return sums


@lru_cache(maxsize=64)
def _random_signs(n: int, group: int) -> Values:
    """Return random signs with shape (permutations, n); the first ones are 1."""
    signs = np.random.default_rng([group, n]).choice([-1.0, 1.0], (NUM_RESAMPLES + 1, n))
    signs[0] = 1
    return signs


@lru_cache(maxsize=64)
def _random_choices(n: int, others: int, group: int) -> Values:
    """Return random choices of n of n + others values, as zeros and ones; the first one chooses the first n values."""
    choices = np.tile(np.repeat([1.0, 0.0], [n, others]), (NUM_RESAMPLES + 1, 1))
    choices[1:] = np.random.default_rng([group, n, others]).permuted(choices[1:], axis=1)
    return choices


def _sequential_p(statistics: Values, shares: Sequence[float]) -> float:
    """Return the smallest error rate at which the observed statistics, in the first line, are significant."""
    low, high = 0.0, 1.0
    for _ in range(BISECTION_STEPS):
        middle = (low + high) / 2
        low, high = (low, middle) if _is_significant(statistics, shares, middle) else (middle, high)
    return high


def _is_significant(statistics: Values, shares: Sequence[float], level: float) -> bool:
    """Return whether the observed statistic is beyond the boundary of some look.

    The boundary of a look is the smallest value that at most `level * share` of all permutations exceed, among those
    that have not exceeded an earlier boundary.
    """
    has_crossed = np.zeros(len(statistics), bool)
    for of_look, share in zip(statistics.T, shares, strict=False):
        allowed = int(level * share * len(statistics))
        remaining = np.where(has_crossed, -np.inf, of_look)
        boundary = -np.partition(-remaining, allowed)[allowed] if allowed < len(remaining) else -np.inf
        has_crossed |= remaining > boundary
        if has_crossed[0]:
            return True
    return False
